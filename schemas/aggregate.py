"""Closed windows on their way from the aggregator to the recorder and the detector: topic inference.aggregates.

Internal, versioned, columnar: a record holds many rows, and a reader wants columns. It is a byte, the version, and then
MessagePack: arrays without names, a column of numbers as its bytes (little-endian). Which columns, and in which order,
schemas/windows.py says; a record of an older version lacks the columns that came later. Of every cut each partition
of the topic gets one record or more (`start` to `end` is one link of the chain), also with nothing for it to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from schemas.rejection import Reason, Rejected, classify
from schemas.windows import CLASSES, MODELS, TABLES, Summary, WindowTable

VERSION = max(column.since for table in TABLES for column in table.columns)
_BYTES_MAX = 8 << 20

Ints = npt.NDArray[np.int64]
Histogram = tuple[Ints, Ints, Ints]  # one a row, end to end: row i has the next sizes[i] of keys and counts

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Link = Annotated[list[Count], Meta(min_length=4, max_length=4)]  # epoch, offset, through_ms, part


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table of windows, by column. A wide number is two: shape (rows, 2), [:, 0] << 32 | [:, 1]."""

    window_start_s: Ints  # since 1970
    texts: Mapping[str, Sequence[str]]
    numbers: Mapping[str, Ints]
    histograms: Mapping[str, Histogram]

    def __len__(self) -> int:
        return len(self.window_start_s)


@dataclass(frozen=True, slots=True)
class AggregateRecord:
    """One record: the rows of one cut (or a part of it) that belong to one partition of the topic."""

    source: int  # the partition of inference.events
    start: list[int]
    end: list[int]
    cut: list[int]  # its whole name, should the committed one be lost
    low: int  # where a restart reads from once this cut is done
    models: Rows
    classes: Rows
    # Of the cut's records, those between its offsets; in one record of each cut.
    read_count: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)  # by reason
    topic_id: str = ""  # of inference.events, as its name has it


class _WireRows(msgspec.Struct, array_like=True, frozen=True):
    starts: bytes  # u32
    texts: list[list[str]]
    numbers: list[bytes]  # i64
    histograms: list[tuple[bytes, bytes, bytes]]  # u32, i32, i64


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    source: Annotated[int, Meta(ge=0, lt=2**16)]
    start: Link
    end: Link
    cut: Annotated[list[Count], Meta(min_length=7, max_length=7)]
    low: Count
    models: _WireRows
    classes: _WireRows
    read_count: Count
    refused: dict[str, Count]
    topic_id: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


def encode(record: AggregateRecord) -> bytes:
    """The record's bytes, as this version writes them."""
    r = record
    models, classes = _packed(MODELS, r.models), _packed(CLASSES, r.classes)
    wire = (r.source, r.start, r.end, r.cut, r.low, models, classes, r.read_count, r.refused, r.topic_id)
    return bytes((VERSION,)) + _encode(wire)


def decode(raw: bytes | None) -> AggregateRecord | Rejected:
    """The record in `raw`, or why it is refused. Never raises."""
    if not raw or not 1 <= raw[0] <= VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "version")
    if len(raw) > _BYTES_MAX:
        return Rejected(Reason.TOO_LARGE, "")
    try:
        wire = _decode(memoryview(raw)[1:])
        models, classes = _unpacked(MODELS, wire.models, raw[0]), _unpacked(CLASSES, wire.classes, raw[0])
    except msgspec.ValidationError as error:
        return classify(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Rejected(Reason.WRONG_TYPE, "")
    except _TornError as error:
        return Rejected(Reason.OUT_OF_RANGE, str(error))
    if wire.start >= wire.end:
        return Rejected(Reason.OUT_OF_RANGE, "end")
    told = wire.read_count, wire.refused, wire.topic_id
    return AggregateRecord(wire.source, wire.start, wire.end, wire.cut, wire.low, models, classes, *told)


def _packed(table: WindowTable, rows: Rows) -> _WireRows:
    def raw(numbers: Ints, dtype: str) -> bytes:
        return numbers.astype(dtype, copy=False).tobytes()

    return _WireRows(
        raw(rows.window_start_s, "<u4"),
        [list(rows.texts[name]) for name in table.keys],
        [raw(rows.numbers[c.name], "<i8") for c in table.columns if c.summary is not Summary.HISTOGRAM],
        [
            (raw(sizes, "<u4"), raw(keys, "<i4"), raw(counts, "<i8"))
            for sizes, keys, counts in (rows.histograms[name] for name in table.named(Summary.HISTOGRAM))
        ],
    )


class _TornError(Exception):
    """The first column that is not as long as the others, or holds what cannot be."""


def _unpacked(table: WindowTable, wire: _WireRows, version: int) -> Rows:
    count = len(wire.starts) // 4
    known = [c for c in table.columns if c.since <= version]
    plain = [c for c in known if c.summary is not Summary.HISTOGRAM]
    spread = [c for c in known if c.summary is Summary.HISTOGRAM]
    if (len(wire.texts), len(wire.numbers), len(wire.histograms)) != (len(table.keys), len(plain), len(spread)):
        raise _TornError(table.name)
    for name, texts in zip(table.keys, wire.texts, strict=True):
        if len(texts) != count:
            raise _TornError(name)
    numbers, histograms = {}, {}
    for column, raw in zip(plain, wire.numbers, strict=True):
        found = _ints(raw, "<i8", count << column.is_wide, column.name)
        numbers[column.name] = found.reshape(count, 2) if column.is_wide else found
    for column, (sizes, keys, counts) in zip(spread, wire.histograms, strict=True):
        of_rows = _ints(sizes, "<u4", count, column.name)
        total = int(of_rows.sum())
        entries = _ints(keys, "<i4", total, column.name, signed=True), _ints(counts, "<i8", total, column.name)
        histograms[column.name] = of_rows, *entries
    rows = Rows(
        _ints(wire.starts, "<u4", count, "window_start_s"),
        dict(zip(table.keys, wire.texts, strict=True)),
        numbers,
        histograms,
    )
    return rows if len(known) == len(table.columns) else with_all(table, rows)


def _ints(raw: bytes, dtype: str, count: int, name: str, signed: bool = False) -> Ints:
    if len(raw) != count * int(dtype[2]):
        raise _TornError(name)
    numbers = np.frombuffer(raw, dtype).astype(np.int64, copy=False)
    if count and not signed and numbers.min() < 0:
        raise _TornError(name)
    return numbers


def with_all(table: WindowTable, rows: Rows) -> Rows:
    """The same rows with every column of the table: those that they lack are 0, or empty."""
    none = np.zeros(0, np.int64)
    numbers, histograms = dict(rows.numbers), dict(rows.histograms)
    for column in table.columns:
        if column.summary is Summary.HISTOGRAM:
            histograms.setdefault(column.name, (np.zeros(len(rows), np.int64), none, none))
        else:
            numbers.setdefault(column.name, np.zeros((len(rows), 2) if column.is_wide else len(rows), np.int64))
    return Rows(rows.window_start_s, rows.texts, numbers, histograms)
