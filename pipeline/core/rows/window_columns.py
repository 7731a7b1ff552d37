"""Rows of many windows as flat columns, cut into the windows they belong to: history on its way to the detector."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.tally import Ints
from schemas.aggregate import ClassColumns, HistogramColumn, ModelColumns

HISTOGRAMS_OF_MODEL = ("latency_histogram", "confidence_histogram")
HISTOGRAMS_OF_CLASS = ("confidence_histogram",)
_ROWS_AT_ONCE = 5000  # what is read for one window looks through all rows that came with it


@dataclass(frozen=True, slots=True)
class Histograms:
    """One sparse histogram a row, end to end; the keys of each ascend.

    They are cut into many short pieces, and numpy reads a piece of an array as it is, a list number by number.
    """

    sizes: list[int]
    starts: list[int]  # where the entries of each row start, and where those of the last end
    keys: "array[int]"
    counts: "array[int]"

    @classmethod
    def of(cls, sizes: Ints, keys: Ints, counts: Ints) -> "Histograms":
        """From histograms with keys in any order. Raises ValueError where a row has a key twice."""
        row = np.repeat(np.arange(len(sizes)), sizes)
        same_row = row[1:] == row[:-1]
        if (np.diff(keys)[same_row] <= 0).any():
            order = np.lexsort((keys, row))
            keys, counts = keys[order], counts[order]
            if (np.diff(keys)[same_row] == 0).any():
                raise ValueError("has a key twice in one row")
        return cls(sizes.tolist(), [0, *np.cumsum(sizes).tolist()], _array(keys), _array(counts))

    def cut(self, rows: slice) -> HistogramColumn:
        """Those of some rows."""
        entries = slice(self.starts[rows.start], self.starts[rows.stop])
        return HistogramColumn(self.sizes[rows], self.keys[entries], self.counts[entries])


def _array(numbers: Ints) -> "array[int]":
    return array("q", numbers.astype(np.int64, copy=False).tobytes())


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Rows of model_windows or class_windows, sorted by their window."""

    start_s: Ints
    columns: Mapping[str, Sequence[Any]]
    histograms: Mapping[str, Histograms]

    def models(self, rows: slice) -> ModelColumns:
        """Some of them, as rows of model_windows."""
        return ModelColumns(**self._cut(rows))

    def classes(self, rows: slice) -> ClassColumns:
        """Some of them, as rows of class_windows."""
        return ClassColumns(**self._cut(rows))

    def _cut(self, rows: slice) -> dict[str, Any]:
        out: dict[str, Any] = {"window_start_s": self.start_s[rows].tolist()}
        for name, column in self.columns.items():
            out[name] = column[rows]
        for name, histograms in self.histograms.items():
            out[name] = histograms.cut(rows)
        return out


def windows(
    models: WindowColumns, classes: WindowColumns, start_s: int, end_s: int, step_s: int, stride_s: int, at_once_s: int
) -> Iterator[tuple[int, ModelColumns, ClassColumns]]:
    """(end in ms, rows of models, of classes) of the windows from `start_s` to `end_s` that have rows, in order.

    Together come those of the same `at_once_s`, unless they are many. In a stretch without rows there is an empty one
    every `stride_s`, and one at the end: time went on there, too.
    """
    starts = np.union1d(models.start_s, classes.start_s)
    if (len(models.start_s) + len(classes.start_s)) * at_once_s > _ROWS_AT_ONCE * (end_s - start_s):
        at_once_s = step_s
    firsts = np.flatnonzero(np.diff(starts // at_once_s, prepend=-1))
    lasts = starts[np.append(firsts[1:], len(starts)) - 1].tolist() if len(starts) else []
    edges = np.append(starts[firsts], end_s)
    bounds = [np.searchsorted(part.start_s, edges).tolist() for part in (models, classes)]
    reached_s = start_s
    for i, window_s in enumerate(edges.tolist()):
        while window_s - reached_s > stride_s:
            reached_s += stride_s
            yield reached_s * 1000, models.models(slice(0, 0)), classes.classes(slice(0, 0))
        if i < len(lasts):
            of_models, of_classes = (slice(b[i], b[i + 1]) for b in bounds)
            reached_s = lasts[i] + step_s
            yield reached_s * 1000, models.models(of_models), classes.classes(of_classes)
    if reached_s < end_s:
        yield end_s * 1000, models.models(slice(0, 0)), classes.classes(slice(0, 0))
