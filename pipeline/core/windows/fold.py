"""Rows of windows as columns: what the fold of events makes, and how rows of the same key merge.

Window, workspace, model, device and class of a row are numbers of a `Names`; texts come in when rows are published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.tally import Ints, count_pairs, dense_groups, distinct_per_group, group_max, group_min, group_sum
from pipeline.core.windows.histogram import ZERO_BUCKET, confidence_bins, latency_buckets

_ZERO = -1  # the zero bucket while we count: next to the others, so that tables stay small


@dataclass(frozen=True, slots=True)
class Histograms:
    """One sparse histogram a row: `row` is non-decreasing; all three have shape (entries,)."""

    row: Ints
    key: Ints
    count: Ints


@dataclass(frozen=True, slots=True)
class Spread:
    """Count, sum, least, largest and histogram of a value, a row each. Where the count is 0 the others are 0."""

    count: Ints
    sum: Ints
    min: Ints
    max: Ints
    histogram: Histograms


@dataclass(frozen=True, slots=True)
class ModelRows:
    """Rows by (model, device): `series` is the key, shape (rows,)."""

    series: Ints
    inference_count: Ints
    error_count: Ints
    empty_count: Ints
    latency: Spread  # microseconds
    confidence: Spread  # parts per million; its count is the number of detections


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Rows by (model, class): `key` is model << 32 | class, shape (rows,)."""

    key: Ints
    inference_count: Ints  # inferences with at least one detection of the class
    confidence: Spread


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Some events of one window, in log order: per event shape (events,), per detection shape (detections,)."""

    series: Ints
    model: Ints
    latency_us: Ints  # -1: unknown
    failed: Ints  # 1: an error
    detections: Ints  # per event
    class_id: Ints  # per detection
    confidence_ppm: Ints  # per detection

    def __len__(self) -> int:
        return len(self.series)


def concatenate(parts: Sequence[EventColumns]) -> EventColumns:
    """The events of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return EventColumns(*(np.concatenate([getattr(p, name) for p in parts]) for name in EventColumns.__slots__))


def fold(events: EventColumns) -> tuple[ModelRows, ClassRows]:
    """The rows of some events of one window."""
    series, row = dense_groups(events.series)
    size = len(series)
    known = events.latency_us >= 0
    detection_row = np.repeat(row, events.detections)
    models = ModelRows(
        series,
        inference_count=np.bincount(row, minlength=size),
        error_count=group_sum(row, events.failed, size),
        empty_count=group_sum(row, (events.detections == 0).astype(np.int64), size),
        latency=_latency_spread(row[known], events.latency_us[known], size),
        confidence=_confidence_spread(detection_row, events.confidence_ppm, size),
    )
    return models, _fold_classes(events)


def _fold_classes(events: EventColumns) -> ClassRows:
    class_count = int(events.class_id.max()) + 1 if len(events.class_id) else 1
    codes, row = dense_groups(np.repeat(events.model, events.detections) * class_count + events.class_id)
    size = len(codes)
    event = np.repeat(np.arange(len(events)), events.detections)
    return ClassRows(
        codes // class_count << 32 | codes % class_count,
        inference_count=distinct_per_group(row, event, size),
        confidence=_confidence_spread(row, events.confidence_ppm, size),
    )


def _latency_spread(row: Ints, latency_us: Ints, size: int) -> Spread:
    buckets = latency_buckets(latency_us)
    buckets[buckets == ZERO_BUCKET] = _ZERO
    row_, key, count = count_pairs(row, buckets)
    key[key == _ZERO] = ZERO_BUCKET
    return _spread(row, latency_us, size, Histograms(row_, key, count))


def _confidence_spread(row: Ints, confidence_ppm: Ints, size: int) -> Spread:
    return _spread(row, confidence_ppm, size, Histograms(*count_pairs(row, confidence_bins(confidence_ppm))))


def _spread(row: Ints, values: Ints, size: int, histogram: Histograms) -> Spread:
    return Spread(
        np.bincount(row, minlength=size).astype(np.int64),
        group_sum(row, values, size),
        group_min(row, values, size),
        group_max(row, values, size),
        histogram,
    )


def merge_models(parts: Sequence[ModelRows]) -> ModelRows:
    """Rows of the same series become one."""
    if len(parts) == 1:
        return parts[0]
    series, row = dense_groups(np.concatenate([p.series for p in parts]))
    size = len(series)
    return ModelRows(
        series,
        inference_count=group_sum(row, np.concatenate([p.inference_count for p in parts]), size),
        error_count=group_sum(row, np.concatenate([p.error_count for p in parts]), size),
        empty_count=group_sum(row, np.concatenate([p.empty_count for p in parts]), size),
        latency=_merge_spread([p.latency for p in parts], row, size),
        confidence=_merge_spread([p.confidence for p in parts], row, size),
    )


def merge_classes(parts: Sequence[ClassRows]) -> ClassRows:
    """Rows of the same model and class become one."""
    if len(parts) == 1:
        return parts[0]
    key, row = np.unique(np.concatenate([p.key for p in parts]), return_inverse=True)
    size = len(key)
    return ClassRows(
        key,
        inference_count=group_sum(row, np.concatenate([p.inference_count for p in parts]), size),
        confidence=_merge_spread([p.confidence for p in parts], row, size),
    )


def _merge_spread(parts: Sequence[Spread], row: Ints, size: int) -> Spread:
    """`row` says for every row of the parts, end to end, which row of the result it goes to."""
    count = np.concatenate([p.count for p in parts])
    some = count > 0  # elsewhere min and max say nothing
    starts = np.cumsum([0] + [len(p.count) for p in parts[:-1]])
    entries = np.concatenate([p.histogram.row + start for p, start in zip(parts, starts, strict=True)])
    keys = np.concatenate([p.histogram.key for p in parts])
    keys[keys == ZERO_BUCKET] = _ZERO
    histogram = count_pairs(row[entries], keys, np.concatenate([p.histogram.count for p in parts]))
    histogram[1][histogram[1] == _ZERO] = ZERO_BUCKET
    return Spread(
        group_sum(row, count, size),
        group_sum(row, np.concatenate([p.sum for p in parts]), size),
        group_min(row[some], np.concatenate([p.min for p in parts])[some], size),
        group_max(row[some], np.concatenate([p.max for p in parts])[some], size),
        Histograms(*histogram),
    )
