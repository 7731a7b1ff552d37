"""Where a role stands, and what accepting a gap commits."""

from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER, Problem, Standing, accepted, judge, rewound
from pipeline.core.span import Span

AGGREGATED = AggregatorName(low=40, from_offset=50, closed_ms=1000, to_offset=60, through_ms=2000, targets=8, epoch=3)


def aggregator(log: Span) -> Standing:
    return judge(AGGREGATOR, "events", 0, log, (40, AGGREGATED.metadata()))


def recorder(log: Span, name: RecorderName) -> Standing:
    return judge(RECORDER, "events", 0, log, (name.from_offset, name.metadata()))


def test_a_role_without_a_committed_offset_has_the_whole_log_before_it() -> None:
    standing = judge(RECORDER, "events", 0, Span(10, 30), None)
    assert (standing.problem, standing.next_offset, standing.lag) == (None, 10, 20)


def test_a_role_within_the_log_is_fine() -> None:
    assert aggregator(Span(40, 100)).problem is None
    assert recorder(Span(40, 100), RecorderName(40, 50, 0)).problem is None


def test_lag_is_what_no_cut_has_taken() -> None:
    assert aggregator(Span(40, 100)).lag == 40
    assert recorder(Span(40, 100), RecorderName(70, 90, 0)).lag == 30


def test_a_log_that_starts_after_the_committed_offset_is_a_gap() -> None:
    standing = aggregator(Span(45, 100))
    assert (standing.problem, standing.lost) == (Problem.GAP, 5)


def test_a_log_that_ends_before_the_named_cut_was_made_anew() -> None:
    standing = recorder(Span(0, 55), RecorderName(40, 60, 0))
    assert (standing.problem, standing.lag) == (Problem.ANEW, 55)


def test_metadata_of_somebody_else_is_told() -> None:
    assert judge(RECORDER, "events", 0, Span(0, 9), (3, "hello")).problem is Problem.FOREIGN


def test_an_accepted_gap_keeps_the_aggregators_closed_windows_closed_and_begins_an_epoch() -> None:
    name = accepted(aggregator(Span(45, 100)), now_ms=7)
    assert name == AggregatorName(45, 60, 2000, 60, 2000, 0, 4)


def test_an_aggregators_topic_made_anew_is_read_from_its_start_in_a_new_epoch() -> None:
    name = accepted(aggregator(Span(0, 20)), now_ms=7)
    assert name == AggregatorName(0, 0, 2000, 0, 2000, 0, 4)


def test_an_accepted_gap_keeps_the_recorders_chain() -> None:
    chain = {0: Position(1, 2, 3)}
    name = accepted(recorder(Span(45, 100), RecorderName(40, 60, 0, chain)), now_ms=7)
    assert name == RecorderName(45, 45, 7, chain, epoch=1)


def test_accepting_mends_what_it_was_asked_for() -> None:
    for log in (Span(45, 100), Span(90, 100), Span(0, 20)):
        for standing in (aggregator(log), recorder(log, RecorderName(40, 60, 0))):
            name = accepted(standing, now_ms=7)
            start = name.low if isinstance(name, AggregatorName) else name.from_offset
            assert judge(standing.role, "events", 0, log, (start, name.metadata())).problem is None, (log, name)


def test_a_recorder_that_is_turned_back_asks_about_all_that_the_log_holds() -> None:
    standing = recorder(Span(40, 100), RecorderName(70, 90, 5, {0: Position(0, 1, 2)}, epoch=3))
    assert rewound(standing, offset=50) == RecorderName(50, 50, 0, {}, epoch=3, verify_below=100)
    assert rewound(standing, offset=10) == RecorderName(40, 40, 0, {}, epoch=3, verify_below=100)
    assert rewound(standing, offset=70) is None
    assert rewound(recorder(Span(80, 100), RecorderName(70, 90, 5)), offset=85) is None
