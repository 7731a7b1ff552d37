"""What the audit decides."""

import numpy as np
import pytest

from pipeline.core.audit import (
    BLOCK,
    Check,
    Finding,
    Report,
    ceil_to,
    differences,
    latency_table,
    near,
    suspects,
    through_by_partition,
)
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.span import Span, runs, slices
from pipeline.core.windows.histogram import latency_buckets
from pipeline.core.words import iso


def through(ms: int) -> AggregatorName:
    return AggregatorName(0, 0, 0, 5, ms, 1)


def test_a_block_that_holds_every_offset_once_is_not_suspect() -> None:
    assert suspects(Span(0, 10), {0: (10, 10)}) == []


def test_gaps_that_lie_near_each_other_are_looked_at_together() -> None:
    gaps = [Span(3, 4), Span(8, 9), Span(14, 15), Span(90, 95)]
    assert near(gaps, 5) == [gaps[:3], gaps[3:]]
    assert near(gaps, 4) == [gaps[:2], gaps[2:3], gaps[3:]]
    assert near([], 4) == []


def test_offsets_are_judged_in_blocks_clipped_to_what_is_expected() -> None:
    expected = Span(BLOCK - 3, 2 * BLOCK + 5)
    assert suspects(expected, {0: (3, 3), 1: (BLOCK, BLOCK), 2: (5, 5)}) == []
    assert suspects(expected, {0: (3, 3), 1: (BLOCK, BLOCK - 1), 2: (5, 5)}) == [Span(BLOCK, 2 * BLOCK)]


def test_a_block_without_any_row_is_suspect() -> None:
    assert suspects(Span(0, 10), {}) == [Span(0, 10)]


def test_a_missing_and_a_doubled_offset_do_not_cancel_out() -> None:
    assert suspects(Span(0, 10), {0: (10, 9)}) == [Span(0, 10)]


def test_nothing_expected_is_nothing_suspect() -> None:
    assert suspects(Span(7, 7), {}) == []


def test_runs_join_neighbours() -> None:
    assert runs([5, 3, 4, 9]) == [Span(3, 6), Span(9, 10)]
    assert runs([]) == []


def test_a_partition_without_a_name_has_closed_nothing() -> None:
    logs = {0: Span(0, 9), 1: Span(0, 9)}
    assert through_by_partition({0: through(20_000)}, logs) == {0: 20_000, 1: 0}


def test_a_partition_that_never_held_a_record_holds_nothing_back() -> None:
    assert through_by_partition({0: through(20_000)}, {0: Span(0, 9), 1: Span(0, 0)}) == {0: 20_000}


def test_a_partition_whose_records_have_all_expired_still_counts() -> None:
    assert through_by_partition({}, {0: Span(9, 9)}) == {0: 0}


def test_slices_join_neighbours_up_to_a_size() -> None:
    rows = {0: 10, 3600: 10, 7200: 100, 36_000: 1}
    assert slices(rows, 3600, 20) == [Span(0, 7200), Span(7200, 10_800), Span(36_000, 39_600)]


def test_a_period_larger_than_the_limit_is_a_slice_of_its_own() -> None:
    assert slices({0: 1000}, 3600, 20) == [Span(0, 3600)]


@pytest.mark.parametrize(("second", "expected"), [(0, 0), (1, 60), (60, 60), (61, 120)])
def test_a_period_begins_at_the_next_whole_one(second: int, expected: int) -> None:
    assert ceil_to(second, 60) == expected


def test_the_latency_table_is_the_histogram() -> None:
    least, buckets = latency_table()
    values = np.unique(np.concatenate([np.array(least), np.array(least[1:]) - 1, np.geomspace(1, 8.64e10, 5000)]))
    values = values.astype(np.int64)
    found = np.array(buckets)[np.searchsorted(least, values, side="right") - 1]
    assert (found == latency_buckets(values)).all()


def test_a_difference_names_the_columns() -> None:
    assert differences(("a", "b"), ("1", "2"), ("1", "3")) == "b is 3, should be 2"
    assert differences(("a",), ("1",), None) == "is missing"
    assert differences(("a",), None, ("1",)) == "should not be there"


def test_a_long_value_is_cut() -> None:
    assert differences(("a",), ("x" * 100,), ("y",)) == f"a is y, should be {'x' * 57}..."


@pytest.mark.parametrize(
    ("time_ms", "text"), [(1_795_373_683_000, "2026-11-22T18:54:43Z"), (1_795_373_683_301, "2026-11-22T18:54:43.301Z")]
)
def test_times_are_written_for_people(time_ms: int, text: str) -> None:
    assert iso(time_ms) == text


def test_a_report_is_ok_if_every_check_is() -> None:
    good, bad = Check("a", "fine", 3), Check("b", "not", 3, 1, (Finding("x", {"offset": 7}),))
    assert Report((good,), 0).ok
    report = Report((good, bad), 10_000)
    assert not report.ok
    assert report.as_json()["checks"][1]["findings"] == [{"text": "x", "offset": 7}]  # type: ignore[index]
