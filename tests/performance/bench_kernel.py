"""The kernels alone, in memory: what a worker computes of an event, without Kafka, ClickHouse and the event loop."""

import time
from collections.abc import Callable

from pipeline import kernel
from pipeline.core.batch import Batch
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.windows.aggregation import PartitionAggregator
from pipeline.core.windows.log_clock import WINDOW_MS, closed_through
from pipeline.core.windows.publication import records as publication_records
from schemas.event import TimeLimits
from schemas.topics import EVENTS as EVENTS_TOPIC
from tests.performance.events import chunks
from tests.performance.figures import Figure, VoidRunError

EVENTS = 200_000
PER_SECOND = 1250  # of one partition of eight, at 10,000 events/s
BATCHES = (500, 5000, 50_000)
PASSES = 3
FIRST_MS = 1_790_000_000_000
LATENESS_MS = 2000
TARGETS = 8  # partitions of inference.aggregates

Run = Callable[[list[Batch]], int]


def run() -> list[Figure]:
    """The best of PASSES, since whatever else runs here only makes it slower."""
    kernels: tuple[tuple[str, Run], ...] = (
        ("aggregator: observe, cut, records", _aggregate),
        ("recorder: rows, Native block", _record),
    )
    figures = []
    for size in BATCHES:
        batches = _batches(size)
        for name, run_ in kernels:
            best_s = min(_cpu_s(run_, batches) for _ in range(PASSES))
            figures.append(Figure("kernel", f"{name}; batches of {size:,}", best_s / EVENTS * 1e6, "us/event"))
    return figures


def _batches(size: int) -> list[Batch]:
    events = [
        (chunk.time_ms, key, value)
        for chunk in chunks(EVENTS, FIRST_MS, EVENTS * 1000 // PER_SECOND)
        for key, value in zip(chunk.keys, chunk.values, strict=True)
    ]
    out = []
    for start in range(0, len(events), size):
        times_ms, keys, values = map(list, zip(*events[start : start + size], strict=True))
        out.append(Batch("events", 0, list(range(start, start + len(values))), times_ms, keys, values))
    return out


def _cpu_s(run: Run, batches: list[Batch]) -> float:
    started = time.process_time()
    count = run(batches)
    took_s = time.process_time() - started
    if count != EVENTS:
        raise VoidRunError(f"{count} events came out of {EVENTS}")
    return took_s


def _aggregate(batches: list[Batch]) -> int:
    machine = PartitionAggregator(AggregatorName.begin(0), TimeLimits())
    count = 0
    for number, batch in enumerate(batches):
        machine.observe(batch, kernel.fold)
        is_last = number == len(batches) - 1
        through_ms = closed_through(batch.times_ms[-1] + is_last * 2 * WINDOW_MS, LATENESS_MS)
        if through_ms > machine.closed_ms and (cut := machine.cut(through_ms, TARGETS)):
            count += sum(int(models.numbers["inference_count"].sum()) for _, models, _ in cut.windows)
            for _ in publication_records(cut, 0):
                pass
    return count


def _record(batches: list[Batch]) -> int:
    count = 0
    for batch in batches:
        for rows in kernel.rows(EVENTS_TOPIC, TimeLimits(), batch).blocks:
            count += len(rows)
    return count
