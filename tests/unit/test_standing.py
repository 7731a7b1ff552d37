"""Where a role stands, and what accepting a gap commits."""

from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.core.ledger.resume import LogSpan, Problem, RecordedUpTo
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER, Standing, accepted, rewound, standing

ID, OTHER = "oneTopicsId", "anotherTopicsId"
AGGREGATED = AggregatorName(40, 50, closed_ms=1000, to_offset=60, through_ms=2000, targets=8, epoch=3, topic_id=ID)


def aggregator(log: LogSpan) -> Standing:
    return standing(AGGREGATOR, "events", 0, log, (40, AGGREGATED.metadata()))


def recorder(log: LogSpan, name: RecorderName) -> Standing:
    return standing(RECORDER, "events", 0, log, (name.from_offset, name.metadata()))


def test_a_role_without_a_committed_offset_has_the_whole_log_before_it() -> None:
    found = standing(RECORDER, "events", 0, LogSpan(10, 30), None)
    assert (found.problem, found.name, found.next_offset, found.lag) == (None, None, 10, 20)


def test_without_a_committed_offset_its_output_says_how_far_it_is() -> None:
    found = standing(AGGREGATOR, "events", 0, LogSpan(10, 90, ID), None, AGGREGATED)
    assert (found.problem, found.next_offset, found.lag) == (None, 40, 30)


def test_a_role_within_the_log_is_fine() -> None:
    assert aggregator(LogSpan(40, 100, ID)).problem is None
    assert recorder(LogSpan(40, 100), RecorderName(40, 50, 0)).problem is None


def test_lag_is_what_no_cut_has_taken() -> None:
    assert aggregator(LogSpan(40, 100)).lag == 40
    assert recorder(LogSpan(40, 100), RecorderName(70, 90, 0)).lag == 30


def test_what_is_lost_in_a_gap_is_counted() -> None:
    found = aggregator(LogSpan(45, 100, ID))
    assert (found.problem, found.lost) == (Problem.GAP, 5)


def test_in_a_topic_made_anew_everything_waits() -> None:
    found = recorder(LogSpan(0, 55, OTHER), RecorderName(40, 50, 0, topic_id=ID))
    assert (found.problem, found.lag, found.lost) == (Problem.ANEW, 55, 0)


def test_the_trouble_says_what_is_wrong_and_what_to_do() -> None:
    said = aggregator(LogSpan(45, 100, ID)).trouble()
    assert "events partition 0: the log was cut before it was read" in said
    assert "5 offsets (40..44) are lost to it" in said
    assert said.endswith("then: inferwatch topics accept-gap --role aggregator events 0")
    said = standing(RECORDER, "events", 0, LogSpan(0, 9), (3, "hello")).trouble()
    assert said.endswith("give this installation another INFERWATCH_GROUP_PREFIX")


# -- what an operator accepts


def test_an_aggregator_goes_on_after_a_gap_in_a_new_epoch_with_its_windows_closed() -> None:
    assert accepted(aggregator(LogSpan(45, 100, ID)), now_ms=7) == AggregatorName(45, 60, 2000, 60, 2000, 0, 4, ID)
    assert accepted(aggregator(LogSpan(90, 100, ID)), now_ms=7) == AggregatorName(90, 90, 2000, 90, 2000, 0, 4, ID)


def test_an_aggregators_topic_made_anew_is_read_from_its_start() -> None:
    for end in (20, 2000):
        name = accepted(aggregator(LogSpan(3, end, OTHER)), now_ms=7)
        assert name == AggregatorName(3, 3, 2000, 3, 2000, 0, 4, OTHER)


def test_a_log_that_lost_its_end_is_not_read_twice() -> None:
    assert accepted(aggregator(LogSpan(0, 55, ID)), now_ms=7) == AggregatorName(55, 55, 2000, 55, 2000, 0, 4, ID)
    name = accepted(recorder(LogSpan(0, 55, ID), RecorderName(40, 60, 0, topic_id=ID)), now_ms=7)
    assert name == RecorderName(55, 55, 7, {}, 1, 0, ID)


def test_without_ids_a_log_that_ends_too_early_is_taken_for_a_new_one() -> None:
    name = accepted(recorder(LogSpan(2, 55), RecorderName(40, 60, 0)), now_ms=7)
    assert name == RecorderName(2, 2, 7, {}, 1)


def test_a_recorder_goes_on_after_a_gap_and_looks_again_at_the_cut_it_was_in() -> None:
    chain = {0: Position(1, 2, 3)}
    name = accepted(recorder(LogSpan(45, 100, ID), RecorderName(40, 60, 0, chain, topic_id=ID)), now_ms=7)
    assert name == RecorderName(45, 45, 7, chain, 0, 60, ID)


def test_a_recorders_topic_made_anew_begins_an_epoch_after_all_that_its_tables_know() -> None:
    chain = {0: Position(1, 2, 3)}
    name = accepted(recorder(LogSpan(0, 900, OTHER), RecorderName(40, 60, 0, chain, 2, topic_id=ID)), now_ms=7)
    assert name == RecorderName(0, 0, 7, chain, 3, 0, OTHER)
    found = standing(RECORDER, "events", 0, LogSpan(0, 900, OTHER), None, RecordedUpTo(4, 70, ID))
    assert accepted(found, now_ms=7) == RecorderName(0, 0, 7, {}, 5, 0, OTHER)


def test_accepting_mends_what_it_was_asked_for() -> None:
    logs = (
        LogSpan(45, 100, ID),
        LogSpan(90, 100, ID),
        LogSpan(0, 20, ID),
        LogSpan(0, 20, OTHER),
        LogSpan(0, 900, OTHER),
        LogSpan(0, 20),
    )
    for log in logs:
        for found in (aggregator(log), recorder(log, RecorderName(40, 60, 0, topic_id=ID))):
            assert found.problem is not None, log
            name = accepted(found, now_ms=7)
            assert standing(found.role, "events", 0, log, (name.reads_from, name.metadata())).problem is None, log


def test_a_recorder_that_is_turned_back_asks_about_all_that_the_log_holds() -> None:
    found = recorder(LogSpan(40, 100), RecorderName(70, 90, 5, {0: Position(0, 1, 2)}, epoch=3))
    assert rewound(found, offset=50) == RecorderName(50, 50, 0, {}, epoch=3, verify_below=100)
    assert rewound(found, offset=10) == RecorderName(40, 40, 0, {}, epoch=3, verify_below=100)
    assert rewound(found, offset=70) is None
    assert rewound(recorder(LogSpan(80, 100), RecorderName(70, 90, 5)), offset=85) is None
