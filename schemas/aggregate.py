"""Closed windows on their way from the aggregator to the recorder and the detector: topic inference.aggregates.

Internal, versioned, columnar: a record holds many rows, and a reader wants columns. Of every cut each partition of the
topic gets one record or more (`start` to `end` is one link of the chain), also when there is nothing for it to tell.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.rejection import Reason, Rejected, decode_or_reject

VERSION = 1


class HistogramColumn(msgspec.Struct, frozen=True):
    """One sparse histogram a row, end to end: row i has the next sizes[i] of keys and counts."""

    sizes: list[int]
    keys: list[int]
    counts: list[int]


class ModelColumns(msgspec.Struct, frozen=True):
    """Rows of model_windows. Sums, min and max mean something only where their count is not 0."""

    window_start_s: list[int]
    workspace: list[str]
    model_id: list[str]
    device_id: list[str]
    inference_count: list[int]
    error_count: list[int]
    empty_count: list[int]
    detection_count: list[int]
    latency_count: list[int]
    latency_us_sum: list[int]
    latency_us_min: list[int]
    latency_us_max: list[int]
    latency_histogram: HistogramColumn
    confidence_ppm_sum: list[int]
    confidence_ppm_min: list[int]
    confidence_ppm_max: list[int]
    confidence_histogram: HistogramColumn


class ClassColumns(msgspec.Struct, frozen=True):
    """Rows of class_windows."""

    window_start_s: list[int]
    workspace: list[str]
    model_id: list[str]
    class_name: list[str]
    detection_count: list[int]
    inference_count: list[int]
    confidence_ppm_sum: list[int]
    confidence_ppm_min: list[int]
    confidence_ppm_max: list[int]
    confidence_histogram: HistogramColumn


Link = Annotated[list[int], Meta(min_length=4, max_length=4)]  # epoch, offset, through_ms, part


class AggregateRecord(msgspec.Struct, frozen=True):
    """One record: the rows of one cut (or a part of it) that belong to one partition of the topic."""

    version: int
    source: Annotated[int, Meta(ge=0)]  # the partition of inference.events
    start: Link
    end: Link
    low: int  # where a restart reads from once this cut is done
    models: ModelColumns
    classes: ClassColumns


_decode_json = msgspec.json.Decoder(AggregateRecord).decode


def decode(raw: bytes | None) -> AggregateRecord | Rejected:
    """The record in `raw`, or why it is refused. Never raises."""
    record = decode_or_reject(_decode_json, raw, bytes_max=8 << 20)
    if isinstance(record, AggregateRecord) and record.version != VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "version")
    return record
