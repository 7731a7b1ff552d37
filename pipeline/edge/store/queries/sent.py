"""What a load generator sent, as ClickHouse has it: only rows at the offsets that Kafka acknowledged are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.edge.store.client import ClickHouse

Ranges = Mapping[int, Sequence[tuple[int, int]]]  # by partition: (first offset, how many), ascending

_CELLS = """
    SELECT workspace, model_id, device_id, intDiv(toUnixTimestamp64Milli(event_time), 10000) * 10000 AS window_start_ms,
        count(), countIf(error != ''), countIf(empty(`detections.class`)), sum(length(`detections.class`)),
        count(latency_us), toUInt64(ifNull(sum(latency_us), 0)), sumArray(`detections.confidence_ppm`)
    FROM inferences
    WHERE workspace = {{workspace:String}} AND event_time >= fromUnixTimestamp64Milli({{start:Int64}}, 'UTC')
        AND event_time < fromUnixTimestamp64Milli({{end:Int64}}, 'UTC') AND ({where})
    GROUP BY workspace, model_id, device_id, window_start_ms
"""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Rows at these offsets of a topic; None: at any, where Kafka did not say at which."""

    topic: str
    ranges: Ranges | None

    def _condition(self) -> str:
        if self.ranges is None:
            return "1"
        parts = []
        for partition, ranges in self.ranges.items():
            starts, counts = [start for start, _ in ranges], [count for _, count in ranges]
            begin = f"roundDown(kafka_offset, {starts})"  # of the range that an offset may lie in
            parts.append(
                f"kafka_partition = {partition} AND kafka_offset >= {starts[0]} "
                f"AND kafka_offset < {starts[-1] + counts[-1]} "
                f"AND kafka_offset - {begin} < transform({begin}, {starts}, {counts}, 0)"
            )
        return " OR ".join(f"({part})" for part in parts) or "0"


async def offsets_by_partition(store: ClickHouse, of: Acknowledged) -> dict[int, tuple[int, int]]:
    """(rows and dead letters, distinct offsets among them) of each partition."""
    where = of._condition()
    rows = await store.ask(
        f"""SELECT kafka_partition, count(), groupBitmap(kafka_offset) FROM (
            SELECT kafka_partition, kafka_offset FROM inferences WHERE {where}
            UNION ALL
            SELECT kafka_partition, kafka_offset FROM dead_letters
            WHERE kafka_topic = {{topic:String}} AND ({where}))
        GROUP BY kafka_partition""",
        {"topic": of.topic},
    )
    return {int(partition): (count, distinct) for partition, count, distinct in rows}


async def refused_by_reason(store: ClickHouse, of: Acknowledged) -> dict[str, int]:
    """How many dead letters there are for each reason."""
    rows = await store.ask(
        f"SELECT toString(reason), count() FROM dead_letters WHERE kafka_topic = {{topic:String}} "
        f"AND ({of._condition()}) GROUP BY reason",
        {"topic": of.topic},
    )
    return dict(rows)


async def sums_by_window(
    store: ClickHouse, of: Acknowledged, workspace: str, start_ms: int, end_ms: int
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """By (workspace, model, device, window's start in ms): the sums of a Cell, in its order."""
    parameters = {"workspace": workspace, "start": start_ms, "end": end_ms}
    rows = await store.ask(_CELLS.format(where=of._condition()), parameters)
    return {tuple(row[:4]): tuple(map(int, row[4:])) for row in rows}
