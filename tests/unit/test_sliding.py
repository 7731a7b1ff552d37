"""Sums that slide are the sums of what is in the window."""

import numpy as np
import pytest

from pipeline.core.rules.sliding import Sliding, sparse
from tests.alerting import START_S


def one(count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return sparse(np.array([0]), np.array([count]))


def counted(length_s: int, drawn: str, *, step: int = 1) -> str:
    """The sum after each window of 10 s, as a digit; a digit in `drawn` is what comes in that window."""
    sliding, out = Sliding(START_S, START_S), ""
    sliding.ask([length_s], 1)
    for i, letter in enumerate(drawn, 1):
        if letter != ".":
            sliding.add(START_S + (i - 1) * 10, one(int(letter)))
        if i % step == 0:
            sliding.advance(START_S + i * 10)
            out += str(sliding.total(length_s)[0])
    return out


def test_what_comes_is_added_and_taken_away_when_the_window_has_passed_it() -> None:
    drawn = "1.1.2......."
    assert counted(60, drawn) == "112244332200"


def test_many_windows_at_once_are_as_good_as_one_by_one() -> None:
    drawn = "12.3..1...4......1..........."
    for step in (2, 5, 7, 29):
        assert counted(60, drawn, step=step) == counted(60, drawn)[step - 1 :: step]


def test_what_is_not_complete_is_not_in_a_sum() -> None:
    sliding = Sliding(START_S, START_S)
    sliding.ask([60], 1)
    sliding.add(START_S + 10, one())
    sliding.advance(START_S + 10)
    assert sliding.total(60)[0] == 0
    assert sliding.last_s is None
    sliding.advance(START_S + 20)
    assert sliding.total(60)[0] == 1
    assert sliding.last_s == START_S + 10


@pytest.mark.parametrize(
    ("late_s", "minute", "hour", "day"),
    [
        (10, 1, 1, 1),
        (60, 1, 1, 1),
        (70, 0, 1, 1),
        (3600, 0, 1, 1),
        (3610, 0, 0, 1),
        (86_340, 0, 0, 1),
        (86_410, 0, 0, 0),
    ],
)
def test_a_correction_goes_into_every_window_that_reaches_back_to_it(
    late_s: int, minute: int, hour: int, day: int
) -> None:
    sliding = Sliding(START_S + 90_000, START_S)
    sliding.ask([60, 3600, 86_400], 1)
    sliding.add(START_S + 90_000 - late_s, one())
    assert [sliding.total(length)[0] for length in (60, 3600, 86_400)] == [minute, hour, day]
    sliding.advance(START_S + 2 * 90_000)
    assert [sliding.total(length)[0] for length in (60, 3600, 86_400)] == [0, 0, 0]
    assert sliding.is_idle


def test_a_long_window_begins_on_a_whole_minute() -> None:
    sliding = Sliding(START_S, START_S)
    sliding.ask([7200], 1)
    for start_s in range(START_S, START_S + 14_400, 10):
        sliding.add(start_s, one())
        sliding.advance(start_s + 10)
    totals = []
    for _ in range(7):
        totals.append(int(sliding.total(7200)[0]))
        sliding.add(sliding.end_s, one())
        sliding.advance(sliding.end_s + 10)
    assert totals == [720, 715, 716, 717, 718, 719, 720]


@pytest.mark.slow
def test_memory_is_bounded_by_the_longest_window() -> None:
    sliding = Sliding(START_S, START_S)
    sliding.ask([60, 86_400], 1)
    for start_s in range(START_S, START_S + 2 * 86_400, 10):
        sliding.add(start_s, one())
        sliding.advance(start_s + 10)
    kept = sliding.snapshot()
    assert len(kept.fine) <= 366
    assert len(kept.coarse) <= 1380
    assert sliding.total(86_400)[0] == 8640


def test_a_longer_window_that_is_asked_for_later_knows_only_what_was_kept() -> None:
    sliding = Sliding(START_S, START_S)
    sliding.ask([60], 1)
    for start_s in range(START_S, START_S + 600, 10):
        sliding.add(start_s, one())
        sliding.advance(start_s + 10)
    sliding.ask([60, 300], 1)
    assert sliding.total(300)[0] == 6
    assert sliding.covers(60)
    assert not sliding.covers(300)
    assert sliding.known_from_s(300) == START_S + 540
    sliding.advance(START_S + 840)
    assert sliding.covers(300)


def test_sums_grow_with_what_comes() -> None:
    sliding = Sliding(START_S, START_S)
    sliding.ask([60], 0)
    sliding.add(START_S, sparse(np.array([0, 700]), np.array([1, 1 << 40])))
    sliding.add(START_S, sparse(np.array([3]), np.array([2])))
    sliding.advance(START_S + 10)
    assert {i: n for i, n in enumerate(sliding.total(60).tolist()) if n} == {0: 1, 3: 2, 700: 1 << 40}
