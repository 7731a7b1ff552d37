"""The Python client against the real HTTP side: threads, a fork, a loop, the end of the program, a server that dies."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import inferwatch
import pytest

from pipeline.config import Settings
from schemas.access import Scope
from schemas.topics import HEARTBEATS
from tests.integration.http_side import LOCAL_KEY, http_side, ids, new_key, on_topic
from tests.integration.workers import eventually

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "client" / "src"
PROGRAM = """
import asyncio, os, threading, inferwatch

monitor = inferwatch.Monitor(batch_s=0.05)


def record(who, count=300):
    for n in range(count):
        monitor.record("helmets/3", [{"class": "person", "confidence": 0.9}], 12.5, event_id=f"{who}-{n}")


threads = [threading.Thread(target=record, args=(f"thread{t}",)) for t in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
record("before")
if os.fork() == 0:
    record("child")
else:
    record("parent")
    os.wait()


async def main():
    for n in range(300):
        await monitor.arecord("helmets/3", event_id=f"async-{n}")


asyncio.run(main())
"""


def test_a_program_with_threads_a_fork_and_a_loop_loses_and_doubles_nothing(world: Settings, tmp_path: Path) -> None:
    _, key = new_key(world, [Scope.INGEST])
    with http_side(world, tmp_path) as web:
        told = {
            "PYTHONPATH": str(SOURCE),
            "INFERWATCH_URL": web.url,
            "INFERWATCH_API_KEY": key,
            "INFERWATCH_WORKSPACE": "acme",
            "INFERWATCH_DEVICE_ID": "cam-7",
        }
        subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | told, check=True, timeout=60)
    there = ids(world)
    whos = [*(f"thread{t}" for t in range(4)), "before", "child", "parent"]
    expected = {f"{who}-{n}": 1 for who in whos for n in range(300)}
    loops = {name: times for name, times in there.items() if name.startswith("async")}
    assert {name: times for name, times in there.items() if name not in loops} == expected
    assert loops == {f"async-{n}": 2 for n in range(300)}  # the child runs that far, too
    assert {record["device_id"] for record in on_topic(world, HEARTBEATS)} == {"cam-7"}


def test_what_is_recorded_while_the_server_dies_and_comes_back_is_there(world: Settings, tmp_path: Path) -> None:
    recorded: list[str] = []
    with http_side(world, tmp_path) as web:
        options = {"api_key": LOCAL_KEY, "workspace": "acme", "batch_s": 0.05, "spool": str(tmp_path / "spool")}
        monitor = inferwatch.Monitor(web.url, **options)  # type: ignore[arg-type]
        end = threading.Event()

        def record() -> None:
            while not end.wait(0.002):
                recorded.append(monitor.record("m", event_id=f"e{len(recorded)}") or "")

        thread = threading.Thread(target=record)
        thread.start()
        for _ in range(2):
            before = monitor.sent
            eventually(lambda: monitor.sent > before + 50, 30, "some were sent")  # noqa: B023
            web.kill9()
            count = len(recorded)
            eventually(lambda: len(recorded) > count + 200, 30, "some are recorded meanwhile")  # noqa: B023
            web.spawn()
            web.wait_ready()
        end.set()
        thread.join()
        eventually(lambda: monitor.flush(1) and not list((tmp_path / "spool").glob("*.ndjson")), 60, "all are sent")
        monitor.close()
        assert set(recorded) - ids(world).keys() == set()
        assert monitor.unsendable == 0


def test_a_coroutine_is_never_held_up(world: Settings, tmp_path: Path) -> None:
    async def story(url: str) -> float:
        monitor = inferwatch.Monitor(url, api_key=LOCAL_KEY, workspace="acme")
        loop = asyncio.get_running_loop()
        longest = 0.0
        for n in range(2000):
            began = loop.time()
            await monitor.arecord("m", event_id=f"e{n}")
            longest = max(longest, loop.time() - began)
        assert await asyncio.to_thread(monitor.flush, 20)
        monitor.close()
        return longest

    with http_side(world, tmp_path) as web:
        assert asyncio.run(story(web.url)) < 1
    assert len(ids(world)) == 2000


def test_straight_to_kafka_each_event_arrives_once_where_the_http_side_would_put_it(
    world: Settings, tmp_path: Path
) -> None:
    options = {"workspace": "acme", "device_id": "cam-7", "topic_prefix": world.topic_prefix, "batch_s": 0.05}
    monitor = inferwatch.Monitor(f"kafka://{world.kafka_bootstrap}", **options)  # type: ignore[arg-type]
    for n in range(1200):
        monitor.record("helmets/3", [{"class": "person", "confidence": 0.9}], 12.5, event_id=f"e{n}")
    assert monitor.flush(30)
    monitor.close()
    assert monitor.sent == 1200
    assert ids(world) == {f"e{n}": 1 for n in range(1200)}
    assert [one["status"] for one in on_topic(world, HEARTBEATS)][-1] == "stopping"
    gone = inferwatch.Monitor("kafka://127.0.0.1:1", spool=str(tmp_path), batch_s=0.01, timeout_s=2)
    gone.record("m", event_id="later")
    eventually(lambda: bool(list(tmp_path.glob("*.ndjson"))), 20, "what cannot be sent is kept")
    gone.close()
