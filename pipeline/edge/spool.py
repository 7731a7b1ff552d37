"""What waits on this disk for Kafka: taken in order, given out in order, let go when it has arrived. SQLite keeps it.

An append returns when its bytes are on the disk (WAL, synchronous = FULL: an fsync for each commit, and what comes
while one runs goes together in the next). So what was answered for survives kill -9 and the loss of power; a torn tail
of the log is dropped by SQLite's checksums, and nobody was answered for it. What is given out stays until `drop`.

Bounded: beyond `bytes_max` nothing is taken. A folder belongs to one process: it holds a lock, which its death frees.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from pipeline.edge import clock
from pipeline.edge.metrics import SPOOL_BYTES

log = structlog.get_logger()

ENTRY_BYTES = 64  # what an entry costs beside its body
LOG_BYTES_MAX = 32 << 20  # what SQLite's log is cut to
FOLDERS_MAX = 1000
T = TypeVar("T")


class SpoolFull(Exception):
    """There is no room, in the spool or on the disk: nothing of it was taken."""


class SpoolUnavailable(Exception):
    """The folder cannot be used; the text says why."""


class Spool:
    """One folder. Every method but `close` runs its work in one thread, in the order of the calls."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        """Takes the folder. Raises SpoolUnavailable: another process has it, or it cannot be written."""
        self.folder = folder
        self._bytes_max = bytes_max
        self._lock = _locked(folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[str]]] = []  # told why not; "": it is there
        self._writing: asyncio.Task[None] | None = None
        try:
            self._rows = _opened(folder / "entries.sqlite")
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise SpoolUnavailable(f"{folder}: {error}") from error
        [(held,)] = self._rows.execute("SELECT coalesce(sum(length(body) + ?), 0) FROM entries", (ENTRY_BYTES,))
        self.bytes = int(held)
        SPOOL_BYTES.inc(self.bytes)

    async def append(self, bodies: Sequence[bytes]) -> None:
        """Returns when all of them are on the disk. Raises SpoolFull: then none is."""
        size = sum(map(_size, bodies))
        if self.bytes + size > self._bytes_max:
            raise SpoolFull("as much as fits waits for Kafka already")
        self._count(size)
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((bodies, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        if why := await asyncio.shield(done):
            raise SpoolFull(why)

    async def first(self, bytes_max: int) -> list[tuple[int, bytes]]:
        """The oldest entries with their numbers: at least one if there is one, then while they are not more."""
        return await self._run(self._first, bytes_max)

    async def drop(self, last: int) -> None:
        """All entries up to this number have arrived. Raises SpoolUnavailable: a full disk has no room for that."""
        try:
            self._count(-await self._run(self._drop, last))
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"{self.folder}: {error}") from error

    async def close(self) -> None:
        """Lets the folder go."""
        if self._writing is not None:
            await self._writing
        await self._run(self._rows.close)
        self._thread.shutdown()
        SPOOL_BYTES.dec(self.bytes)
        os.close(self._lock)

    async def _write(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                all_bodies = [body for bodies, _ in taken for body in bodies]
                if failed := await self._run(self._insert, all_bodies):
                    self._count(-sum(map(_size, all_bodies)))
                for _, done in taken:
                    done.set_result(failed)
        finally:
            self._writing = None

    def _insert(self, bodies: Iterable[bytes]) -> str:
        try:
            with self._rows:  # a transaction: all, or none
                self._rows.executemany("INSERT INTO entries (body) VALUES (?)", [(body,) for body in bodies])
        except sqlite3.Error as error:
            log.warning("spool_not_written", folder=str(self.folder), error=str(error))
            return str(error)
        return ""

    def _first(self, bytes_max: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        size = 0
        rows = self._rows.execute("SELECT number, body FROM entries ORDER BY number")
        for number, body in rows:
            size += len(body)
            if found and size > bytes_max:
                break
            found.append((number, body))
        rows.close()  # what is read of it holds the log back
        return found

    def _drop(self, last: int) -> int:
        gone = self._rows.execute("SELECT length(body) FROM entries WHERE number <= ?", (last,)).fetchall()
        with self._rows:
            self._rows.execute("DELETE FROM entries WHERE number <= ?", (last,))
        return sum(length + ENTRY_BYTES for (length,) in gone)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _count(self, by: int) -> None:
        self.bytes += by
        SPOOL_BYTES.inc(by)


def take_folder(directory: Path, bytes_max: int) -> Spool:
    """The first folder of a directory that no process has. Raises SpoolUnavailable."""
    why = SpoolUnavailable(f"{directory}: {FOLDERS_MAX} processes have one already")
    for number in range(FOLDERS_MAX):
        try:
            return Spool(directory / str(number), bytes_max)
        except SpoolUnavailable as error:
            why = error
            if not isinstance(error.__cause__, BlockingIOError):
                break
    raise why


def left_folders(directory: Path, bytes_max: int) -> Iterator[Spool]:
    """Those of a directory that no process has any more: they are taken, one by one."""
    for folder in sorted(directory.glob("[0-9]*")):
        try:
            yield Spool(folder, bytes_max)
        except SpoolUnavailable:
            continue


def _size(body: bytes) -> int:
    return len(body) + ENTRY_BYTES


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SpoolUnavailable(f"{folder}: {error.strerror}; set INFERWATCH_WEB_SPOOL_DIR") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise SpoolUnavailable(f"{folder}: another process has it") from error
    return lock


def _opened(file: Path) -> sqlite3.Connection:
    """The entries. A file that is none any more is kept beside, and begun anew."""
    try:
        return _connected(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = file.with_suffix(f".broken-{clock.now_ms()}")
        log.error("spool_broken", file=str(file), kept_as=str(aside), error=str(error))
        file.rename(aside)
        for more in ("-wal", "-shm"):
            file.with_name(file.name + more).unlink(missing_ok=True)
        return _connected(file)


def _connected(file: Path) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    rows = sqlite3.connect(file, check_same_thread=False)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}",
        # AUTOINCREMENT: a number is given once, also when all that had greater ones is gone.
        "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    ):
        rows.execute(statement)
    rows.commit()
    return rows
