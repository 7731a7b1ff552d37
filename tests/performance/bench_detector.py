"""The detector with very many models: what it uses, how long it answers nobody, what its state weighs.

A series is one automatic signal of one model: confidence, latency's median and p95, traffic, errors, empty results,
class mix. First a backlog is caught up with, then a window comes every 10 s as it ends, by the clock. From outside,
/healthz is asked all the time: the longest answer is the longest time for which the worker's loop did nothing else.
"""

import asyncio
import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Settings
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.producer import Producer
from pipeline.edge.local.ports import HOST
from schemas.topics import AGGREGATES
from tests.asked_once import create_topics
from tests.integration.engines import Engines
from tests.performance import system
from tests.performance.aggregates import ManyModels
from tests.performance.figures import Figure, VoidRunError, quantile

SIGNALS = 7  # of a model
BACKLOG = 24  # windows
LATENESS_MS = 2200  # so long after its end a window is on the topic
CPU_PERCENT = 50.0  # of one core, at 100,000 series
PROBE_S = 0.1


class _Worker:
    """The detector, asked from outside."""

    def __init__(self, port: int) -> None:
        self._port = port

    def page(self, path: str) -> str:
        """The text of one of its pages, whatever its status."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The sum of its samples."""
        lines = (line for line in self.page("/metrics").splitlines() if line.startswith((name + " ", name + "{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    @contextmanager
    def probed(self) -> Iterator[list[float]]:
        """Seconds that each answer took, asked every PROBE_S meanwhile."""
        took: list[float] = []
        over = threading.Event()

        def probe() -> None:
            while not over.wait(PROBE_S):
                asked = time.monotonic()
                self.page("/healthz")
                took.append(time.monotonic() - asked)

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield took
        finally:
            over.set()
            thread.join()


class _Log:
    """inference.aggregates, as the aggregators of all source partitions write it."""

    def __init__(self, settings: Settings, models: int) -> None:
        self._output, self._topic = Producer(Kafka(settings)), settings.topic(AGGREGATES.name)
        self._models = ManyModels(models, now_ms() - (BACKLOG + 1) * WINDOW_MS)
        self.records = 0
        self.bytes = 0

    async def play(self, windows: int) -> None:
        """The next windows, none before its time."""
        for _ in range(windows):
            due_ms = self._models.next_end_ms + LATENESS_MS
            records = list(self._models.window())
            await asyncio.sleep(max(0, due_ms - now_ms()) / 1000)
            await self._output.send(self._topic, records, lambda: None)
            self.records += len(records)
            self.bytes += sum(len(record.value or b"") for record in records)

    async def close(self) -> None:
        """Nothing more comes."""
        await self._output.stop()


def run(running: Engines, directory: Path, series: int, seconds: int) -> list[Figure]:
    """One detector, so many series."""
    settings = system.world(running)
    asyncio.run(create_topics(settings))
    return asyncio.run(_run(settings, directory, -(-series // SIGNALS), max(2, seconds * 1000 // WINDOW_MS)))


async def _run(settings: Settings, directory: Path, models: int, windows: int) -> list[Figure]:
    log = _Log(settings, models)
    try:
        await log.play(BACKLOG)
        with system.worker("detector", settings, directory) as detector:
            asked = _Worker(detector.web_port)
            await asyncio.to_thread(_wait_judged, asked, log.records)
            catching_up_s = system.cpu_s(detector)
            await log.play(1)  # from here on it lives by the clock
            await asyncio.to_thread(_wait_judged, asked, log.records)
            bytes_before, saves_before = log.bytes, asked.metric("inferwatch_snapshot_seconds_count")
            saved_before = asked.metric("inferwatch_snapshot_bytes_total")
            seconds_before = asked.metric("inferwatch_snapshot_seconds_sum")
            meter = system.Meter(detector=detector)
            with asked.probed() as answers:
                await log.play(windows)
                await asyncio.to_thread(_wait_judged, asked, log.records)
                use = meter.read()
            rss_mb = system.rss_mb(detector)
            saves = asked.metric("inferwatch_snapshot_seconds_count") - saves_before
            saved = asked.metric("inferwatch_snapshot_bytes_total") - saved_before
            save_s = asked.metric("inferwatch_snapshot_seconds_sum") - seconds_before
            detector.kill9()
        restart_s, restart_rss_mb = await asyncio.to_thread(_restart, settings, directory)
    finally:
        await log.close()
    bench = f"detector: {models:,} models, {models * SIGNALS:,} series"
    each = max(saves, 1)
    return [
        Figure(bench, "catching up", (BACKLOG - 1) / catching_up_s, "windows of all models/CPU-s"),
        Figure(bench, "inference.aggregates", (log.bytes - bytes_before) / windows / 1e6, "MB/window"),
        Figure(bench, "detector, at the pace of the clock", use.cpu_s["detector"] / use.seconds * 100, "% of a core",
               CPU_PERCENT),
        Figure(bench, "detector's memory", rss_mb, "MB"),
        Figure(bench, "/healthz, p99", quantile(answers, 0.99) * 1000, "ms"),
        Figure(bench, "/healthz, longest", max(answers) * 1000, "ms"),
        Figure(bench, "snapshots meanwhile", saves, "of a partition"),
        Figure(bench, "a snapshot", saved / each / 1e6, "MB"),
        Figure(bench, "a snapshot, until Kafka has it", save_s / each * 1000, "ms"),
        Figure(bench, "killed, until it is at the end of the log again", restart_s, "s"),
        Figure(bench, "detector's memory then", restart_rss_mb, "MB"),
    ]  # fmt: skip


def _wait_judged(detector: _Worker, records: int) -> None:
    system.wait("all is judged", lambda: detector.metric("inferwatch_chain_records_total") >= records)
    if (gaps := detector.metric('inferwatch_chain_records_total{verdict="gap"')) > 0:
        raise VoidRunError(f"{gaps:.0f} gaps in the chain")


def _restart(settings: Settings, directory: Path) -> tuple[float, float]:
    """Seconds from the start of the process, and its memory."""
    started = time.monotonic()
    with system.worker("detector", settings, directory) as detector:
        took_s = system.wait("it is ready", detector.answers, every_s=0.1) - started
        return took_s, system.rss_mb(detector)
