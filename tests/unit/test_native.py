"""Blocks in Native format, byte by byte."""

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.rows.native import CodedNames, Column, Lists, Maps, NullableNumbers, Numbers, Strings, block
from pipeline.core.tally import Ints
from tests.native_reader import read_block


def ints(*values: int) -> Ints:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("type_", "values", "data"),
    [
        ("UInt8", [1, 255], b"\x01\xff"),
        ("UInt16", [1, 0xFFFE], b"\x01\x00\xfe\xff"),
        ("UInt32", [1, 0xFFFFFFFE], b"\x01\x00\x00\x00\xfe\xff\xff\xff"),
        ("UInt64", [1, 2**62], b"\x01" + b"\x00" * 7 + b"\x00" * 7 + b"\x40"),
        ("Int32", [-2, -(2**31)], b"\xfe\xff\xff\xff\x00\x00\x00\x80"),
        ("Int64", [-2], b"\xfe" + b"\xff" * 7),
        ("Float32", [1.0, -0.5], b"\x00\x00\x80\x3f\x00\x00\x00\xbf"),
        ("Float64", [1.0], b"\x00\x00\x00\x00\x00\x00\xf0\x3f"),
        ("DateTime", [1_795_373_680], b"\x70\x3a\x03\x6b"),
        ("DateTime64(3)", [-1], b"\xff" * 8),
    ],
)
def test_numbers_are_little_endian_in_the_size_of_their_type(type_: str, values: list[float], data: bytes) -> None:
    column = Numbers(type_, np.array(values))
    assert column.data() == data
    assert column.type == type_


def test_whole_numbers_held_as_floats_are_written_as_integers() -> None:
    assert Numbers("UInt64", np.array([86_400_000_000.0])).data() == struct.pack("<Q", 86_400_000_000)


def test_unknown_numbers_are_a_mask_and_then_all_values() -> None:
    column = NullableNumbers(Numbers("UInt16", ints(7, 0, 9)), np.array([True, False, True]))
    assert column.type == "Nullable(UInt16)"
    assert column.data() == b"\x00\x01\x00" + b"\x07\x00\x00\x00\x09\x00"


def test_strings_have_their_length_in_bytes_before_them() -> None:
    assert Strings(["", "ab", "é", b"\xff\x00"]).data() == b"\x00\x02ab\x02\xc3\xa9\x02\xff\x00"


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 16_383, 16_384, 65_536])
def test_strings_of_any_length_are_written_whole(length: int) -> None:
    low, high = length & 127, length >> 7
    prefix = {True: bytes([low]), False: bytes([low | 128, high & 127 | (128 if high > 127 else 0)])}[length < 128]
    prefix += bytes([length >> 14]) if length > 16_383 else b""
    assert Strings(["x" * length, b"y" * length]).data() == prefix + b"x" * length + prefix + b"y" * length


def test_a_text_and_the_same_bytes_are_written_alike() -> None:
    assert Strings(["aé", "aé".encode(), "aé"]).data() == b"\x03a\xc3\xa9" * 3


def test_lists_are_where_each_row_ends_and_then_all_values() -> None:
    column = Lists(ints(2, 0, 1), Numbers("UInt8", ints(1, 2, 3)))
    assert column.type == "Array(UInt8)"
    assert column.data() == struct.pack("<3Q", 2, 2, 3) + b"\x01\x02\x03"


def test_lists_of_lists_say_where_rows_end_at_each_depth() -> None:
    column = Lists(ints(2, 1), Lists(ints(1, 0, 2), Strings(["a", "b", "c"])))
    assert column.type == "Array(Array(String))"
    assert column.data() == struct.pack("<2Q", 2, 3) + struct.pack("<3Q", 1, 1, 3) + b"\x01a\x01b\x01c"


def test_maps_are_where_each_row_ends_then_all_keys_then_all_values() -> None:
    column = Maps(ints(0, 2), Strings(["a", "b"]), Numbers("UInt8", ints(5, 6)))
    assert column.type == "Map(String, UInt8)"
    assert column.data() == struct.pack("<2Q", 0, 2) + b"\x01a\x01b" + b"\x05\x06"


def test_names_are_sent_once_and_meant_by_number() -> None:
    column = CodedNames(["b", "a"], ints(0, 1, 0))
    assert column.type == "LowCardinality(String)"
    assert column.prefix == struct.pack("<Q", 1)
    head = struct.pack("<Q", 0x600)  # numbers of one byte; the names come with it
    assert column.data() == head + struct.pack("<Q", 2) + b"\x01b\x01a" + struct.pack("<Q", 3) + b"\x00\x01\x00"


