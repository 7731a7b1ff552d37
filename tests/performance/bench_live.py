"""Live: events at a steady rate through both workers; how long until they can be asked for, and who uses what.

The delays are seen from outside: ClickHouse is asked all the time how far it has come, and an event or a window counts
as there when an answer that holds it has arrived. So they are upper bounds, by up to a question and its pause; and
ClickHouse's share holds what the questions cost.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clickhouse_connect.driver.client import Client

from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from tests.integration.engines import Engines
from tests.performance import system
from tests.performance.figures import Figure, VoidRunError, quantile

POLL_S = 0.1
WINDOWS_EVERY = 3  # polls; asking costs ClickHouse CPU, too
WARM_UP_MS = 5000
SAMPLED = 11  # every so manieth event is looked at
ROW_P99_MS = 1000.0
TARGET_RATE = 10_000


@dataclass(slots=True)
class _Seen:
    """What ClickHouse answered, and when."""

    offset: dict[int, int] = field(default_factory=dict)  # by partition: the highest so far
    steps: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))  # (offset, ms)
    windows: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    polls: int = 0

    def ask(self, client: Client) -> None:
        """Once, for rows and every now and then for windows."""
        self._ask_rows(client)
        if self.polls % WINDOWS_EVERY == 0:
            self._ask_windows(client)
        self.polls += 1

    def _ask_rows(self, client: Client) -> None:
        least = min(self.offset.values(), default=0)
        rows = client.query(
            "SELECT kafka_partition, max(kafka_offset) FROM inferences "
            f"WHERE kafka_offset >= {least} GROUP BY kafka_partition"
        ).result_rows
        now = now_ms()
        for partition, offset in rows:
            if offset > self.offset.get(partition, -1):
                self.offset[partition] = offset
                self.steps[partition].append((offset, now))

    def _ask_windows(self, client: Client) -> None:
        rows = client.query(
            "SELECT model_id, toUnixTimestamp(window_start), sum(inference_count) FROM model_windows "
            f"WHERE window_start >= toDateTime({now_ms() // 1000 - 60}) GROUP BY ALL"
        ).result_rows
        now = now_ms()
        for model, start_s, count in rows:
            steps = self.windows[model, start_s * 1000]
            if not steps or steps[-1][0] != count:
                steps.append((count, now))

    def row_delays(self, client: Client, from_ms: int) -> Iterator[float]:
        """In ms, of a sample of the events of the broker time `from_ms` and later."""
        rows = client.query(
            "SELECT kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time) FROM inferences "
            f"WHERE kafka_offset % {SAMPLED} = 0 AND toUnixTimestamp64Milli(kafka_time) >= {from_ms}"
        ).result_rows
        for partition, offset, time_ms in rows:
            steps = self.steps[partition]
            yield steps[bisect_left(steps, (offset, 0))][1] - time_ms

    def window_delays(self, client: Client, from_ms: int, to_ms: int) -> Iterator[float]:
        """In ms from the end of a window until a model's row of it says what its single events say."""
        rows = client.query(
            "SELECT model_id, intDiv(toUnixTimestamp64Milli(event_time), 10000) * 10000 AS start_ms, count() "
            "FROM inferences GROUP BY ALL"
        ).result_rows
        for model, start_ms, count in rows:
            if from_ms <= start_ms and start_ms + WINDOW_MS <= to_ms:
                yield next(at for found, at in self.windows[model, start_ms] if found == count) - start_ms - WINDOW_MS


def run(running: Engines, directory: Path, rate: int, seconds: int) -> list[Figure]:
    """Both workers, one rate."""
    settings = system.world(running)
    system.make(settings)
    with (
        system.client(settings) as client,
        system.worker("aggregator", settings, directory) as aggregator,
        system.worker("recorder", settings, directory) as recorder,
    ):
        meter = system.Meter(
            aggregator=aggregator, recorder=recorder, broker=running.kafka, ClickHouse=running.clickhouse
        )
        seen, began_ms = _Seen(), now_ms()
        with system.producer(settings, directory, rate, seconds) as producer:
            while not producer.ended:
                seen.ask(client)
                time.sleep(POLL_S)
            use, ended_ms = meter.read(), now_ms()
            events = producer.acknowledged()
        deadline = time.monotonic() + 60
        while sum(offset + 1 for offset in seen.offset.values()) < events or _windows(client) < events:
            if time.monotonic() > deadline:
                raise VoidRunError(f"of {events} events {seen.offset} and {_windows(client)} in windows came out")
            seen.ask(client)
            time.sleep(POLL_S)
        for _ in range(WINDOWS_EVERY):
            seen.ask(client)
        rows = system.number(client, "SELECT uniqExact(kafka_partition, kafka_offset) FROM inferences")
        if rows != events or system.number(client, "SELECT count() FROM inferences") != events:
            raise VoidRunError(f"{rows} different rows of {events} events")
        row_ms = list(seen.row_delays(client, began_ms + WARM_UP_MS))
        window_ms = list(seen.window_delays(client, began_ms + WARM_UP_MS, ended_ms - WINDOW_MS))
    return list(_figures(rate, use, events, row_ms, window_ms))


def _figures(rate: int, use: system.Use, events: int, row_ms: list[float], window_ms: list[float]) -> Iterator[Figure]:
    bench = f"live: {rate:,} events/s"
    target = ROW_P99_MS if rate == TARGET_RATE else None
    yield Figure(bench, "produced", events / use.seconds, "events/s")
    yield Figure(bench, "event to row, p50", quantile(row_ms, 0.5), "ms")
    yield Figure(bench, "event to row, p99", quantile(row_ms, 0.99), "ms", target)
    if window_ms:
        yield Figure(bench, "window end to closed window, p50", quantile(window_ms, 0.5), "ms")
        yield Figure(bench, "window end to closed window, p99", quantile(window_ms, 0.99), "ms")
    for name, cpu_s in use.cpu_s.items():
        yield Figure(bench, f"{name}", cpu_s / use.seconds * 100, "% of a core")
    for name, cpu_s in use.cpu_s.items():
        yield Figure(bench, f"{name}", cpu_s / events * 1e6, "CPU-us/event")


def _windows(client: Client) -> int:
    return system.number(client, "SELECT sum(inference_count) FROM model_windows")
