"""Closed windows on their way from the aggregator to the recorder and the detector: topic inference.aggregates.

Internal, versioned, columnar: a record holds many rows, and a reader wants columns. Of every cut each partition of the
topic gets one record or more (`start` to `end` is one link of the chain), also when there is nothing for it to tell.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.rejection import Reason, Rejected, decode_or_reject

VERSION = 1

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Counts = list[Count]
Seconds = Annotated[int, Meta(ge=0, lt=2**32)]  # since 1970, as ClickHouse's DateTime
Key = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class HistogramColumn(msgspec.Struct, frozen=True):
    """One sparse histogram a row, end to end: row i has the next sizes[i] of keys and counts."""

    sizes: Counts
    keys: Sequence[Key]
    counts: Sequence[Count]


class ModelColumns(msgspec.Struct, frozen=True):
    """Rows of model_windows. Sums, min and max mean something only where their count is not 0."""

    window_start_s: list[Seconds]
    workspace: list[str]
    model_id: list[str]
    device_id: list[str]
    inference_count: Counts
    error_count: Counts
    empty_count: Counts
    detection_count: Counts
    latency_count: Counts
    latency_us_sum: Counts
    latency_us_min: Counts
    latency_us_max: Counts
    latency_histogram: HistogramColumn
    confidence_ppm_sum: Counts
    confidence_ppm_min: Counts
    confidence_ppm_max: Counts
    confidence_histogram: HistogramColumn


class ClassColumns(msgspec.Struct, frozen=True):
    """Rows of class_windows."""

    window_start_s: list[Seconds]
    workspace: list[str]
    model_id: list[str]
    class_name: list[str]
    detection_count: Counts
    inference_count: Counts
    confidence_ppm_sum: Counts
    confidence_ppm_min: Counts
    confidence_ppm_max: Counts
    confidence_histogram: HistogramColumn


Link = Annotated[Counts, Meta(min_length=4, max_length=4)]  # epoch, offset, through_ms, part


class AggregateRecord(msgspec.Struct, frozen=True):
    """One record: the rows of one cut (or a part of it) that belong to one partition of the topic."""

    version: int
    source: Annotated[int, Meta(ge=0, lt=2**16)]  # the partition of inference.events
    start: Link
    end: Link
    cut: Annotated[Counts, Meta(min_length=7, max_length=7)]  # its whole name, should the committed one be lost
    low: Count  # where a restart reads from once this cut is done
    models: ModelColumns
    classes: ClassColumns
    # Of the cut's records, those between its offsets; in one record of each cut, and not told by what is older.
    read_count: Count = 0
    refused: dict[str, Count] = {}  # by reason


_decode_json = msgspec.json.Decoder(AggregateRecord).decode


def decode(raw: bytes | None) -> AggregateRecord | Rejected:
    """The record in `raw`, or why it is refused. Never raises."""
    record = decode_or_reject(_decode_json, raw, bytes_max=8 << 20)
    if not isinstance(record, AggregateRecord):
        return record
    if record.version != VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "version")
    if record.start >= record.end:
        return Rejected(Reason.OUT_OF_RANGE, "end")
    for columns in (record.models, record.classes):
        if torn := _torn(columns):
            return Rejected(Reason.OUT_OF_RANGE, torn)
    return record


def _torn(columns: ModelColumns | ClassColumns) -> str:
    """The first column that is not as long as the others; "" if all are."""
    rows = len(columns.window_start_s)
    for name in columns.__struct_fields__:
        column = getattr(columns, name)
        if isinstance(column, HistogramColumn):
            entries = len(column.keys), len(column.counts)
            if len(column.sizes) != rows or entries != (sum(column.sizes), sum(column.sizes)):
                return name
        elif len(column) != rows:
            return name
    return ""
