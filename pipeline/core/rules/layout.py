"""Rows of a record in the layout of sums (see meters.py), laid out together: many rows cost little more than one."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.core.columns import Ragged
from pipeline.core.rules import meters
from pipeline.core.rules.sliding import Sparse, sparse
from pipeline.core.tally import Ints
from schemas.aggregate import Rows

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
    def of(cls, rows: Rows, chosen: Ints, size: int) -> "Layout":
        """Those of `rows` that are `chosen`, up to that size of the layout. Rows of classes know no latency."""
        parts = [_counts(rows, chosen)]
        for name, from_size, index in _HISTOGRAMS:
            if size >= from_size and name in rows.histograms:
                parts.append(_entries(Ragged(*rows.histograms[name]).take(chosen), index))
        return cls(parts)

    def cut(self, place: int, size: int) -> Sparse:
        """The row at that place, up to that size. A copy: the whole must not stay in memory for the sake of a row."""
        end = self._ends[min(_PARTS[size], len(self._ends)) - 1][place]
        mine = slice(self._starts[place], end)
        return self._index[mine].copy(), self._count[mine].copy()


# What counts come first, and which histograms follow.
_COUNTS = (
    "inference_count", "error_count", "empty_count", "detection_count", "latency_count", "latency_us_sum",
    "confidence_ppm_sum",
)  # fmt: skip
_HISTOGRAMS: tuple[tuple[str, int, Callable[[Ints], Ints]], ...] = (
    ("confidence_histogram", meters.CONFIDENCE_SIZE, meters.confidence_index),
    ("latency_histogram", meters.LATENCY_SIZE, meters.latency_index),
)


def _counts(rows: Rows, chosen: Ints) -> _Part:
    nothing = np.zeros(len(chosen), np.int64)
    counts = np.stack([rows.numbers[name][chosen] if name in rows.numbers else nothing for name in _COUNTS], axis=1)
    row, which = np.nonzero(counts)
    return np.bincount(row, minlength=len(chosen)), which, counts[row, which]


def _entries(histograms: Ragged, index: Callable[[Ints], Ints]) -> _Part:
    return histograms.sizes, index(histograms.keys), histograms.counts
