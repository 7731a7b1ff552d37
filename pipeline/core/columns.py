"""Columns of rows that are not all of one length: what numpy has no shape for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.core.tally import Ints
from schemas.aggregate import Rows


class Ragged(NamedTuple):
    """A list of (key, count) a row, end to end: row i has the next sizes[i] of `keys` and `counts`."""

    sizes: Ints
    keys: Ints
    counts: Ints

    @classmethod
    def of_entries(cls, rows: int, row: Ints, keys: Ints, counts: Ints) -> "Ragged":
        """From entries that say which row they are of; `row` is non-decreasing."""
        return cls(np.bincount(row, minlength=rows), keys, counts)

    @property
    def row(self) -> Ints:
        """Which row each entry is of."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def take(self, rows: Ints) -> "Ragged":
        """These rows, in this order."""
        entries = entries_of(self.sizes, rows)
        return Ragged(self.sizes[rows], self.keys[entries], self.counts[entries])


def joined(parts: Sequence[tuple[Ints, Ints, Ints]]) -> Ragged:
    """The rows of all parts, in order."""
    return Ragged(*(concatenated([part[i] for part in parts]) for i in range(3)))


def concatenated(arrays: Sequence[Ints]) -> Ints:
    """All of them, end to end; also where there are none."""
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def entries_of(sizes: Ints, rows: Ints) -> Ints:
    """Where the entries of these rows are, in this order, if row i has the next sizes[i] of all entries."""
    taken = sizes[rows]
    starts = (np.cumsum(sizes) - sizes)[rows]
    return np.repeat(starts - (np.cumsum(taken) - taken), taken) + np.arange(taken.sum())


def take(rows: Rows, chosen: Ints) -> Rows:
    """These rows of a table of windows, in this order."""
    numbers = chosen.tolist()
    return Rows(
        rows.window_start_s[chosen],
        {name: [texts[i] for i in numbers] for name, texts in rows.texts.items()},
        {name: column[chosen] for name, column in rows.numbers.items()},
        {name: Ragged(*histogram).take(chosen) for name, histogram in rows.histograms.items()},
    )
