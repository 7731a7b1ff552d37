"""Columns of rows that are not all of one length."""

import numpy as np

from pipeline.core.columns import Ragged, joined, take
from schemas.windows import CLASSES
from tests.builders import window_rows
from tests.recount import plain_rows

RAGGED = Ragged(np.array([2, 0, 1]), np.array([5, 6, 7]), np.array([50, 60, 70]))


def listed(ragged: Ragged) -> list[list[int]]:
    return [column.tolist() for column in ragged]


def test_rows_are_taken_in_any_order_and_more_than_once() -> None:
    assert listed(RAGGED.take(np.array([2, 0, 2]))) == [[1, 2, 1], [7, 5, 6, 7], [70, 50, 60, 70]]
    assert listed(RAGGED.take(np.zeros(0, np.int64))) == [[], [], []]


def test_each_entry_knows_its_row() -> None:
    assert RAGGED.row.tolist() == [0, 0, 2]
    assert listed(Ragged.of_entries(3, RAGGED.row, RAGGED.keys, RAGGED.counts)) == listed(RAGGED)


def test_parts_are_one_after_the_other() -> None:
    assert listed(joined([RAGGED, RAGGED])) == [[2, 0, 1, 2, 0, 1], [5, 6, 7] * 2, [50, 60, 70] * 2]
    assert listed(joined([])) == [[], [], []]


def test_rows_of_windows_are_taken_whole() -> None:
    rows = window_rows(CLASSES, [{"class": "a", "detection_count": 1}, {"class": "b", "confidence_histogram": {}}])
    whole = list(plain_rows(rows))
    assert list(plain_rows(take(rows, np.array([1, 0, 1])))) == [whole[1], whole[0], whole[1]]
