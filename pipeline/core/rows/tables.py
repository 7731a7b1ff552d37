"""What records become: rows of ClickHouse tables, and dead letters for those that were refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.ledger.chain import Verdict
from pipeline.core.ledger.names import Position
from pipeline.core.rows.native import Column, Numbers, Strings, block
from pipeline.core.tally import Ints
from schemas.event import TIME_MS_MAX
from schemas.rejection import Reason, Rejected

DEAD_LETTER_BYTES_MAX = 64 << 10  # what is kept of a refused record's value


@dataclass(frozen=True, slots=True)
class Records:
    """Some records of one partition, in log order."""

    topic: str  # as on the broker
    partition: int
    offsets: Sequence[int]
    times_ms: Sequence[int]  # the broker's
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows for one table. `offsets` says of which records, shape (rows,)."""

    table: str
    columns: Mapping[str, Column]
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: Ints) -> "TableRows":
        """These rows, in this order."""
        return TableRows(self.table, {n: c.take(rows) for n, c in self.columns.items()}, self.offsets[rows])

    def native(self) -> bytes:
        """The rows as one block."""
        return block(self.columns, len(self))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a cut of the recorder holds: rows by table, what was refused, what the chain said."""

    tables: tuple[TableRows, ...]
    refused: Counter[Reason] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    chain: Mapping[int, Position] = field(default_factory=dict)  # positions after it


class RowsOf:
    """Accepted records, split from refused ones."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.positions: list[int] = []
        self.refused: list[tuple[int, Rejected]] = []

    def log_columns(self) -> dict[str, Column]:
        """Where each row comes from: how a table is asked whether a cut is in."""
        taken = np.array(self.positions, np.int64)
        partition = np.full(len(taken), self.records.partition, np.int64)
        return {
            "kafka_partition": Numbers("UInt16", partition),
            "kafka_offset": Numbers("UInt64", np.array(self.records.offsets, np.int64)[taken]),
            "kafka_time": Numbers("DateTime64(3)", _kept_times(self.records)[taken]),
        }

    def recorded(self, table: str, columns: Mapping[str, Column], **more: Any) -> Recorded:
        """The rows of `table`, and those of dead_letters."""
        offsets = np.array(self.records.offsets, np.int64)[np.array(self.positions, np.int64)]
        tables = [TableRows(table, {**columns, **self.log_columns()}, offsets)]
        if self.refused:
            tables.append(dead_letters(self.records, self.refused))
        refused = Counter(rejected.reason for _, rejected in self.refused)
        return Recorded(tuple(t for t in tables if len(t)), refused, **more)


def dead_letters(records: Records, refused: Sequence[tuple[int, Rejected]]) -> TableRows:
    """The rows of dead_letters for refused records: (position among the records, why)."""
    positions = np.array([position for position, _ in refused], np.int64)
    values = [records.values[position] or b"" for position, _ in refused]
    offsets = np.array(records.offsets, np.int64)[positions]
    columns: dict[str, Column] = {
        "reason": Strings([rejected.reason.value for _, rejected in refused]),
        "field": Strings([rejected.field for _, rejected in refused]),
        "kafka_topic": Strings([records.topic] * len(refused)),
        "kafka_partition": Numbers("UInt16", np.full(len(refused), records.partition)),
        "kafka_offset": Numbers("UInt64", offsets),
        "kafka_time": Numbers("DateTime64(3)", _kept_times(records)[positions]),
        "key": Strings([records.keys[position] or b"" for position, _ in refused]),
        "value": Strings([value[:DEAD_LETTER_BYTES_MAX] for value in values]),
        "value_bytes": Numbers("UInt64", np.array([len(value) for value in values])),
    }
    return TableRows("dead_letters", columns, offsets)


def _kept_times(records: Records) -> Ints:
    """Broker timestamps that a column can hold: on a topic with CreateTime they are whatever a producer says."""
    return np.clip(np.array(records.times_ms, np.int64), 0, TIME_MS_MAX)
