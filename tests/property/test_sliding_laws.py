"""A sum that was slid is the sum of its parts, whatever came when, and whatever was restarted."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.rules.sliding import Sliding, sparse
from tests.alerting import START_S
from tests.states import reloaded

LENGTHS = [60, 130, 3600, 3660, 7200]

additions = st.tuples(
    st.integers(-800, 40),  # windows before or after the end
    st.dictionaries(st.integers(0, 5), st.integers(1, 5), min_size=1, max_size=4),
)
happenings = st.one_of(additions, st.sampled_from([0, 1, 1, 1, 2, 7, 30, 359, 900]))  # or: so many windows are complete

Happening = int | tuple[int, dict[int, int]]


def restarted(sliding: Sliding, lengths: list[int]) -> Sliding:
    again = Sliding.restore(reloaded(sliding.snapshot()))
    again.ask(lengths, 6)
    return again


@settings(max_examples=300)
@given(
    st.lists(happenings, max_size=40),
    st.sets(st.sampled_from(LENGTHS), min_size=1),
    st.sets(st.integers(0, 39), max_size=5),
)
def test_a_sum_is_that_of_its_window(story: list[Happening], asked: set[int], restarts: set[int]) -> None:
    lengths = sorted(asked)
    sliding = Sliding(START_S, START_S - 10_000)
    sliding.ask(lengths, 6)
    slots: dict[int, Counter[int]] = {}
    for i, what in enumerate(story):
        if i in restarts:
            sliding = restarted(sliding, lengths)
        if isinstance(what, int):
            sliding.advance(sliding.end_s + what * 10)
        else:
            at, counts = what
            start_s = sliding.end_s + at * 10
            index = sorted(counts)
            sliding.add(start_s, sparse(np.array(index), np.array([counts[n] for n in index])))
            slots.setdefault(start_s, Counter()).update(counts)
        for length in lengths:
            edge_s = sliding.end_s - length
            if length > 3600:
                edge_s += -edge_s % 60
            wanted: Counter[int] = Counter()
            for start_s, counted in slots.items():
                if edge_s <= start_s < sliding.end_s:
                    wanted.update(counted)
            assert {n: c for n, c in enumerate(sliding.total(length).tolist()) if c} == dict(wanted), length
        complete = [start_s for start_s, counted in slots.items() if start_s < sliding.end_s and counted[0]]
        assert sliding.last_s == max(complete, default=None)
        kept = sliding.snapshot()
        for part in (kept.fine, kept.coarse):
            assert all(a < b for a, b in pairwise(part))
