"""Batches that could not be sent, on disk: a file each, whole or not there, replayed in order, bounded in bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".ndjson"


class Spool:
    """A directory of batches. One process writes it; another may read it once that has ended."""

    def __init__(self, directory: str, bytes_max: int) -> None:
        """Makes the directory. Raises OSError where that cannot be."""
        self.dropped = 0  # events of batches that were deleted for want of room
        self._bytes_max = bytes_max
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        last = max((int(path.stem) for path in self.batches()), default=0)
        self._next = last + 1

    def batches(self) -> list[Path]:
        """Oldest first."""
        found = [path for path in self._directory.glob(f"*{SUFFIX}") if path.stem.isdigit()]
        return sorted(found, key=lambda path: int(path.stem))

    def put(self, body: bytes) -> None:
        """Keeps a batch; deletes the oldest where there is no room. Raises OSError."""
        path = self._directory / f"{self._next:012d}{SUFFIX}"
        self._next += 1
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        self._make_room()

    def oldest(self) -> tuple[Path, bytes] | None:
        """The batch to send next."""
        for path in self.batches():
            try:
                return path, path.read_bytes()
            except OSError:
                continue
        return None

    def done(self, path: Path) -> None:
        """The batch has arrived, or never will."""
        path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        kept = [(path, path.stat().st_size) for path in self.batches()]
        total = sum(size for _, size in kept)
        for path, size in kept[:-1]:
            if total <= self._bytes_max:
                return
            self.dropped += path.read_bytes().count(b"\n") + 1
            path.unlink(missing_ok=True)
            total -= size


def events_in(directory: Path) -> Iterator[bytes]:
    """Every event of a spool that was carried here, oldest first."""
    for path in sorted(directory.glob(f"*{SUFFIX}"), key=lambda p: p.name):
        yield from path.read_bytes().splitlines()
