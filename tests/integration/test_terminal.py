"""Ctrl-C on a real terminal: verbs that go on for ever end at once, in order, and say nothing of their insides."""

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.config import Settings, to_environ
from tests.integration.engines import Server

pytestmark = pytest.mark.integration

INTERRUPT = b"\x03"


@dataclass
class Terminal:
    """A process whose terminal we are."""

    pid: int
    file: int
    said: str = ""
    code: int | None = None
    _bytes: bytearray = field(default_factory=bytearray)

    def press(self, key: bytes) -> None:
        """As a person would."""
        os.write(self.file, key)

    def read(self, timeout_s: float) -> bool:
        """Takes in what it says; False when it is gone."""
        if not select.select([self.file], [], [], timeout_s)[0]:
            return True
        try:
            more = os.read(self.file, 1 << 16)
        except OSError:  # Linux says so when the other side is closed
            more = b""
        self._bytes += more
        self.said = self._bytes.decode(errors="replace")
        return bool(more)

    def wait_for(self, text: str, timeout_s: float = 90) -> None:
        """Until it has said that."""
        deadline = time.monotonic() + timeout_s
        while text not in self.said:
            assert self.read(0.2), f"it ended\n{self.said[-3000:]}"
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {text}\n{self.said[-3000:]}"

    def wait_end(self, timeout_s: float) -> int:
        """Until it is gone; its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.read(0.2):
            assert time.monotonic() < deadline, f"it goes on after {timeout_s} s\n{self.said[-3000:]}"
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code


@contextmanager
def terminal(settings: Settings, *arguments: str) -> Iterator[Terminal]:
    """`inferwatch ARGUMENTS` on a terminal of its own."""
    environ = {**os.environ, **to_environ(settings), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [sys.executable, "-m", "agents", *arguments]
    pid, file = pty.fork()
    if not pid:
        os.execve(command[0], command, environ)
    ours = Terminal(pid, file)
    try:
        yield ours
    finally:
        if ours.code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(file)


def ended_well(screen: Terminal, timeout_s: float) -> None:
    """Soon, as asked, and without a traceback."""
    assert screen.wait_end(timeout_s) in (0, 130), screen.said[-3000:]
    assert "Traceback" not in screen.said, screen.said[-3000:]


@pytest.mark.parametrize("broker", ["answers", "is frozen"])
def test_following_alerts_ends_at_ctrl_c(world: Settings, kafka: Server, broker: str) -> None:
    with terminal(world, "alerts", "tail") as screen:
        screen.wait_for("Ctrl-C ends it")
        if broker == "is frozen":
            kafka.pause()
        screen.read(1)
        screen.press(INTERRUPT)
        ended_well(screen, 10)


def test_the_demo_ends_at_ctrl_c_with_a_summary_and_leaves_nobody_behind(world: Settings, tmp_path: Path) -> None:
    with terminal(world, "demo", "--data-dir", str(tmp_path / "demo"), "--devices", "2") as screen:
        screen.wait_for("all cameras are fine")
        screen.press(INTERRUPT)
        screen.wait_for("What ClickHouse has of it", 90)
        ended_well(screen, 90)
    assert "audit" in screen.said
    assert not children_of(tmp_path)


def test_everything_that_is_up_ends_at_ctrl_c(world: Settings, tmp_path: Path) -> None:
    with terminal(world, "up", "--data-dir", str(tmp_path / "up")) as screen:
        screen.wait_for("Kafka")
        screen.press(INTERRUPT)  # in the middle of the start
        ended_well(screen, 60)
    assert "stopping" in screen.said
    assert not children_of(tmp_path)


def children_of(directory: Path) -> list[str]:
    """Processes whose command line names the directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found
