"""When a cut is due."""

import pytest

from pipeline.core.ledger.closing import CORRECTIONS_MS, Ripening, is_cut_due

SOON, LATE = CORRECTIONS_MS - 1, CORRECTIONS_MS


@pytest.mark.parametrize(
    ("story", "since_cut_ms", "through_ms", "closed_ms", "has_corrections", "due"),
    [
        ("a window more is closed", 0, 20_000, 10_000, False, True),
        ("several are", 0, 90_000, 10_000, False, True),
        ("none is", LATE, 10_000, 10_000, False, False),
        ("a correction waits a little", SOON, 10_000, 10_000, True, False),
        ("a correction has waited long enough", LATE, 10_000, 10_000, True, True),
        ("a correction goes with the next window", 0, 20_000, 10_000, True, True),
        ("closed ahead of the log: nothing closes", LATE, 10_000, 30_000, False, False),
        ("closed ahead of the log: corrections go", LATE, 10_000, 30_000, True, True),
        ("nothing is known of the log's time", LATE, 0, 0, False, False),
    ],
)
def test_the_aggregator_cuts(
    story: str, since_cut_ms: int, through_ms: int, closed_ms: int, has_corrections: bool, due: bool
) -> None:
    found = is_cut_due(
        since_cut_ms=since_cut_ms, through_ms=through_ms, closed_ms=closed_ms, has_corrections=has_corrections
    )
    assert found is due, story


@pytest.mark.parametrize(
    ("story", "waited_ms", "records", "is_full", "left_ms"),
    [
        ("it has just come", 0, 1, False, 500),
        ("it ripens", 400, 99, False, 100),
        ("it is old enough", 500, 1, False, 0),
        ("it is older than that", 9000, 1, False, 0),
        ("there is enough for a cut", 0, 100, False, 0),
        ("no more fits in", 0, 1, True, 0),
    ],
)
def test_the_recorder_waits(story: str, waited_ms: float, records: int, is_full: bool, left_ms: float) -> None:
    assert Ripening(rows_max=100, age_ms=500).left_ms(waited_ms, records, is_full) == left_ms, story
