"""Rows of a record in the layout of sums (see meters.py), laid out together: many rows cost little more than one."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.core.rules import meters
from pipeline.core.rules.sliding import Sparse, sparse
from pipeline.core.tally import Ints, ragged_entries
from schemas.aggregate import ClassColumns, HistogramColumn, ModelColumns

_PARTS = {meters.COUNTS_SIZE: 1, meters.CONFIDENCE_SIZE: 2, meters.LATENCY_SIZE: 3}

_Part = tuple[Ints, Ints, Ints]  # (entries of each row; which sums, ascending in a row; how much of each)


class Layout:
    """Some rows, each to be cut out as much of it as is needed."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        """Of parts that follow each other in the layout."""
        sizes = np.array([part[0] for part in parts])
        ends = np.cumsum(sizes, axis=0) + (np.cumsum(sizes.sum(axis=0)) - sizes.sum(axis=0))
        index, count = np.empty(int(sizes.sum()), np.int64), np.empty(int(sizes.sum()), np.int64)
        for (size, which, how_much), end in zip(parts, ends, strict=True):
            place = np.repeat(end - np.cumsum(size), size) + np.arange(len(which))
            index[place], count[place] = which, how_much
        self._index, self._count = sparse(index, count)
        self._starts, self._ends = (ends[0] - sizes[0]).tolist(), ends.tolist()

    @classmethod
    def of_models(cls, columns: ModelColumns, rows: Ints, size: int) -> "Layout":
        """Rows of model_windows, up to that size of the layout."""
        counts = (
            columns.inference_count,
            columns.error_count,
            columns.empty_count,
            columns.detection_count,
            columns.latency_count,
            columns.latency_us_sum,
            columns.confidence_ppm_sum,
        )
        parts = [_counts(counts, rows)]
        if size >= meters.CONFIDENCE_SIZE:
            parts.append(_entries(columns.confidence_histogram, rows, meters.confidence_index))
        if size >= meters.LATENCY_SIZE:
            parts.append(_entries(columns.latency_histogram, rows, meters.latency_index))
        return cls(parts)

    @classmethod
    def of_classes(cls, columns: ClassColumns, rows: Ints, size: int) -> "Layout":
        """Rows of class_windows; they know no latency."""
        nothing = [0] * len(columns.window_start_s)
        counts = (
            columns.inference_count,
            nothing,
            nothing,
            columns.detection_count,
            nothing,
            nothing,
            columns.confidence_ppm_sum,
        )
        parts = [_counts(counts, rows)]
        if size >= meters.CONFIDENCE_SIZE:
            parts.append(_entries(columns.confidence_histogram, rows, meters.confidence_index))
        return cls(parts)

    def cut(self, place: int, size: int) -> Sparse:
        """The row at that place, up to that size. A copy: the whole must not stay in memory for the sake of a row."""
        end = self._ends[min(_PARTS[size], len(self._ends)) - 1][place]
        mine = slice(self._starts[place], end)
        return self._index[mine].copy(), self._count[mine].copy()


def _counts(columns: Sequence[Sequence[int]], rows: Ints) -> _Part:
    counts = np.array(columns, np.int64).T[rows]
    row, which = np.nonzero(counts)
    return np.bincount(row, minlength=len(rows)), which, counts[row, which]


def _entries(column: HistogramColumn, rows: Ints, index: Callable[[Ints], Ints]) -> _Part:
    sizes = np.array(column.sizes, np.int64)
    chosen = ragged_entries(sizes, rows)
    return sizes[rows], index(np.array(column.keys, np.int64)[chosen]), np.array(column.counts, np.int64)[chosen]
