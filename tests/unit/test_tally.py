"""Counting in groups, held against dictionaries."""

import random
from collections import Counter

import numpy as np
import pytest

from pipeline.core import tally
from pipeline.core.columns import entries_of
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


def ints(*values: int) -> Ints:
    return np.array(values, np.int64)


def pairs(groups: Ints, keys: Ints, weights: Ints | None = None) -> list[tuple[int, int, int]]:
    return list(zip(*(column.tolist() for column in count_pairs(groups, keys, weights)), strict=True))


@pytest.fixture(params=["dense", "sparse"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small inputs take the dense way; a table of nothing makes those with distant codes take the other."""
    if request.param == "sparse":
        monkeypatch.setattr(tally, "_DENSE_MAX", 0)


@pytest.mark.usefixtures("_way")
def test_pairs_are_counted_and_ordered_by_group_and_key() -> None:
    groups, keys = ints(2, 0, 2, 0, 2, 700), ints(900, 5, -1, 5, 900, -1)
    assert pairs(groups, keys) == [(0, 5, 2), (2, -1, 1), (2, 900, 2), (700, -1, 1)]


@pytest.mark.usefixtures("_way")
def test_pairs_that_were_counted_before_add_their_counts() -> None:
    assert pairs(ints(1, 0, 1), ints(7, 800, 7), ints(10, 20, 5)) == [(0, 800, 20), (1, 7, 15)]


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("seed", range(5))
def test_counting_pairs_is_counting(seed: int) -> None:
    rng = random.Random(seed)
    groups = [rng.choice((0, 1, 5, 40)) for _ in range(50)]
    keys = [rng.choice((-1, 0, 3, 1000)) for _ in range(50)]
    weights = [rng.randint(1, 2**40) for _ in range(50)]
    counted = Counter(zip(groups, keys, strict=True))
    assert pairs(ints(*groups), ints(*keys)) == [(*pair, counted[pair]) for pair in sorted(counted)]
    summed = Counter[tuple[int, int]]()
    for group, key, weight in zip(groups, keys, weights, strict=True):
        summed[group, key] += weight
    assert pairs(ints(*groups), ints(*keys), ints(*weights)) == [(*pair, summed[pair]) for pair in sorted(summed)]


def test_no_pairs_are_no_counts() -> None:
    assert pairs(ints(), ints()) == []


@pytest.mark.usefixtures("_way")
def test_groups_are_numbered_without_gaps_in_the_order_of_their_codes() -> None:
    found, index = dense_groups(ints(900, 3, 900, 0))
    assert found.tolist() == [0, 3, 900]
    assert index.tolist() == [2, 1, 2, 0]


def test_codes_far_apart_take_no_table_of_their_size() -> None:
    found, index = dense_groups(ints(1 << 40, 0, 1 << 40))
    assert found.tolist() == [0, 1 << 40]
    assert index.tolist() == [1, 0, 1]


def test_no_codes_are_no_groups() -> None:
    found, index = dense_groups(ints())
    assert len(found) == len(index) == 0


def test_sums_are_exact_beyond_what_a_double_holds() -> None:
    assert group_sum(ints(0, 0, 2), ints(2**53, 1, -4), 3).tolist() == [2**53 + 1, 0, -4]


def test_min_and_max_of_an_empty_group_are_zero() -> None:
    groups, values = ints(2, 0, 2), ints(5, 7, 3)
    assert group_min(groups, values, 4).tolist() == [7, 0, 3, 0]
    assert group_max(groups, values, 4).tolist() == [7, 0, 5, 0]
    assert group_min(ints(), ints(), 1).tolist() == group_max(ints(), ints(), 1).tolist() == [0]


@pytest.mark.parametrize("size", [3, 1 << 16, (1 << 16) + 1])
def test_each_owner_counts_once_in_a_group(size: int) -> None:
    last = size - 1
    counts = distinct_per_group(ints(0, last, 0, last, 0, last), ints(1, 1, 1, 2, 4, 4), size)
    assert (counts[0], counts[last], counts.sum()) == (2, 3, 5)


def test_no_owners_count_nothing() -> None:
    assert distinct_per_group(ints(), ints(), 0).tolist() == []
    assert distinct_per_group(ints(), ints(), 2).tolist() == [0, 0]


@pytest.mark.parametrize("rows", [(), (0,), (3, 1, 1), (2, 2), (0, 1, 2, 3), (3, 2, 1, 0)])
def test_entries_of_rows_are_where_slices_would_find_them(rows: tuple[int, ...]) -> None:
    sizes, flat = [2, 0, 3, 1], list(range(6))
    starts = [0, 2, 2, 5]
    expected = [entry for row in rows for entry in flat[starts[row] : starts[row] + sizes[row]]]
    assert entries_of(ints(*sizes), ints(*rows)).tolist() == expected


@pytest.mark.parametrize("limit", [1, 3, 1 << 22])
def test_squares_are_exact_beyond_64_bits(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_SQUARES_MAX", limit)
    values = np.array([1_000_000, 999_999, 0, 7, 1_000_000, 3], np.int64)
    groups = np.array([0, 0, 2, 2, 0, 0], np.int64)
    found = group_squares(groups, values, 3)
    assert wide(found) == [2 * 10**12 + 999_999**2 + 9, 0, 49]
    # What a day of a busy model comes to: rows of which each holds all that fits into one.
    much = np.array([[(1 << 62) >> 32, 0xFFFFFFFF]] * 1000, np.int64)
    assert wide(group_sum(np.zeros(1000, np.int64), much, 1)) == [1000 * ((1 << 62) + 0xFFFFFFFF)]


def wide(numbers: Ints) -> list[int]:
    assert (numbers[:, 1] >> 32 == 0).all()
    return [(high << 32) + low for high, low in numbers.tolist()]
