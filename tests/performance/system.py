"""The system under measurement: a Kafka and a ClickHouse of our own, workers, and what their processes use."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings, to_environ
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.ports import free_port
from pipeline.edge.local.process import Child
from pipeline.edge.local.worker import Worker
from tests.asked_once import create_topics
from tests.integration.engines import Engines, embedded_engines, world_settings
from tests.integration.outside import connect, migrate
from tests.performance.events import SPEC
from tests.performance.figures import VoidRunError

WAIT_S = 600.0
SETTLED_S = 3.0  # without a merge


@contextmanager
def engines() -> Iterator[tuple[Engines, Path]]:
    """Both servers in a directory of their own; neither is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="inferwatch-bench-"))
    try:
        running = embedded_engines(directory)
        try:
            yield running, directory
        finally:
            for engine in (running.clickhouse, running.kafka):
                engine.kill9()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def world(running: Engines) -> Settings:
    """Settings that share topics, groups and tables with no other run. Neither are made yet."""
    return world_settings(running)


def make(settings: Settings) -> None:
    """The topics and the tables."""
    asyncio.run(create_topics(settings))
    migrate(settings)


@contextmanager
def worker(role: str, settings: Settings, directory: Path) -> Iterator[Worker]:
    """A worker of its own process, from its start until it has been given its partitions."""
    port = free_port()
    logs = directory / "logs" / f"{settings.group_prefix}-{port}"
    engine = Worker(role, settings, web_port=port, logs=logs)
    engine.spawn()
    try:
        wait(f"{role} is given its partitions", lambda: _assigned(engine), 60, every_s=0.005)
        yield engine
    finally:
        engine.stop()


def _assigned(engine: Engine) -> bool:
    if not engine.alive:
        raise VoidRunError(engine.ended())
    return '"partitions": ["' in engine.log.read_text()  # what it logs when it is given some


class Producer:
    """`inferwatch produce` at a steady rate, as a process of its own."""

    def __init__(self, settings: Settings, directory: Path, rate: int, seconds: int) -> None:
        self._log = directory / "logs" / f"{settings.group_prefix}-produce.log"
        options = ["--rate", str(rate), "--for", f"{seconds}s", "--devices", str(SPEC.devices), "--json"]
        command = [sys.executable, "-m", "agents", "produce", *options]
        self._child = Child(command, self._log, environ=os.environ | to_environ(settings))

    @property
    def ended(self) -> bool:
        """Whether all are sent. Raises VoidRunError when it failed."""
        code = self._child.returncode
        if code:
            raise VoidRunError(f"inferwatch produce ended with exit code {code}: {self._child.said()}")
        return code is not None

    def acknowledged(self) -> int:
        """How many events Kafka has. All that were sent, else the run is void."""
        summary = json.loads(self._log.read_text().splitlines()[-1])
        if summary["unknown"]:
            raise VoidRunError(f"{summary['unknown']} events were never acknowledged")
        return int(summary["acknowledged"])

    def kill(self) -> None:
        """Ends it, if it still runs."""
        self._child.kill9()


@contextmanager
def producer(settings: Settings, directory: Path, rate: int, seconds: int) -> Iterator[Producer]:
    """One at work; it does not outlive the block."""
    running = Producer(settings, directory, rate, seconds)
    try:
        yield running
    finally:
        running.kill()


def wait(what: str, condition: Callable[[], bool], timeout_s: float = WAIT_S, every_s: float = 0.25) -> float:
    """Waits until the condition holds; the time.monotonic() when it did. Raises VoidRunError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise VoidRunError(f"after {timeout_s:.0f} s still not: {what}")
        time.sleep(every_s)
    return time.monotonic()


def wait_settled(client: Client) -> None:
    """Until ClickHouse has no merge to make."""
    busy_at = time.monotonic()

    def settled() -> bool:
        nonlocal busy_at
        if number(client, "SELECT count() FROM system.merges"):
            busy_at = time.monotonic()
        return time.monotonic() - busy_at > SETTLED_S

    wait("ClickHouse has no merge to make", settled)


def cpu_s(engine: object) -> float:
    """What a process has used, user and system."""
    assert isinstance(engine, Engine), "only processes of this machine can be measured"
    times = psutil.Process(engine.pid).cpu_times()
    return float(times.user + times.system)


def rss_mb(engine: Engine) -> float:
    """The memory that a process holds now."""
    return float(psutil.Process(engine.pid).memory_info().rss) / (1 << 20)


@contextmanager
def client(settings: Settings) -> Iterator[Client]:
    """ClickHouse, as admin."""
    with closing(connect(settings, "admin")) as connected:
        yield connected


def number(connected: Client, sql: str) -> int:
    """The one number that a query answers."""
    return int(connected.query(sql).result_rows[0][0] or 0)


@dataclass(frozen=True, slots=True)
class Use:
    """CPU-seconds of some processes, by name, over some time."""

    seconds: float
    cpu_s: dict[str, float]

    def less(self, idle: "Use", names: tuple[str, ...]) -> "Use":
        """Without what these would have used anyway, doing nothing."""
        used = dict(self.cpu_s)
        for name in names:
            used[name] = max(0.0, used[name] - idle.cpu_s[name] / idle.seconds * self.seconds)
        return Use(self.seconds, used)


class Meter:
    """Reads what processes use, from its making on."""

    def __init__(self, **processes: object) -> None:
        self._processes = processes
        self._started = time.monotonic()
        self._before = {name: cpu_s(process) for name, process in processes.items()}

    def read(self) -> Use:
        """Since the meter was made."""
        used = {name: cpu_s(process) - self._before[name] for name, process in self._processes.items()}
        return Use(time.monotonic() - self._started, used)
