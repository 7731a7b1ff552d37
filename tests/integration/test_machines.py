"""Odd machines: slow ones, odd names of directories, a terminal that is closed, and what a machine may lack."""

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.edge.local.clickhouse import Passwords
from pipeline.edge.local.kafka import EmbeddedKafka
from pipeline.edge.local.layout import SERVER_PORTS, servers
from pipeline.edge.local.ports import free_ports
from tests.integration.up import UP, gone, running, wait_until

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
    try:
        yield lambda pid: (group / "cgroup.procs").write_text(f"{pid}\n") and None
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "all have left")
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
    both = servers(tmp_path, ports, Passwords("a", "w", "r"), ["iw_*"])
    with slow_machine(0.25) as slow:
        for engine in both:
            try:
                engine.prepare()
                engine.spawn()
                slow(engine.pid)
                engine.wait_ready(timeout_s=8)  # Kafka takes longer than that as a whole
            finally:
                engine.kill9()


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
