"""`inferwatch up` as a person runs it, without its workers."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import Settings, load
from pipeline.edge.local.layout import Secrets, kept_secrets, settings_for

# `inferwatch up` without workers
UP = "import sys; from pipeline.cli import app, up; up.PROCESSES = (); sys.argv.insert(1, 'up'); app.run()"


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Up:
    """One run of `inferwatch up`, once it is ready."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "endpoints.json"
        self.file.unlink(missing_ok=True)
        self._log = (directory.parent / "up.log").open("ab")
        command = [sys.executable, "-c", UP, "--data-dir", str(directory)]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        wait_until(lambda: self.file.exists() or self.process.poll() is not None, "up is ready", 240)
        assert self.process.poll() is None, (directory.parent / "up.log").read_text()

    @property
    def endpoints(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def settings(self, directory: Path) -> Settings:
        kept: Secrets = kept_secrets(directory)
        return settings_for(load({}), self.endpoints["kafka"], self.endpoints["clickhouse"]["http"], kept.passwords)


@contextmanager
def running(directory: Path) -> Iterator[Up]:
    up = Up(directory)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()
