"""Rows of windows as columns: what the fold of events makes, and how rows of the same key merge.

Window, workspace, model, device and class of a row are numbers of a `Names`; texts come in when rows are published.
Which columns there are says schemas.windows; here is how each kind is made and merged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.columns import Ragged, joined
from pipeline.core.tally import (
    Ints,
    count_pairs,
    dense_groups,
    distinct_per_group,
    group_max,
    group_min,
    group_squares,
    group_sum,
)
from pipeline.core.windows.histogram import ZERO_BUCKET, confidence_bins, latency_buckets
from schemas.windows import CLASSES, MODELS, Measure, Summary, WindowColumn, WindowTable

_ZERO = -1  # the zero bucket while we count: next to the others, so that tables stay small


@dataclass(frozen=True, slots=True)
class Folded:
    """Rows of one window, a key each: a series of models; model << 32 | class of classes. Where nothing was measured
    sums, least and largest are 0.
    """

    key: Ints
    numbers: Mapping[str, Ints]
    histograms: Mapping[str, Ragged]


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


@dataclass(frozen=True, slots=True)
class _Measured:
    """Values, and the row of each."""

    row: Ints
    values: Ints
    count: Ints  # a row


_BUCKETS: Mapping[Measure, Callable[[Ints], Ints]] = {
    Measure.LATENCY: latency_buckets,
    Measure.CONFIDENCE: confidence_bins,
}


def concatenate(parts: Sequence[EventColumns]) -> EventColumns:
    """The events of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return EventColumns(*(np.concatenate([getattr(p, name) for p in parts]) for name in EventColumns.__slots__))


def fold(events: EventColumns) -> tuple[Folded, Folded]:
    """The rows of models, and those of classes, of some events of one window."""
    series, row = dense_groups(events.series)
    size = len(series)
    known = events.latency_us >= 0
    measured = {
        Measure.INFERENCE: _counted(np.bincount(row, minlength=size)),
        Measure.ERROR: _counted(group_sum(row, events.failed, size)),
        Measure.EMPTY: _counted(group_sum(row, (events.detections == 0).astype(np.int64), size)),
        Measure.LATENCY: _measured(row[known], events.latency_us[known], size),
        Measure.CONFIDENCE: _measured(np.repeat(row, events.detections), events.confidence_ppm, size),
    }
    return _folded(MODELS, series, measured), _fold_classes(events)


def _fold_classes(events: EventColumns) -> Folded:
    class_count = int(events.class_id.max()) + 1 if len(events.class_id) else 1
    codes, row = dense_groups(np.repeat(events.model, events.detections) * class_count + events.class_id)
    event = np.repeat(np.arange(len(events)), events.detections)
    measured = {
        # Inferences with at least one detection of the class.
        Measure.INFERENCE: _counted(distinct_per_group(row, event, len(codes))),
        Measure.CONFIDENCE: _measured(row, events.confidence_ppm, len(codes)),
    }
    return _folded(CLASSES, codes // class_count << 32 | codes % class_count, measured)


def _counted(count: Ints) -> _Measured:
    return _Measured(count, count, count)  # of these there is nothing but the count


def _measured(row: Ints, values: Ints, size: int) -> _Measured:
    return _Measured(row, values, np.bincount(row, minlength=size))


def _folded(table: WindowTable, key: Ints, measured: Mapping[Measure, _Measured]) -> Folded:
    numbers, histograms = {}, {}
    for column in table.columns:
        m = measured[column.measure]
        if column.summary is Summary.HISTOGRAM:
            histograms[column.name] = _histogram(len(key), m.row, _BUCKETS[column.measure](m.values))
        else:
            numbers[column.name] = _number(column.summary, m, len(key))
    return Folded(key, numbers, histograms)


def _number(summary: Summary, m: _Measured, size: int) -> Ints:
    match summary:
        case Summary.COUNT:
            return m.count
        case Summary.SUM:
            return group_sum(m.row, m.values, size)
        case Summary.SQUARES:
            return group_squares(m.row, m.values, size)
        case Summary.MIN:
            return group_min(m.row, m.values, size)
        case Summary.MAX:
            return group_max(m.row, m.values, size)
        case _:
            raise AssertionError(summary)


def _histogram(rows: int, row: Ints, keys: Ints, counts: Ints | None = None) -> Ragged:
    """`keys` are our own to change."""
    keys[keys == ZERO_BUCKET] = _ZERO
    row, key, count = count_pairs(row, keys, counts)
    key[key == _ZERO] = ZERO_BUCKET
    return Ragged.of_entries(rows, row, key, count)


def merge(table: WindowTable, parts: Sequence[Folded]) -> Folded:
    """Rows of the same key become one."""
    if len(parts) == 1:
        return parts[0]
    key, row = dense_groups(np.concatenate([part.key for part in parts]))
    numbers, histograms = {}, {}
    for column in table.columns:
        if column.summary is Summary.HISTOGRAM:
            all_rows = joined([part.histograms[column.name] for part in parts])
            histograms[column.name] = _histogram(len(key), row[all_rows.row], all_rows.keys, all_rows.counts)
        else:
            numbers[column.name] = _merged(table, column, parts, row, len(key))
    return Folded(key, numbers, histograms)


def _merged(table: WindowTable, column: WindowColumn, parts: Sequence[Folded], row: Ints, size: int) -> Ints:
    """`row` says for every row of the parts, end to end, which row of the result it goes to."""
    values = np.concatenate([part.numbers[column.name] for part in parts])
    if not column.is_optional:
        return group_sum(row, values, size)
    count = table.count(column.measure)
    some = np.concatenate([part.numbers[count] for part in parts]) > 0  # elsewhere least and largest say nothing
    merge_ = group_min if column.summary is Summary.MIN else group_max
    return merge_(row[some], values[some], size)
