"""Blocks: rows for one table as ClickHouse reads them, and what the table is asked by whether they are in.

Whoever makes a block encodes it once. Only a mend takes it apart again, which is rare: it reads the columns back from
the bytes, so that nothing but the bytes must be kept, whoever made them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.ledger.names import mark
from pipeline.core.rows.native import DTYPES, CodedNames, Column, Lists, Maps, NullableNumbers, Numbers, Strings, block
from pipeline.core.tally import Ints


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a block come from, and where they belong."""

    partition: int
    times: Ints  # of each row: the broker's time in ms; of a window its start in s
    topic: str = ""  # where the table holds rows of several
    epoch: int = 0  # of windows

    def marks(self, offsets: Ints) -> Ints:
        """How far a window has come that has a row of this offset."""
        return mark(self.epoch, 0) + offsets


@dataclass(frozen=True, slots=True)
class Block:
    """Rows for one table. `offsets` says of which record each is, shape (rows,)."""

    table: str
    names: tuple[str, ...]  # of the columns
    body: bytes  # in Native format
    offsets: Ints
    place: Place

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def of(cls, table: str, columns: Mapping[str, Column], offsets: Ints, place: Place) -> "Block":
        """Encodes the columns."""
        return cls(table, tuple(columns), block(columns, len(offsets)), offsets, place)

    def take(self, rows: Ints) -> "Block":
        """These rows, in this order."""
        columns = {name: column.take(rows) for name, column in read(self.body).items()}
        return Block.of(self.table, columns, self.offsets[rows], replace(self.place, times=self.place.times[rows]))

    def floored(self, table: str, seconds: int) -> "Block":
        """Windows as the materialized view of a rollup makes them."""
        starts = self.place.times - self.place.times % seconds
        columns = {**read(self.body), "window_start": Numbers("DateTime", starts)}
        return Block.of(table, columns, self.offsets, replace(self.place, times=starts))


def read(body: bytes) -> dict[str, Column]:
    """The columns of a block, as native.py writes them."""
    source = _Source(body)
    column_count, rows = source.varint(), source.varint()
    columns: dict[str, Column] = {}
    for _ in range(column_count):
        name, type_ = source.text().decode(), source.text().decode()
        source.skip(8 * type_.count("LowCardinality("))  # the versions of their dictionaries
        columns[name] = source.column(type_, rows)
    return columns


class _Source:
    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    def skip(self, size: int) -> None:
        self._at += size

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._body[self._at]
            self._at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def text(self) -> bytes:
        size = self.varint()
        self._at += size
        return self._body[self._at - size : self._at]

    def numbers(self, dtype: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self._body, dtype, count, self._at)
        self._at += found.nbytes
        return found

    def column(self, type_: str, count: int) -> Column:
        if type_ == "String":
            return Strings([self.text() for _ in range(count)])
        if type_ in DTYPES:
            halves = 2 if type_ == "UInt128" else 1
            values = self.numbers(DTYPES[type_], halves * count)
            return Numbers(type_, values.reshape(count, 2) if halves == 2 else values)
        outer, _, inner = type_.removesuffix(")").partition("(")
        if outer == "Nullable":
            known = self.numbers("?", count)
            numbers = self.column(inner, count)
            assert isinstance(numbers, Numbers)
            return NullableNumbers(numbers, ~known)
        if outer == "LowCardinality":
            return self._names(count)
        ends = self.numbers("<u8", count).astype(np.int64)
        sizes, total = np.diff(ends, prepend=0), int(ends[-1]) if count else 0
        if outer == "Array":
            return Lists(sizes, self.column(inner, total))
        assert outer == "Map", type_
        key_type, value_type = inner.split(", ", 1)
        keys = self.column(key_type, total)
        return Maps(sizes, keys, self.column(value_type, total))

    def _names(self, count: int) -> CodedNames:
        if not count:
            return CodedNames([], np.zeros(0, np.int64))
        width = self.varint()
        self.skip(7)
        (names,) = self.numbers("<u8", 1)
        texts = [self.text().decode() for _ in range(names)]
        self.skip(8)
        return CodedNames(texts, self.numbers(("<u1", "<u2", "<u4")[width], count).astype(np.int64))
