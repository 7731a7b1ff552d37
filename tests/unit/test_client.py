"""The Python client (client/) against servers as they are: good ones, full ones, dead ones, liars."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import inferwatch
import pytest
import zstandard

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "client" / "src"
Answer = tuple[int, dict[str, str], bytes] | None  # None: never


class OddServer:
    """Answers as `behave(number of the request, events)` says, and keeps what it has taken."""

    def __init__(self, behave: Callable[[int, list[dict[str, Any]]], Answer]) -> None:
        self.taken: list[dict[str, Any]] = []
        self.beats: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.dropped = 0
        self.requests = 0
        self.end = threading.Event()
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers["Content-Encoding"]
                plain = gzip.decompress(body) if packed == "gzip" else zstandard.ZstdDecompressor().decompress(body)
                events = [json.loads(line) for line in plain.splitlines()]
                if self.path.endswith("/heartbeats"):
                    server.beats += events
                    return self.say(200, {}, b'{"accepted":1,"results":[]}')
                with lock:
                    server.requests += 1
                    number = server.requests
                    server.keys.append(self.headers["Idempotency-Key"])
                answer = behave(number, events)
                if answer is None:
                    server.end.wait(60)
                    return None
                if answer[0] == 200:
                    with lock:
                        server.dropped += int(self.headers.get("X-Inferwatch-Dropped") or 0)
                        again = {one["line"] for one in json.loads(answer[2] or b"{}").get("results", [])}
                        server.taken += [one for line, one in enumerate(events, 1) if line not in again]
                return self.say(*answer)

            def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ids(self) -> "Counter[str]":
        return Counter(one["event_id"] for one in self.taken)

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()


def good(_: int, events: list[dict[str, Any]]) -> Answer:
    return 200, {}, json.dumps({"accepted": len(events), "results": []}).encode()


@contextmanager
def serving(behave: Callable[[int, list[dict[str, Any]]], Answer] = good) -> Iterator[OddServer]:
    server = OddServer(behave)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def monitoring(server: OddServer, **options: Any) -> Iterator[inferwatch.Monitor]:
    monitor = inferwatch.Monitor(server.url, **{"batch_s": 0.02, "heartbeat_s": None, **options})
    try:
        yield monitor
    finally:
        monitor.close()


def record(monitor: inferwatch.Monitor, *names: str) -> None:
    for name in names:
        assert monitor.record("helmets/3", [{"class": "a", "confidence": 0.5}], 1.0, event_id=name) == name


def test_what_is_recorded_arrives_once_from_any_thread() -> None:
    with serving() as server, monitoring(server) as monitor:
        names = [[f"{thread}-{n}" for n in range(500)] for thread in range(8)]
        threads = [threading.Thread(target=record, args=(monitor, *own)) for own in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert monitor.flush(20)
        assert server.ids() == Counter(name for own in names for name in own)
        assert monitor.sent == 4000


def test_a_server_that_is_full_is_asked_again_with_the_same_key_when_it_says_so() -> None:
    def full_at_first(number: int, events: list[dict[str, Any]]) -> Answer:
        return (503, {"Retry-After": "1"}, b"{}") if number <= 2 else good(number, events)

    with serving(full_at_first) as server, monitoring(server) as monitor:
        began = time.monotonic()
        record(monitor, "a", "b")
        until(lambda: len(server.taken) == 2)
        assert time.monotonic() - began >= 1
        assert server.ids() == {"a": 1, "b": 1}
        assert len(set(server.keys)) == 1


def test_only_what_is_to_be_sent_again_is_sent_again() -> None:
    def in_part(number: int, events: list[dict[str, Any]]) -> Answer:
        results = [{"line": 2, "status": "retry", "reason": "x"}, {"line": 3, "status": "refused", "reason": "y"}]
        return (
            (200, {}, json.dumps({"accepted": 1, "results": results}).encode()) if number == 1 else good(number, events)
        )

    with serving(in_part) as server, monitoring(server, batch_s=0.5) as monitor:
        record(monitor, "taken", "again", "refused")
        until(lambda: len(server.taken) == 2)
        assert monitor.flush(10)
        assert server.ids() == {"taken": 1, "again": 1}
        assert (monitor.sent, monitor.refused, server.requests) == (2, 1, 2)


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"<html>welcome</html>",
        b'{"accepted":9}',
        b'{"accepted":1,"results":[{"line":"x","status":"retry"}]}',
        b'{"accepted":1,"results":7}',
        b"[" * 100_000,
    ],
)
def test_a_server_that_is_another_one_is_not_believed(lie: bytes) -> None:
    seen = threading.Event()

    def lies(number: int, events: list[dict[str, Any]]) -> Answer:
        if number == 1:
            seen.set()
            return 201, {}, lie
        return good(number, events)

    with serving(lies) as server, monitoring(server) as monitor:
        record(monitor, "a")
        assert seen.wait(10)
        until(lambda: server.ids() == {"a": 1})


def test_lines_that_were_never_sent_are_ignored() -> None:
    def far(number: int, events: list[dict[str, Any]]) -> Answer:
        results = [{"line": line, "status": "retry", "reason": "x"} for line in (0, -1, 99)]
        return 200, {}, json.dumps({"accepted": 1, "results": results}).encode()

    with serving(far) as server, monitoring(server) as monitor:
        record(monitor, "a")
        assert monitor.flush(10)
        assert server.requests == 1


def test_a_key_that_is_refused_is_no_reason_to_go_on_trying() -> None:
    with serving(lambda *_: (401, {}, b'{"reason":"wrong_key"}')) as server, monitoring(server) as monitor:
        record(monitor, "a", "b")
        assert monitor.flush(10)
        assert monitor.refused == 2
        assert server.requests <= 2


def test_a_server_that_hangs_holds_up_neither_the_model_nor_the_end() -> None:
    with serving(lambda *_: None) as server:
        monitor = inferwatch.Monitor(server.url, batch_s=0.01, timeout_s=30, flush_s=0.3, heartbeat_s=None)
        record(monitor, "first")
        until(lambda: server.requests == 1)
        began = time.monotonic()
        record(monitor, *(f"e{n}" for n in range(2000)))
        assert time.monotonic() - began < 2
        assert not monitor.flush(0.2)
        monitor.close()
        assert time.monotonic() - began < 5


def test_what_does_not_fit_is_dropped_oldest_first_and_the_server_is_told() -> None:
    gate = threading.Event()

    def slow_at_first(number: int, events: list[dict[str, Any]]) -> Answer:
        gate.wait(20)
        return good(number, events)

    with serving(slow_at_first) as server, monitoring(server, queue_bytes_max=20_000) as monitor:
        record(monitor, "first")
        until(lambda: server.requests == 1)
        record(monitor, *(f"e{n:04d}" for n in range(1000)))
        gate.set()
        assert monitor.flush(20)
        record(monitor, "last")  # the count travels with the next batch
        assert monitor.flush(20)
        until(lambda: server.dropped + len(server.taken) == 1002)
        kept = [name for name in server.ids() if name.startswith("e")]
        assert 0 < len(kept) < 300
        assert min(kept) == f"e{1000 - len(kept):04d}"


def test_nothing_that_a_program_records_raises_into_it() -> None:
    def breaks(event: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError

    with serving() as server:
        with monitoring(server) as monitor:
            assert monitor.record("m", [{"class": object(), "confidence": 1}]) is None
            assert monitor.record("m", 7) is None  # type: ignore[arg-type]
            assert monitor.record(object()) is None  # type: ignore[arg-type]
            assert monitor.unsendable == 3
        with monitoring(server, before_send=breaks) as monitor:
            assert monitor.record("m") is None
    with monitoring(server) as monitor:  # nobody listens there any more
        record(monitor, "a")


def test_a_coroutine_records_without_waiting() -> None:
    async def many(monitor: inferwatch.Monitor) -> None:
        await asyncio.gather(*(monitor.arecord("m", event_id=f"e{n}") for n in range(100)))

    with serving() as server, monitoring(server) as monitor:
        asyncio.run(many(monitor))
        assert monitor.flush(10)
        assert len(server.ids()) == 100


PROGRAM = """
import os, sys, inferwatch
monitor = inferwatch.Monitor(sys.argv[1], batch_s={batch_s}, flush_s=2, heartbeat_s=None)
for n in range(300):
    monitor.record("m", event_id=f"parent-{{n}}")
{then}
"""
FORK = """
pid = os.fork()
who = "parent" if pid else "child"
for n in range(300, 600):
    monitor.record("m", event_id=f"{who}-{n}")
