"""Odd machines: slow ones, odd names of directories, a terminal that is closed, and what a machine may lack."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.config import Settings, load
from pipeline.edge.local.clickhouse import EmbeddedClickHouse, Passwords
from pipeline.edge.local.kafka import EmbeddedKafka, live_brokers
from pipeline.edge.local.layout import SERVER_PORTS, servers, settings_for
from pipeline.edge.local.ports import free_ports
from tests.integration.outside import ask, connect
from tests.integration.up import UP, gone, running, wait_until
from tests.integration.workers import fleet

pytestmark = pytest.mark.integration

ODD_NAMES = (
    "a blank",
    " blanks around ",
    "dé",
    "a,b",
    "a\\tb",
    "a\tb",
    "a&b<c>",
    'it\'s "so"',
    "😀",
    "50%25 %d",
    "${env:HOME} $HOME",
    "#x;y!*?",
    "[red]{a}=b:c[",
    "two\nlines",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_kafkas_storage_is_found_again_whatever_its_directory_is_called(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        kafka_port, controller_port = free_ports(2)
        EmbeddedKafka(tmp_path / name, kafka_port, controller_port=controller_port).prepare()
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("meta.properties")]
    assert found == [Path(name) / "data" / "meta.properties"]
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["é😀,b \\t", "[/red]", "it's <\"&\n${env:HOME} %d"])
def test_up_starts_stops_and_starts_again_whatever_its_directory_is_called(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name / "data"
    directory.mkdir(parents=True)
    for _ in range(2):
        with running(directory) as up:
            up.process.terminate()
            assert up.process.wait(60) == 0
    assert "Traceback" not in (tmp_path / name / "up.log").read_text()
    assert (directory / "kafka" / "data" / "__cluster_metadata-0").is_dir()
    assert (directory / "clickhouse" / "data" / "store").is_dir()
    assert os.listdir(tmp_path) == [Path(name).parts[0]]


def test_a_directory_whose_name_java_cannot_say_is_refused_in_one_line(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/d\xe9"
    ended = subprocess.run([sys.executable, "-c", UP, "--data-dir", directory], capture_output=True, check=False)
    assert ended.returncode == 3
    last = ended.stderr.decode().splitlines()[-1]
    assert last.endswith(r"/d\xe9/kafka: its name is not UTF-8; choose another directory")


@contextmanager
def slow_machine(cores: float) -> Iterator[Callable[[int], None]]:
    """A control group with that much CPU; call what it yields with the id of each process that is to be in it."""
    quota = round(cores * 100_000)
    group = _made_group(Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", f"{quota}") or _made_group(
        Path("/sys/fs/cgroup"), "cpu.max", f"{quota} 100000"
    )
    if group is None:
        pytest.skip("no control group of the CPU can be made here (root, and cgroup v1 or v2, are needed)")
    procs = group / "cgroup.procs"

    def enter(pid: int) -> None:
        procs.write_text(f"{pid}\n")

    try:
        yield enter
    finally:
        wait_until(lambda: not procs.read_text(), "all have left")
        group.rmdir()


def _made_group(root: Path, limit: str, text: str) -> Path | None:
    group = root / f"inferwatch-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(text)
    except OSError:
        with suppress(OSError):
            group.rmdir()
        return None
    return group


def test_a_quarter_of_a_core_is_enough_to_start(tmp_path: Path) -> None:
    ports = dict(zip(SERVER_PORTS, free_ports(len(SERVER_PORTS)), strict=True))
    both = servers(tmp_path, ports, Passwords("a", "w", "r", "q"), ["iw_*"])
    with slow_machine(0.25) as slow:
        for engine in both:
            try:
                engine.prepare()
                engine.spawn()
                slow(engine.pid)
                engine.wait_ready(timeout_s=8)  # Kafka takes longer than that as a whole
            finally:
                engine.kill9()


def up_ends(directory: Path, prefix: str = "") -> tuple[int, str]:
    """The exit code of an `up` that cannot start, and the last line that it prints."""
    command = f'{prefix} "$0" -c "$1" --data-dir "$2"'
    ended = subprocess.run(
        ["sh", "-c", command, sys.executable, UP, str(directory)], capture_output=True, text=True, check=False
    )
    return ended.returncode, (ended.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("lack", "prefix", "line"),
    [
        ("loopback", "unshare -rn", "127.0.0.1 cannot be reached on this machine (Network is unreachable); bring its"),
        ("open files", "ulimit -n 256;", "only 256 open files are allowed, 1024 are needed; raise the limit (ulimit"),
        ("processes' memory", "ulimit -v 300000;", "ended with exit code"),
    ],
)
def test_what_a_machine_lacks_is_said_in_one_line(lack: str, prefix: str, line: str, tmp_path: Path) -> None:
    if prefix.startswith("unshare") and subprocess.run([*prefix.split(), "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here")
    code, last = up_ends(tmp_path / "data", prefix)
    assert (code, line in last) == (3, True), last


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """A file system of that size in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "inferwatch-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, left_mb: int) -> Path:
    """A file that takes all but so much."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        while shutil.disk_usage(disk).free > (left_mb + 1) * 1_000_000:  # others write too
            file.write(bytes(1 << 20))
    return ballast


def test_a_tiny_disk_is_said_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        code, last = up_ends(disk / "data")
    assert code == 3
    assert "MB free on the disk of" in last
    assert "500 MB are needed; free some space or choose a directory on another disk" in last


def test_clickhouse_refuses_inserts_before_its_disk_is_full_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 200) as disk:
        http_port, native_port = free_ports(2)
        server = EmbeddedClickHouse(
            disk / "clickhouse",
            http_port,
            native_port=native_port,
            passwords=Passwords("a", "w", "r", "q"),
            databases=["default"],
        )
        server.start()
        try:
            settings = settings_for(load({}), "", server.url, server.passwords)
            taken, refusals = filled_under_load(settings.model_copy(update={"clickhouse_database": "default"}), disk)
            assert taken["refused"] > 100
            assert refusals == {"NOT_ENOUGH_SPACE"}
            server.kill9()
            server.start()
            with closing(connect(settings, "admin", database="default")) as client:
                assert ask(client, "SELECT count() FROM mine") == [(taken["rows"],)]
                assert ask(client, "SELECT count() FROM system.detached_parts") == [(0,)]
        finally:
            server.kill9()


def filled_under_load(settings: Settings, disk: Path) -> tuple[Counter[str], set[str]]:
    """Six clients insert until they are refused, and on; the disk is filled thrice, and freed. What was answered."""
    taken: Counter[str] = Counter()
    refusals: set[str] = set()
    with closing(connect(settings, "admin")) as client:
        client.command("CREATE TABLE mine (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    done = threading.Event()

    def insert() -> None:
        with closing(connect(settings, "writer")) as client:
            while not done.is_set():
                try:
                    client.insert("mine", [[n, os.urandom(100).hex()] for n in range(300)], ["n", "s"])
                    taken["rows"] += 300
                except ClickHouseError as error:
                    taken["refused"] += 1
                    refusals.update(re.findall(r"\(([A-Z_]+)\)", str(error)))

    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(insert)
        try:
            for _ in range(3):
                before = taken.copy()
                wait_until(lambda: taken["rows"] > before["rows"] + 6000, "rows are taken")  # noqa: B023
                ballast = fill(disk, left_mb=10)
                wait_until(lambda: taken["refused"] > before["refused"] + 50, "inserts are refused")  # noqa: B023
                ballast.unlink()
        finally:
            done.set()
    return taken, refusals


def test_kafka_stands_still_while_the_disk_is_nearly_full_and_then_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 900) as disk, running(disk / "data") as up:
        settings, log = up.settings(disk / "data"), disk / "up.log"
        before = live_brokers(int(settings.kafka_bootstrap.split(":")[1]))
        ballast = fill(disk, left_mb=20)
        wait_until(lambda: "Kafka stands still until" in log.read_text(), "it is said")
        wait_until(lambda: stopped_in_order(disk / "data"), "Kafka has ended")
        assert "ClickHouse takes nothing in, records wait in Kafka" in log.read_text()
        ballast.unlink()
        wait_until(lambda: "kafka is back" in log.read_text(), "it is back")
        assert live_brokers(int(settings.kafka_bootstrap.split(":")[1])) == before


def stopped_in_order(directory: Path) -> bool:
    return (directory / "kafka" / "data" / ".kafka_cleanshutdown").exists()


def test_a_closed_terminal_stops_all_in_order(tmp_path: Path) -> None:
    """Both the kernel and the shell say so, and nobody is there to read what is printed."""
    directory = tmp_path / "data"
    pid, file = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", UP, "--data-dir", str(directory)])
    endpoints = directory / "endpoints.json"
    wait_until(lambda: drained(file) and endpoints.exists(), "up is ready", 120)
    children = [int(path.name) for path in Path("/proc").iterdir() if parent_of(path) == pid]
    assert len(children) == 2
    assert not stopped_in_order(directory)
    os.close(file)
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "it ends", 60)
    assert all(map(gone, children))
    assert stopped_in_order(directory)
    assert not endpoints.exists()


def test_a_worker_ends_in_order_when_its_terminal_is_closed(world: Settings, tmp_path: Path) -> None:
    with fleet(world, tmp_path) as workers:
        recorder = workers.start("recorder")
        workers.wait_ready(recorder)
        recorder.asked = True
        recorder.child.signal(signal.SIGHUP)
        wait_until(lambda: recorder.returncode is not None, "it ends", 30)
        assert recorder.returncode == 0, recorder.child.said()


def drained(file: int) -> bool:
    """Reads what a terminal has to show: one that nobody reads holds its writers up."""
    while select.select([file], [], [], 0)[0]:
        os.read(file, 1 << 16)
    return True


def parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
