"""What waits on the disk: taken once it is there, in order, within its bound, through torn logs and full disks."""

import asyncio
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pipeline.edge.spool import ENTRY_BYTES, Spool, SpoolFull, SpoolUnavailable, left_folders, take_folder
from tests.tree import ROOT

MIB = 1 << 20


def with_spool(folder: Path, story: Callable[[Spool], Coroutine[Any, Any, None]], bytes_max: int = MIB) -> None:
    async def run() -> None:
        spool = Spool(folder, bytes_max)
        try:
            await story(spool)
        finally:
            await spool.close()

    asyncio.run(run())


async def bodies(spool: Spool) -> list[bytes]:
    return [body for _, body in await spool.first(MIB)]


def test_what_was_appended_is_given_out_in_order_until_it_has_arrived(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await asyncio.gather(*(spool.append([b"%d" % n, b"%d." % n]) for n in range(20)))
        found = await spool.first(MIB)
        assert [body for _, body in found] == [text for n in range(20) for text in (b"%d" % n, b"%d." % n)]
        assert [body for _, body in await spool.first(3)] == [b"0", b"0."]
        assert len(await spool.first(0)) == 1
        await spool.drop(found[37][0])
        assert await bodies(spool) == [b"19", b"19."]
        await spool.drop(found[-1][0])
        assert spool.bytes == 0
        await spool.append([b"later"])
        assert (await spool.first(MIB))[0][0] > found[-1][0]

    with_spool(tmp_path, story)


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    async def before(spool: Spool) -> None:
        await spool.append([b"a" * 100, b"b"])

    async def after(spool: Spool) -> None:
        assert await bodies(spool) == [b"a" * 100, b"b"]
        assert spool.bytes == 101 + 2 * ENTRY_BYTES

    with_spool(tmp_path, before)
    with_spool(tmp_path, after)


def test_beyond_its_bound_nothing_is_taken_until_something_has_arrived(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await spool.append([b"x" * 600])
        with pytest.raises(SpoolFull):
            await spool.append([b"y" * 200, b"z" * 200])
        assert len(await bodies(spool)) == 1
        [(number, _)] = await spool.first(MIB)
        await spool.drop(number)
        await spool.append([b"y" * 200, b"z" * 200])

    with_spool(tmp_path, story, 1000)


def test_a_folder_belongs_to_one_process_and_what_is_left_behind_is_found(tmp_path: Path) -> None:
    async def run() -> None:
        first, second = take_folder(tmp_path, MIB), take_folder(tmp_path, MIB)
        assert [first.folder.name, second.folder.name] == ["0", "1"]
        with pytest.raises(SpoolUnavailable, match="another process"):
            Spool(first.folder, MIB)
        await second.append([b"left"])
        await second.close()
        [found] = list(left_folders(tmp_path, MIB))
        assert await bodies(found) == [b"left"]
        await found.close()
        await first.close()

    asyncio.run(run())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolUnavailable, match="INFERWATCH_WEB_SPOOL_DIR"):
        take_folder(tmp_path / "file" / "spool", MIB)


def test_a_file_that_is_no_spool_any_more_is_kept_beside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "entries.sqlite").write_bytes(b"\xff" * 5000)

    async def story(spool: Spool) -> None:
        await spool.append([b"goes on"])
        assert await bodies(spool) == [b"goes on"]

    with_spool(tmp_path, story)
    [kept] = tmp_path.glob("*.broken-*")
    assert kept.read_bytes() == b"\xff" * 5000


# kill -9, torn tails, full disks

APPENDING = """
import asyncio, resource, sys
from pathlib import Path
from pipeline.edge.spool import Spool, SpoolFull

async def run(folder, size_max):
    if size_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, size_max))
    spool = Spool(Path(folder), 1 << 30)
    for number in range(1000):
        try:
            await spool.append([b"%d:" % number + bytes(5000)])
        except SpoolFull:
            print("full", flush=True)
            break
        print(number, flush=True)
        if number == 30 and not size_max:
            await asyncio.Event().wait()

asyncio.run(run(sys.argv[1], int(sys.argv[2])))
"""


def appended(folder: Path, size_max: int = 0) -> tuple[list[str], subprocess.Popen[str]]:
    """What a process said of its appends until it waited to be killed, or was full."""
    child = subprocess.Popen(
        [sys.executable, "-c", APPENDING, str(folder), str(size_max)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout is not None
    said: list[str] = []
    for line in child.stdout:
        if (word := line.strip()).isdigit() or word == "full":
            said.append(word)
        if said and said[-1] in ("30", "full"):
            break
    return said, child


def numbers(folder: Path) -> list[int]:
    """Which of them are there."""
    found: list[int] = []

    async def story(spool: Spool) -> None:
        found.extend(int(body.partition(b":")[0]) for body in await bodies(spool))

    with_spool(folder, story, 1 << 30)
    return found


def test_a_process_that_is_killed_loses_nothing_that_it_answered_for_and_a_torn_log_only_its_end(
    tmp_path: Path,
) -> None:
    said, child = appended(tmp_path / "live")
    child.kill()
    child.communicate()
    wal = (tmp_path / "live" / "entries.sqlite-wal").stat().st_size
    for kept in (1.0, 0.99, 0.7, 0.31, 0.0):
        torn = tmp_path / f"torn{kept}"
        shutil.copytree(tmp_path / "live", torn)
        with (torn / "entries.sqlite-wal").open("r+b") as log:
            log.truncate(int(wal * kept))
        found = numbers(torn)
        assert found == list(range(len(found)))
        assert kept < 1 or found == [int(one) for one in said]
        assert len(found) >= int(kept * len(said)) - 2
    assert numbers(tmp_path / "live") == list(range(31))


def test_a_full_disk_refuses_and_loses_nothing_before(tmp_path: Path) -> None:
    """As full as a process's own limit makes it: writes fail in the middle."""
    said, child = appended(tmp_path, 300_000)
    child.communicate(timeout=30)
    assert said[-1] == "full"
    assert len(said) > 10
    assert numbers(tmp_path) == [int(one) for one in said[:-1]]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_disk_without_room_even_to_let_go_is_told_and_recovers(tmp_path: Path) -> None:
    async def story(spool: Spool) -> None:
        await spool.append([b"x"])
        reader = sqlite3.connect(tmp_path / "entries.sqlite", isolation_level=None)
        spool._rows.execute("PRAGMA busy_timeout = 1")
        reader.execute("BEGIN IMMEDIATE")  # nobody else can write, as on a full disk
        with pytest.raises(SpoolUnavailable):
            await spool.drop(1)
        with pytest.raises(SpoolFull):
            await spool.append([b"y"])
        reader.execute("ROLLBACK")
        reader.close()
        await spool.drop(1)
        assert spool.bytes == 0

    with_spool(tmp_path, story)
