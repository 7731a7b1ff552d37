"""A data directory on disk: its lock, its free space, and the small JSON files in it, written whole or not at all."""

import errno
import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.edge.local import EmbeddedError

LOCK = "lock"
FREE_BYTES_MIN = 500_000_000
FREE_BYTES_LOW = 2_000_000_000
_ROOM_BYTES = 480_000_000


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What stays free on a disk, so that it is never full. Below each, in this order, something pauses."""

    insert_bytes: int  # ClickHouse's inserts: Kafka keeps what waits
    merge_bytes: int  # ClickHouse's merges
    kafka_bytes: int  # Kafka stands still, and with it all producers

    @classmethod
    def of(cls, directory: Path) -> Self:
        """The room on the disk of `directory`: at most a fifth of it."""
        whole = min(_ROOM_BYTES, shutil.disk_usage(directory).total // 5)
        return cls(whole * 3 // 4, whole // 2, whole // 4)


class DirectoryLock:
    """Held by one process at a time; the kernel lets go of it when the holder dies."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._fd: int | None = None

    def acquire(self) -> None:
        """Takes it, making the directory if need be. Raises EmbeddedError when another process has it."""
        if self._fd is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(
                f"cannot use the data directory {self._path.parent}: {error.strerror}; choose another one"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "?"
            os.close(fd)
            raise EmbeddedError(
                f"data directory already in use by pid {holder}: {self._path.parent}; "
                "stop that one first, or choose another directory"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Lets go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def is_held(directory: Path) -> bool:
    """Has a living process the lock of a directory?"""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def free_bytes(directory: Path) -> int:
    """What is left on its disk for us."""
    return shutil.disk_usage(directory).free


def check_space(directory: Path) -> str:
    """A warning when the disk is nearly full ('' when not); raises EmbeddedError when it is too full to begin."""
    free = free_bytes(directory)
    if free < FREE_BYTES_MIN:
        raise EmbeddedError(
            f"only {free / 1e6:.0f} MB free on the disk of {directory}, {FREE_BYTES_MIN / 1e6:.0f} MB are needed; "
            "free some space or choose a directory on another disk"
        )
    return f"only {free / 1e9:.1f} GB free on the disk of {directory}" if free < FREE_BYTES_LOW else ""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} when there is no such file. Raises EmbeddedError when it is broken."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"cannot read {path} ({error}); repair or remove it") from error
    if not isinstance(value, dict):
        raise EmbeddedError(f"cannot read {path} (not a JSON object); repair or remove it")
    return value


def write_private_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step; only its owner can read it (mode 0600)."""
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        full = "the disk is full; free some space" if error.errno == errno.ENOSPC else error.strerror
        raise EmbeddedError(f"cannot write {path}: {full}") from error
