"""Which offsets of a partition are rows or dead letters: counted in blocks, and told apart where a count is wrong."""

from dataclasses import dataclass
from typing import Any

from pipeline.core.audit import BLOCK
from pipeline.core.span import Span
from pipeline.edge.store.client import ClickHouse

GAPS_MAX = 1000  # missing ranges told apart in one block of offsets

_RECORDED = """
    SELECT kafka_offset FROM inferences WHERE kafka_partition = {partition:UInt16}
        AND kafka_offset >= {start:UInt64} AND kafka_offset < {end:UInt64}
        AND kafka_time >= fromUnixTimestamp64Milli({not_before_ms:Int64}, 'UTC')
    UNION ALL
    SELECT kafka_offset FROM dead_letters WHERE kafka_topic = {topic:String} AND kafka_partition = {partition:UInt16}
        AND kafka_offset >= {start:UInt64} AND kafka_offset < {end:UInt64}
        AND kafka_time >= fromUnixTimestamp64Milli({not_before_ms:Int64}, 'UTC')
"""

# A bitmap takes about a bit an offset, where a hash table takes 16 bytes.
_BLOCKS = f"""
    SELECT intDiv(kafka_offset, {BLOCK}) AS block, count(), groupBitmap(kafka_offset) FROM ({_RECORDED}) GROUP BY block
"""

_GAPS = f"""
    SELECT previous + 1, offset FROM (
        SELECT offset, lagInFrame(offset, 1, toInt64({{start:UInt64}}) - 1)
            OVER (ORDER BY offset ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS previous
        FROM (SELECT DISTINCT toInt64(kafka_offset) AS offset FROM ({_RECORDED})
              UNION ALL SELECT toInt64({{end:UInt64}}))
    ) WHERE offset > previous + 1 ORDER BY offset LIMIT {GAPS_MAX}
"""

_DOUBLED = f"""
    SELECT kafka_offset, count() AS times, count() OVER () FROM ({_RECORDED})
    GROUP BY kafka_offset HAVING times > 1 ORDER BY kafka_offset LIMIT {GAPS_MAX}
"""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Offsets of a partition. Rows that are older than `not_before_ms` are of an earlier topic of that name."""

    topic: str
    partition: int
    span: Span
    not_before_ms: int

    def _parameters(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "partition": self.partition,
            "start": self.span.start,
            "end": self.span.end,
            "not_before_ms": self.not_before_ms,
        }


@dataclass(frozen=True, slots=True)
class Doubled:
    """An offset that is there several times, one of `of` such."""

    offset: int
    times: int
    of: int


async def blocks(store: ClickHouse, offsets: Offsets) -> dict[int, tuple[int, int]]:
    """(rows, distinct offsets) of each block of BLOCK offsets that has any, by its number."""
    rows = await store.ask(_BLOCKS, offsets._parameters())
    return {int(block): (count, distinct) for block, count, distinct in rows}


async def gaps(store: ClickHouse, offsets: Offsets) -> list[Span]:
    """Ranges without a row, the first GAPS_MAX of them."""
    return [Span(start, end) for start, end in await store.ask(_GAPS, offsets._parameters())]


async def doubled(store: ClickHouse, offsets: Offsets) -> list[Doubled]:
    """The first GAPS_MAX of them."""
    return [Doubled(*row) for row in await store.ask(_DOUBLED, offsets._parameters())]
