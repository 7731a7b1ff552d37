"""Records as they come from a fetch, in batches of one partition."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.core.rows.tables import Records


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one fetch of one partition."""

    records: Records
    create_time: bool  # timestamps are the producers', not the broker's
    bytes: int

    def split(self, offset: int) -> tuple["Fetched | None", "Fetched | None"]:
        """What is before `offset`, and the rest."""
        offsets = self.records.offsets
        if offsets[-1] < offset:
            return self, None
        if offsets[0] >= offset:
            return None, self
        at = bisect_left(offsets, offset)
        return self._slice(slice(None, at)), self._slice(slice(at, None))

    def _slice(self, part: slice) -> "Fetched":
        r = self.records
        values = r.values[part]
        records = Records(r.topic, r.partition, r.offsets[part], r.times_ms[part], r.keys[part], values)
        return Fetched(records, self.create_time, _bytes(values))


def join(parts: Sequence[Fetched]) -> Records:
    """The records of all parts, in order."""
    first = parts[0].records
    if len(parts) == 1:
        return first

    def joined(column: Callable[[Records], Sequence[Any]]) -> list[Any]:
        return list(chain.from_iterable(column(part.records) for part in parts))

    return Records(
        first.topic,
        first.partition,
        joined(lambda r: r.offsets),
        joined(lambda r: r.times_ms),
        joined(lambda r: r.keys),
        joined(lambda r: r.values),
    )


def fetched(tp: TopicPartition, records: Sequence[ConsumerRecord]) -> Fetched:
    """What aiokafka fetched, as columns."""
    values = [r.value for r in records]
    offsets, times_ms = [r.offset for r in records], [r.timestamp for r in records]
    batch = Records(tp.topic, tp.partition, offsets, times_ms, [r.key for r in records], values)
    return Fetched(batch, records[0].timestamp_type == 0, _bytes(values))


def _bytes(values: Sequence[bytes | None]) -> int:
    return sum(map(len, filter(None, values)))