if pid:
    os.waitpid(pid, 0)
"""


def run(server: OddServer, then: str = "", batch_s: float = 0.2) -> float:
    began = time.monotonic()
    environ = os.environ | {"PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", PROGRAM.format(then=then, batch_s=batch_s), server.url]
    subprocess.run(command, env=environ, check=True, timeout=60)
    return time.monotonic() - began


def test_a_forked_child_sends_its_own_and_the_parent_its_own() -> None:
    with serving() as server:
        run(server, FORK)
        expected = {f"parent-{n}": 1 for n in range(600)} | {f"child-{n}": 1 for n in range(300, 600)}
        assert server.ids() == expected


def test_a_program_that_ends_has_sent_what_it_recorded() -> None:
    with serving() as server:
        run(server, batch_s=30)
        assert server.ids() == {f"parent-{n}": 1 for n in range(300)}
    with serving() as server:
        run(server, "sys.exit(0)", batch_s=30)
        assert len(server.ids()) == 300


def test_a_program_ends_in_time_although_the_server_does_not_answer() -> None:
    with serving(lambda *_: None) as server:
        assert run(server) < 15


def test_the_spool_keeps_what_could_not_be_sent_and_a_new_program_sends_it(tmp_path: Path) -> None:
    with serving(lambda *_: (503, {}, b"")) as server, monitoring(server, spool=str(tmp_path)) as monitor:
        record(monitor, "a", "b")
        until(lambda: bool(list(tmp_path.glob("*.ndjson"))))
    with serving() as server, monitoring(server, spool=str(tmp_path)) as monitor:
        record(monitor, "c")
        until(lambda: len(server.taken) >= 3)
        assert server.ids() == {"a": 1, "b": 1, "c": 1}
    assert list(tmp_path.glob("*.ndjson")) == []


SPOOLING = """
import os, sys, inferwatch
monitor = inferwatch.Monitor(sys.argv[1], batch_s=0.01, flush_s=1, heartbeat_s=None, spool=sys.argv[2])
for n in range(50):
    monitor.record("m", event_id=f"both-{n}")
