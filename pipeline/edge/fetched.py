"""Records as they come from a fetch, in batches of one partition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.core.tables import Records


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
        at = next(i for i, o in enumerate(offsets) if o >= offset)
        return self._slice(slice(None, at)), self._slice(slice(at, None))

    def _slice(self, part: slice) -> "Fetched":
        r = self.records
        values = r.values[part]
        records = Records(r.topic, r.partition, r.offsets[part], r.times_ms[part], r.keys[part], values)
        return Fetched(records, self.create_time, sum(len(v) for v in values if v is not None))


def join(parts: Sequence[Fetched]) -> Records:
    """The records of all parts, in order."""
    first = parts[0].records
    if len(parts) == 1:
        return first

    def chain(pick: Callable[[Records], Sequence[Any]]) -> list[Any]:
        return [item for part in parts for item in pick(part.records)]

    return Records(
        first.topic,
        first.partition,
        chain(lambda r: r.offsets),
        chain(lambda r: r.times_ms),
        chain(lambda r: r.keys),
        chain(lambda r: r.values),
    )


def fetched(tp: TopicPartition, records: Sequence[ConsumerRecord]) -> Fetched:
    """What aiokafka fetched, as columns."""
    values = [r.value for r in records]
    offsets, times_ms = [r.offset for r in records], [r.timestamp for r in records]
    batch = Records(tp.topic, tp.partition, offsets, times_ms, [r.key for r in records], values)
    return Fetched(batch, records[0].timestamp_type == 0, sum(len(v) for v in values if v is not None))
