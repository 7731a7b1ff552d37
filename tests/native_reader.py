"""An independent reader of ClickHouse's Native format, for the types that we write."""

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

_NUMBERS = {
    "UInt8": "B", "UInt16": "H", "UInt32": "I", "UInt64": "Q", "Int32": "i", "Int64": "q",
    "Float32": "f", "Float64": "d", "DateTime": "I", "DateTime64(3)": "q",
}  # fmt: skip


class _Bytes:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.raw), "the block ends too soon"
        self.at += count
        return self.raw[self.at - count : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def string(self) -> bytes:
        return self.take(self.varint())


def read_block(
    raw: bytes, strings: Callable[[bytes], Any] = bytes.decode
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The types of a block's columns, and its rows."""
    source = _Bytes(raw)
    column_count, row_count = source.varint(), source.varint()
    types: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    for _ in range(column_count):
        name = source.string().decode()
        assert name not in types
        types[name] = source.string().decode()
        for _ in range(types[name].count("LowCardinality(")):
            assert source.take(8) == b"\x01" + bytes(7), "the version of its dictionary"
        columns[name] = _values(source, types[name], row_count, strings)
    assert source.at == len(raw), "the block goes on after its last column"
    return types, [{name: columns[name][i] for name in columns} for i in range(row_count)]


def _values(source: _Bytes, type_: str, count: int, strings: Callable[[bytes], Any]) -> list[Any]:
    if type_ == "String":
        return [strings(source.string()) for _ in range(count)]
    if type_ == "UInt128":
        return [int.from_bytes(source.take(16), "little") for _ in range(count)]
    if type_ in _NUMBERS:
        code = f"<{count}{_NUMBERS[type_]}"
        return list(struct.unpack(code, source.take(struct.calcsize(code))))
    outer, _, inner = type_.removesuffix(")").partition("(")
    if outer == "LowCardinality":
        return _by_number(source, inner, count, strings) if count else []
    if outer == "Nullable":
        nulls = source.take(count)
        return [
            None if null else value for null, value in zip(nulls, _values(source, inner, count, strings), strict=True)
        ]
    ends = [0, *_values(source, "UInt64", count, strings)]
    slices = list(pairwise(ends))
    if outer == "Array":
        values = _values(source, inner, ends[-1], strings)
        return [values[start:end] for start, end in slices]
    assert outer == "Map", type_
    key_type, value_type = inner.split(", ", 1)
    keys = _values(source, key_type, ends[-1], strings)
    values = _values(source, value_type, ends[-1], strings)
    return [dict(zip(keys[start:end], values[start:end], strict=True)) for start, end in slices]


def _by_number(source: _Bytes, type_: str, count: int, strings: Callable[[bytes], Any]) -> list[Any]:
    width, flags = source.take(1)[0], source.take(7)
    assert flags == b"\x06" + bytes(6), "its names come with it"
    (name_count,) = _values(source, "UInt64", 1, strings)
    names = _values(source, type_, name_count, strings)
    assert _values(source, "UInt64", 1, strings) == [count]
    return [names[number] for number in _values(source, ("UInt8", "UInt16", "UInt32")[width], count, strings)]
