"""What records become: rows of ClickHouse tables, and dead letters for those that were refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.ledger.chain import Verdict
from pipeline.core.ledger.names import Position
from pipeline.core.rows.blocks import Block, Place
from pipeline.core.rows.native import Column, Numbers, Strings
from pipeline.core.tally import Ints
from schemas.event import TIME_MS_MAX
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted, Adjustment

T = TypeVar("T")

DEAD_LETTER_BYTES_MAX = 64 << 10  # what is kept of a refused record's value


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a cut of the recorder holds: rows by table, what was refused or adjusted, what the chain said."""

    blocks: tuple[Block, ...]
    refused: Counter[Reason] = field(default_factory=Counter)
    adjusted: Counter[Adjustment] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    chain: Mapping[int, Position] = field(default_factory=dict)  # positions after it


class RowsOf:
    """Accepted records, split from refused ones."""

    def __init__(self, records: Batch) -> None:
        self.records = records
        self.positions: list[int] = []
        self.refused: list[tuple[int, Rejected]] = []
        self.adjusted: Counter[Adjustment] = Counter()

    def accepted(self, position: int, found: T | Adjusted[T] | Rejected) -> T | None:
        """The record at a position, counted as what it is; None if it was refused."""
        if isinstance(found, Rejected):
            self.refused.append((position, found))
            return None
        self.positions.append(position)
        if isinstance(found, Adjusted):
            self.adjusted.update(found.adjustments)
            return found.value
        return found

    def recorded(self, table: str, columns: Mapping[str, Column], **more: Any) -> Recorded:
        """The rows of `table`, and those of dead_letters."""
        blocks = (
            [_log_block(self.records, table, columns, np.array(self.positions, np.int64))] if self.positions else []
        )
        if self.refused:
            blocks.append(dead_letters(self.records, self.refused))
        refused = Counter(rejected.reason for _, rejected in self.refused)
        return Recorded(tuple(blocks), refused, self.adjusted, **more)


def dead_letters(records: Batch, refused: Sequence[tuple[int, Rejected]]) -> Block:
    """The rows of dead_letters for refused records: (position among the records, why)."""
    positions = np.array([position for position, _ in refused], np.int64)
    values = [records.values[position] or b"" for position, _ in refused]
    columns: dict[str, Column] = {
        "reason": Strings([rejected.reason.value for _, rejected in refused]),
        "field": Strings([rejected.field for _, rejected in refused]),
        "kafka_topic": Strings([records.topic] * len(refused)),
        "key": Strings([records.keys[position] or b"" for position, _ in refused]),
        "value": Strings([value[:DEAD_LETTER_BYTES_MAX] for value in values]),
        "value_bytes": Numbers("UInt64", np.array([len(value) for value in values])),
    }
    return _log_block(records, "dead_letters", columns, positions, records.topic)


def _log_block(records: Batch, table: str, columns: Mapping[str, Column], positions: Ints, topic: str = "") -> Block:
    """With where each row comes from: how a table is asked whether a cut is in."""
    offsets = np.array(records.offsets, np.int64)[positions]
    # Times that a column can hold: on a topic with CreateTime they are whatever a producer says.
    times = np.clip(np.array(records.times_ms, np.int64), 0, TIME_MS_MAX)[positions]
    of_log = {
        "kafka_partition": Numbers("UInt16", np.full(len(positions), records.partition, np.int64)),
        "kafka_offset": Numbers("UInt64", offsets),
        "kafka_time": Numbers("DateTime64(3)", times),
    }
    return Block.of(table, {**columns, **of_log}, offsets, Place(records.partition, times, topic))