monitor.flush(5)
pid = os.fork()
for n in range(50):
    monitor.record("m", event_id=f"{'parent' if pid else 'child'}-{n}")
if pid:
    os.waitpid(pid, 0)
"""


def test_processes_that_share_a_spool_lose_nothing_and_send_nothing_twice(tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(SOURCE)}
    spool = str(tmp_path / "spool")
    with serving(lambda *_: (503, {}, b"")) as server:
        subprocess.run([sys.executable, "-c", SPOOLING, server.url, spool], env=environ, check=True, timeout=60)
    with serving() as server:
        programs = [
            subprocess.Popen([sys.executable, "-c", SPOOLING, server.url, spool], env=environ) for _ in range(2)
        ]
        assert [program.wait(60) for program in programs] == [0, 0]
        with monitoring(server, spool=spool) as monitor:
            monitor.start()
            until(lambda: not list(Path(spool).glob("*.ndjson")))
            assert monitor.flush(10)
        whos = dict.fromkeys(("both", "parent", "child"), 3)  # by each of three runs
        assert server.ids() == {f"{who}-{n}": times for who, times in whos.items() for n in range(50)}


def test_a_spool_is_sent_in_the_order_it_was_kept_before_anything_newer(tmp_path: Path) -> None:
    with (
        serving(lambda *_: (503, {}, b"")) as server,
        monitoring(server, spool=str(tmp_path), batch_events=1) as monitor,
    ):
        for n in range(4):
            record(monitor, f"e{n:02d}")
            until(lambda: len(list(tmp_path.glob("*.ndjson"))) == n + 1)  # noqa: B023
    with serving() as server, monitoring(server, spool=str(tmp_path)) as monitor:
        monitor.start()
        until(lambda: len(server.taken) >= 1)
        record(monitor, "newer")
        until(lambda: len(server.taken) == 5)
        assert [one["event_id"] for one in server.taken] == [*(f"e{n:02d}" for n in range(4)), "newer"]


def test_a_device_beats_by_itself_and_says_when_it_stops() -> None:
    with serving() as server:
        with monitoring(server, device_id="cam-7", heartbeat_s=0.05) as monitor:
            monitor.start()
            until(lambda: len(server.beats) >= 3)
        assert [beat["status"] for beat in server.beats][-1] == "stopping"
        assert {beat["device_id"] for beat in server.beats} == {"cam-7"}


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
