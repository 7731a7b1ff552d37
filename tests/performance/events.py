"""The events that are measured with: seeded, about 550 B, 3.75 detections, 8 models x 25 devices, evenly in time.

The load generator's own events, with the times that they would have had.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.trial.workload import Workload, WorkloadSpec

SPEC = WorkloadSpec(seed=1, models=8, devices=8 * 25)
STEP_MS = 100


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events that were sent together."""

    time_ms: int
    keys: list[bytes]
    values: list[bytes]


def chunks(count: int, first_ms: int, span_ms: int) -> Iterator[Chunk]:
    """`count` events, evenly from `first_ms` to before `first_ms + span_ms`."""
    workload = Workload(SPEC)
    keys = [stream.key for stream in workload.streams]
    steps, sent = max(1, span_ms // STEP_MS), 0
    for step in range(steps):
        time_ms = first_ms + step * STEP_MS
        records = workload.take(count * (step + 1) // steps - sent, time_ms)
        sent += len(records)
        values = [value for value in workload.values(records) if value is not None]
        yield Chunk(time_ms, [keys[stream] for stream in records.stream.tolist()], values)