@pytest.mark.parametrize(("count", "width", "code"), [(256, 0, "B"), (257, 1, "H"), (65_536, 1, "H"), (65_537, 2, "I")])
def test_the_numbers_of_names_are_as_wide_as_they_must_be(count: int, width: int, code: str) -> None:
    data = CodedNames([str(n) for n in range(count)], ints(0, count - 1)).data()
    assert data[:8] == bytes([width, 6]) + bytes(6)
    assert data.endswith(struct.pack(f"<Q2{code}", 2, 0, count - 1))


def test_no_names_are_nothing_but_their_version() -> None:
    assert block({"n": CodedNames([], ints())}, 0) == b"\x01\x00\x01n\x16LowCardinality(String)" + struct.pack("<Q", 1)


def test_the_version_of_names_comes_before_the_lists_that_they_are_in() -> None:
    column = Lists(ints(1), Lists(ints(1), CodedNames(["a"], ints(0))))
    assert column.prefix == struct.pack("<Q", 1)
    ends = struct.pack("<Q", 1) * 2
    assert block({"n": column}, 1).endswith(column.prefix + ends + CodedNames(["a"], ints(0)).data())
    assert Maps(ints(), CodedNames([], ints()), CodedNames([], ints())).prefix == struct.pack("<2Q", 1, 1)


def test_a_block_is_its_shape_and_then_each_column_with_name_and_type() -> None:
    columns: dict[str, Column] = {"id": Strings(["x", "y"]), "n": Numbers("UInt8", ints(1, 2))}
    assert block(columns, 2) == b"\x02\x02\x02id\x06String\x01x\x01y\x01n\x05UInt8\x01\x02"


def test_a_blocks_row_count_may_take_several_bytes() -> None:
    assert block({"n": Numbers("UInt8", np.zeros(300))}, 300) == b"\x01\xac\x02\x01n\x05UInt8" + b"\x00" * 300


def test_a_block_may_have_no_rows() -> None:
    assert block({"n": Lists(ints(), Numbers("UInt8", ints()))}, 0) == b"\x01\x00\x01n\x0cArray(UInt8)"


rows_of_any_kind = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.integers(0, 2**32 - 1),
            "maybe": st.none() | st.integers(-(2**31), 2**31 - 1),
            "name": st.sampled_from(("", "a", "é", "b" * 70)),
            "text": st.text(max_size=5) | st.text(min_size=60, max_size=70),
            "list": st.lists(st.text(max_size=3), max_size=3),
            "names": st.lists(st.sampled_from("abc"), max_size=3),
            "nested": st.lists(st.lists(st.integers(0, 255), max_size=3), max_size=3),
            "map": st.dictionaries(st.text(max_size=3), st.integers(0, 2**62), max_size=3),
        }
    ),
    max_size=6,
)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, Column]:
    """Columns as our code makes them, of rows as Python has them."""

    def flat(name: str) -> list[Any]:
        return [entry for row in rows for entry in row[name]]

    def sizes(lists: Iterable[Any]) -> Ints:
        return ints(*map(len, lists))

    def names(values: Iterable[str]) -> CodedNames:
        several = list(values)
        known = sorted(set(several))
        return CodedNames(known, ints(*map(known.index, several)))

    maybe = [row["maybe"] for row in rows]
    maps = [row["map"] for row in rows]
    inner = flat("nested")
    return {
        "number": Numbers("UInt32", np.array([row["number"] for row in rows], np.int64)),
        "maybe": NullableNumbers(
            Numbers("Int32", np.array([n or 0 for n in maybe], np.int64)),
            np.array([n is not None for n in maybe], bool),
        ),
        "name": names(row["name"] for row in rows),
        "text": Strings([str(row["text"]) for row in rows]),
        "list": Lists(sizes(row["list"] for row in rows), Strings(flat("list"))),
        "names": Lists(sizes(row["names"] for row in rows), names(flat("names"))),
        "nested": Lists(
            sizes(row["nested"] for row in rows),
            Lists(sizes(inner), Numbers("UInt8", ints(*(n for i in inner for n in i)))),
        ),
        "map": Maps(
            sizes(maps),
            Strings(flat("map")),
            Numbers("UInt64", ints(*(n for m in maps for n in m.values()))),
        ),
    }


@settings(max_examples=40)
@given(rows_of_any_kind)
def test_a_reader_finds_the_rows_that_were_written(rows: list[dict[str, Any]]) -> None:
    types, found = read_block(block(columns_of(rows), len(rows)))
    assert found == rows
    assert types["nested"] == "Array(Array(UInt8))"


@settings(max_examples=40)
@given(rows_of_any_kind, st.data())
def test_taking_rows_is_choosing_them(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    columns = {name: column.take(ints(*some)) for name, column in columns_of(rows).items()}
    assert read_block(block(columns, len(some)))[1] == [rows[i] for i in some]
