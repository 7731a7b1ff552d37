"""Batches that could not be sent, on disk: a file each, whole or not there, replayed in order, bounded in bytes.

Several processes may share a directory (a forked child has its parent's): each writes under names of its own, and only
the one that holds the lock replays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where nothing forks: a directory for each process
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".ndjson"


class Spool:
    """A directory of batches."""

    def __init__(self, directory: str, bytes_max: int) -> None:
        """Makes the directory. Raises OSError where that cannot be."""
        self.dropped = 0  # events of batches that were deleted for want of room
        self._bytes_max = bytes_max
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._own = os.urandom(4).hex()
        self._lock: Any = None

    def batches(self) -> list[Path]:
        """Oldest first."""
        found = [path for path in self._directory.glob(f"*{SUFFIX}") if _number(path)]
        return sorted(found, key=lambda path: (_number(path), path.name))

    def put(self, body: bytes) -> None:
        """Keeps a batch; deletes the oldest where there is no room. Raises OSError."""
        number = max(map(_number, self.batches()), default=0) + 1
        path = self._directory / f"{number:012d}-{self._own}{SUFFIX}"
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        self._make_room()

    def oldest(self) -> tuple[Path, bytes] | None:
        """The batch to send next; None: there is none, or another process sends."""
        if not self._may_replay():
            return None
        for path in self.batches():
            try:
                return path, path.read_bytes()
            except OSError:
                continue
        return None

    def done(self, path: Path) -> None:
        """The batch has arrived, or never will."""
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Another process may replay."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _may_replay(self) -> bool:
        if fcntl is None or self._lock is not None:
            return True
        lock = None
        try:
            lock = open(self._directory / ".lock", "ab")  # noqa: SIM115  held until the process ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if lock is not None:
                lock.close()
            return False
        self._lock = lock
        return True

    def _make_room(self) -> None:
        kept = []
        for path in self.batches():
            try:
                kept.append((path, path.stat().st_size))
            except OSError:  # another process has just sent it
                continue
        total = sum(size for _, size in kept)
        for path, size in kept[:-1]:
            if total <= self._bytes_max:
                return
            try:
                self.dropped += path.read_bytes().count(b"\n") + 1
                path.unlink()
            except OSError:
                continue
            total -= size


def _number(path: Path) -> int:
    """Its place in the order; 0: that is no batch."""
    number = path.stem.partition("-")[0]
    return int(number) if number.isdecimal() else 0
