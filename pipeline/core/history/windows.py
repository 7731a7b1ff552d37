"""Rows of many windows, cut into the windows they belong to: history on its way to the detector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.columns import Ragged
from pipeline.core.tally import Ints
from schemas import aggregate
from schemas.aggregate import Rows
from schemas.windows import WindowTable

_ROWS_AT_ONCE = 5000  # what is read for one window looks through all rows that came with it


def ascending(histograms: Ragged) -> Ragged:
    """The same with the keys of each row ascending. Raises ValueError where a row has a key twice."""
    sizes, keys, counts = histograms
    row = histograms.row
    same_row = row[1:] == row[:-1]
    if (np.diff(keys)[same_row] <= 0).any():
        order = np.lexsort((keys, row))
        keys, counts = keys[order], counts[order]
        if (np.diff(keys)[same_row] == 0).any():
            raise ValueError("has a key twice in one row")
    return Ragged(sizes, keys, counts)


@dataclass(frozen=True, slots=True)
class SortedRows:
    """Rows sorted by their window; the keys of each histogram ascend."""

    rows: Rows
    starts: Mapping[str, Ints]  # where the entries of each row start, and where those of the last end

    @classmethod
    def of(cls, table: WindowTable, rows: Rows) -> "SortedRows":
        """Rows in that order. Columns that they lack are 0."""
        rows = aggregate.with_all(table, rows)
        return cls(rows, {name: np.append(0, np.cumsum(sizes)) for name, (sizes, *_) in rows.histograms.items()})

    def cut(self, part: slice) -> Rows:
        """Some of them."""
        histograms = {}
        for name, (sizes, keys, counts) in self.rows.histograms.items():
            starts = self.starts[name]
            entries = slice(starts[part.start], starts[part.stop])
            histograms[name] = sizes[part], keys[entries], counts[entries]
        return Rows(
            self.rows.window_start_s[part],
            {name: texts[part] for name, texts in self.rows.texts.items()},
            {name: numbers[part] for name, numbers in self.rows.numbers.items()},
            histograms,
        )


def windows(
    models: SortedRows, classes: SortedRows, start_s: int, end_s: int, step_s: int, stride_s: int, at_once_s: int
) -> Iterator[tuple[int, Rows, Rows]]:
    """(end in ms, rows of models, of classes) of the windows from `start_s` to `end_s` that have rows, in order.

    Together come those of the same `at_once_s`, unless they are many. In a stretch without rows there is an empty one
    every `stride_s`, and one at the end: time went on there, too.
    """
    nothing = models.cut(slice(0, 0)), classes.cut(slice(0, 0))
    starts = np.union1d(models.rows.window_start_s, classes.rows.window_start_s)
    if (len(models.rows) + len(classes.rows)) * at_once_s > _ROWS_AT_ONCE * (end_s - start_s):
        at_once_s = step_s
    firsts = np.flatnonzero(np.diff(starts // at_once_s, prepend=-1))
    lasts = starts[np.append(firsts[1:], len(starts)) - 1].tolist() if len(starts) else []
    edges = np.append(starts[firsts], end_s)
    bounds = [np.searchsorted(part.rows.window_start_s, edges).tolist() for part in (models, classes)]
    reached_s = start_s
    for i, window_s in enumerate(edges.tolist()):
        while window_s - reached_s > stride_s:
            reached_s += stride_s
            yield (reached_s * 1000, *nothing)
        if i < len(lasts):
            of_models, of_classes = (slice(b[i], b[i + 1]) for b in bounds)
            reached_s = lasts[i] + step_s
            yield reached_s * 1000, models.cut(of_models), classes.cut(of_classes)
    if reached_s < end_s:
        yield (end_s * 1000, *nothing)
