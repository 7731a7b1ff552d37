"""Columns in ClickHouse's Native format: what an insert's body is made of, and how to take some of its rows.

A block is: number of columns, number of rows, then for each column its name, its type, its prefix and its data.
https://clickhouse.com/docs/interfaces/formats/Native
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import entries_of
from pipeline.core.tally import Ints

DTYPES = {
    "UInt8": "<u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8", "UInt128": "<u8", "Int32": "<i4", "Int64": "<i8",
    "Float32": "<f4", "Float64": "<f8", "DateTime": "<u4", "DateTime64(3)": "<i8",
}  # fmt: skip


class Column(Protocol):
    """A column of a block."""

    @property
    def type(self) -> str:
        """Its type in ClickHouse."""

    @property
    def prefix(self) -> bytes:
        """What comes once, before all data, however deep the column is nested."""

    def data(self) -> bytes:
        """Its values as ClickHouse reads them."""

    def take(self, rows: Ints) -> "Column":
        """These rows, in this order."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of a fixed size; `DateTime` in seconds, `DateTime64(3)` in milliseconds, `UInt128` as (rows, 2)."""

    type: str
    values: npt.NDArray[np.generic]

    @property
    def prefix(self) -> bytes:
        """None."""
        return b""

    def data(self) -> bytes:
        """The values, little-endian."""
        return self.values.astype(DTYPES[self.type], copy=False).tobytes()

    def take(self, rows: Ints) -> "Numbers":
        """These rows, in this order."""
        return Numbers(self.type, self.values[rows])


@dataclass(frozen=True, slots=True)
class NullableNumbers:
    """Numbers that may be unknown: `known` is a mask of shape (rows,)."""

    inner: Numbers
    known: npt.NDArray[np.bool_]

    @property
    def type(self) -> str:
        """Nullable of the inner type."""
        return f"Nullable({self.inner.type})"

    @property
    def prefix(self) -> bytes:
        """That of the inner column."""
        return self.inner.prefix

    def data(self) -> bytes:
        """The mask of nulls, then the values."""
        return (~self.known).tobytes() + self.inner.data()

    def take(self, rows: Ints) -> "NullableNumbers":
        """These rows, in this order."""
        return NullableNumbers(self.inner.take(rows), self.known[rows])


@dataclass(frozen=True, slots=True)
class Strings:
    """Texts, or bytes as they are. A LowCardinality column takes them, too."""

    values: Sequence[str | bytes]
    type: str = "String"

    @property
    def prefix(self) -> bytes:
        """None."""
        return b""

    def data(self) -> bytes:
        """Each value with its length before it."""
        values = self.values
        if len(set(values)) == 1:  # most often: not given
            return _prefixed(values[0]) * len(values)
        encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
        return b"".join([part for value in encoded for part in (_LENGTHS[len(value)], value)])

    def take(self, rows: Ints) -> "Strings":
        """These rows, in this order."""
        return Strings([self.values[row] for row in rows.tolist()])


@dataclass(frozen=True, slots=True)
class CodedNames:
    """Texts that recur: each is sent once, and meant by its number. `numbers` has shape (rows,)."""

    names: Sequence[str]
    numbers: Ints
    type: str = "LowCardinality(String)"

    @property
    def prefix(self) -> bytes:
        """The version of what follows."""
        return _uint64(1)

    def data(self) -> bytes:
        """How wide the numbers are, the names, the numbers."""
        if not len(self.numbers):
            return b""
        count = len(self.names)
        width = 0 if count <= 1 << 8 else 1 if count <= 1 << 16 else 2
        return b"".join(
            (
                _uint64(_NAMES_COME_WITH_IT | width),
                _uint64(count),
                Strings(self.names).data(),
                _uint64(len(self.numbers)),
                self.numbers.astype(("<u1", "<u2", "<u4")[width]).tobytes(),
            )
        )

    def take(self, rows: Ints) -> "CodedNames":
        """These rows, in this order."""
        return CodedNames(self.names, self.numbers[rows])


@dataclass(frozen=True, slots=True)
class Lists:
    """Arrays: row i has the next sizes[i] of `values`."""

    sizes: Ints
    values: Column

    @property
    def type(self) -> str:
        """Array of the inner type."""
        return f"Array({self.values.type})"

    @property
    def prefix(self) -> bytes:
        """That of the inner column."""
        return self.values.prefix

    def data(self) -> bytes:
        """Where each row ends, then all values."""
        return np.cumsum(self.sizes).astype("<u8").tobytes() + self.values.data()

    def take(self, rows: Ints) -> "Lists":
        """These rows, in this order."""
        return Lists(self.sizes[rows], self.values.take(entries_of(self.sizes, rows)))


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps: row i has the next sizes[i] of `keys` and `values`."""

    sizes: Ints
    keys: Column
    values: Column

    @property
    def type(self) -> str:
        """Map of the inner types."""
        return f"Map({self.keys.type}, {self.values.type})"

    @property
    def prefix(self) -> bytes:
        """Those of the inner columns."""
        return self.keys.prefix + self.values.prefix

    def data(self) -> bytes:
        """Where each row ends, all keys, all values."""
        return np.cumsum(self.sizes).astype("<u8").tobytes() + self.keys.data() + self.values.data()

    def take(self, rows: Ints) -> "Maps":
        """These rows, in this order."""
        entries = entries_of(self.sizes, rows)
        return Maps(self.sizes[rows], self.keys.take(entries), self.values.take(entries))


def block(columns: Mapping[str, Column], rows: int) -> bytes:
    """One block in Native format. All columns have `rows` rows."""
    parts = [_varint(len(columns)), _varint(rows)]
    for name, column in columns.items():
        parts += (_prefixed(name), _prefixed(column.type), column.prefix, column.data())
    return b"".join(parts)


def _prefixed(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode()
    return _LENGTHS[len(encoded)] + encoded


def _uint64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Lengths(dict[int, bytes]):
    """Lengths as varints; the short ones are at hand."""

    def __missing__(self, length: int) -> bytes:
        return _varint(length)


_LENGTHS = _Lengths((length, _varint(length)) for length in range(1 << 10))
_NAMES_COME_WITH_IT = 0x600  # has additional keys, and needs no dictionary from before
