"""Where a worker goes on: every case of it, in milliseconds."""

from dataclasses import replace

import pytest

from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.core.ledger.resume import (
    Answer,
    GoOn,
    LogSpan,
    Problem,
    RecordedUpTo,
    Redo,
    StandStill,
    resume,
    resume_aggregator,
    resume_recorder,
)

ID, OTHER = "oneTopicsId", "anotherTopicsId"
CHAIN = {0: Position(0, 7, 10_000)}


def cut(low: int, start: int, to: int, epoch: int = 0, topic_id: str = ID) -> AggregatorName:
    """A cut of the aggregator; each offset closes a millisecond."""
    return AggregatorName(low, start, start, to, to, 8, epoch, topic_id)


def done(low: int, to: int, epoch: int = 0, topic_id: str = ID) -> AggregatorName:
    """What is done, and nothing under way."""
    return cut(low, to, to, epoch, topic_id)


def rows(start: int, to: int, epoch: int = 0, topic_id: str = ID, verify_below: int = 0) -> RecorderName:
    """A cut of the recorder."""
    return RecorderName(start, to, 5, CHAIN, epoch, verify_below, topic_id)


def log(start: int, end: int, topic_id: str = ID) -> LogSpan:
    return LogSpan(start, end, topic_id)


def aggregator(at: AggregatorName | None, there: LogSpan, link: AggregatorName | None) -> Answer:
    return resume_aggregator(None if at is None else (at.low, at.metadata()), there, link)


def recorder(at: RecorderName | None, there: LogSpan, recorded: RecordedUpTo | None, cut_rows_max: int = 10) -> Answer:
    return resume_recorder(None if at is None else (at.from_offset, at.metadata()), there, recorded, cut_rows_max)


BEGIN = AggregatorName.begin


@pytest.mark.parametrize(
    ("story", "committed", "there", "link", "answer"),
    [
        ("nothing anywhere", None, log(0, 50), None, GoOn(BEGIN(0, topic_id=ID))),
        ("nothing anywhere, old records gone", None, log(7, 50), None, GoOn(BEGIN(7, topic_id=ID))),
        ("an empty log", None, log(0, 0), None, GoOn(BEGIN(0, topic_id=ID))),
        ("left in order", done(30, 40), log(0, 50), done(30, 40), GoOn(done(30, 40))),
        ("killed before the cut was made", cut(30, 40, 60), log(0, 60), done(30, 40), Redo(cut(30, 40, 60))),
        ("killed after it", cut(30, 40, 60), log(0, 60), done(50, 60), Redo(cut(30, 40, 60))),
        ("its output is gone", cut(30, 40, 60), log(0, 60), None, Redo(cut(30, 40, 60))),
        ("offsets expired", None, log(0, 50), done(30, 40), GoOn(done(30, 40))),
        ("offsets expired in a cut", None, log(0, 50), cut(10, 20, 40), Redo(cut(10, 20, 40))),
        ("turned back", cut(0, 10, 20), log(0, 50), done(30, 40), GoOn(done(30, 40))),
        ("turned back to a cut's end", done(5, 20), log(0, 50), done(30, 40), GoOn(done(30, 40))),
        (
            "turned back, and out in part",
            cut(0, 10, 20),
            log(0, 50),
            cut(15, 20, 40),
            Redo(cut(15, 20, 40)),
        ),
        ("turned back to the start", done(0, 0), log(0, 50), done(30, 40), GoOn(done(30, 40))),
        ("turned back beyond the log", done(0, 5), log(20, 50), done(30, 40), GoOn(done(30, 40))),
        ("an operator's word", done(20, 20, 1), log(20, 50), done(30, 40), GoOn(done(20, 20, 1))),
        ("read to the end of an empty log", done(60, 60), log(60, 60), None, GoOn(done(60, 60))),
        ("windows that close later", cut(60, 60, 60), log(60, 60), None, GoOn(done(60, 60))),
        ("its start left", cut(30, 40, 60), log(35, 90), None, StandStill(Problem.GAP, cut(30, 40, 60))),
        ("all of it left", cut(30, 40, 60), log(70, 90), None, StandStill(Problem.GAP, cut(30, 40, 60))),
        ("what expired left", None, log(35, 90), done(30, 40), StandStill(Problem.GAP, done(30, 40))),
        ("its end is missing", cut(30, 40, 60), log(0, 55), None, StandStill(Problem.SHORT, cut(30, 40, 60))),
        ("start and end", cut(10, 20, 100), log(50, 60), None, StandStill(Problem.SHORT, cut(10, 20, 100))),
        ("made anew, shorter", cut(30, 40, 60), log(0, 9, OTHER), None, StandStill(Problem.ANEW, cut(30, 40, 60))),
        ("made anew, longer", cut(30, 40, 60), log(0, 900, OTHER), None, StandStill(Problem.ANEW, cut(30, 40, 60))),
        ("made anew, offsets gone", None, log(0, 900, OTHER), done(30, 40), StandStill(Problem.ANEW, done(30, 40))),
        ("made anew, and empty", None, log(0, 0, OTHER), done(30, 40), StandStill(Problem.ANEW, done(30, 40))),
        (
            "made anew and accepted",
            done(0, 0, 1, OTHER),
            log(0, 900, OTHER),
            done(30, 40),
            GoOn(done(0, 0, 1, OTHER)),
        ),
        ("an id from now on", done(30, 40, topic_id=""), log(0, 50), None, GoOn(done(30, 40))),
        ("no id any more", done(30, 40), log(0, 50, ""), None, GoOn(done(30, 40))),
        ("no ids, shorter", done(30, 40, 0, ""), log(0, 9, ""), None, StandStill(Problem.SHORT, done(30, 40, 0, ""))),
    ],
)
def test_an_aggregator_goes_on(
    story: str, committed: AggregatorName | None, there: LogSpan, link: AggregatorName | None, answer: Answer
) -> None:
    assert aggregator(committed, there, link) == answer, story


def fresh(start: int, epoch: int = 0) -> RecorderName:
    """A name that was not committed: no chain, no time."""
    return RecorderName(start, start, 0, {}, epoch, topic_id=ID)


def held(last: int, epoch: int = 0, topic_id: str = ID) -> RecordedUpTo:
    return RecordedUpTo(epoch, last, topic_id)


@pytest.mark.parametrize(
    ("story", "committed", "there", "recorded", "answer"),
    [
        ("nothing anywhere", None, log(0, 50), None, GoOn(fresh(0))),
        ("nothing anywhere, old records gone", None, log(7, 50), None, GoOn(fresh(7))),
        ("left in order", rows(60, 60), log(0, 60), None, GoOn(rows(60, 60), 60)),
        ("killed before the cut was put in", rows(40, 60), log(0, 60), None, Redo(rows(40, 60), 60)),
        ("killed after it", rows(40, 60), log(0, 90), None, Redo(rows(40, 60), 70)),
        ("offsets expired", None, log(0, 50), held(39), GoOn(fresh(30), 50)),
        ("offsets expired at the end", None, log(0, 40), held(39), GoOn(fresh(30), 40)),
        ("offsets expired early", None, log(0, 50), held(3), GoOn(fresh(0), 14)),
        ("offsets expired, the log is empty", None, log(40, 40), held(39), GoOn(fresh(40), 40)),
        ("offsets expired in an epoch", None, log(0, 50), held(39, 2), GoOn(fresh(30, 2), 50)),
        ("a hole behind the rows", None, log(45, 90), held(39), StandStill(Problem.GAP, fresh(40))),
        ("rows beyond the log", None, log(0, 30), held(39), StandStill(Problem.SHORT, fresh(40))),
        ("rows of a log that nobody knows", None, log(0, 90), held(39, 0, ""), GoOn(fresh(30), 50)),
        (
            "rows of another log, and both say so",
            None,
            log(0, 90_000),
            held(60_000, 1, OTHER),
            StandStill(Problem.ANEW, RecorderName(60_001, 60_001, 0, {}, 1, topic_id=OTHER)),
        ),
        ("turned back", rows(10, 20), log(0, 49), held(39), Redo(rows(10, 20), 49)),
        ("turned back to a cut's end", rows(20, 20), log(0, 50), held(39), GoOn(rows(20, 20), 50)),
        ("turned back by what is in half", rows(20, 20), log(0, 50), held(19), GoOn(rows(20, 20), 30)),
        ("an older topic's rows lie ahead", rows(20, 20), log(0, 50), held(900), GoOn(rows(20, 20), 50)),
        ("an older epoch's rows do not", rows(20, 20, 1), log(0, 50), held(900, 0), GoOn(rows(20, 20, 1), 30)),
        ("looked at again", rows(5, 5, 0, ID, 50), log(0, 50), held(49), GoOn(rows(5, 5, 0, ID, 50), 50)),
        ("its start left", rows(40, 60), log(45, 90), None, StandStill(Problem.GAP, rows(40, 60))),
        ("its end is missing", rows(40, 60), log(0, 55), None, StandStill(Problem.SHORT, rows(40, 60))),
        ("start and end", rows(10, 100), log(50, 60), None, StandStill(Problem.SHORT, rows(10, 100))),
        ("made anew, shorter", rows(40, 60), log(0, 9, OTHER), None, StandStill(Problem.ANEW, rows(40, 60))),
        ("made anew, longer", rows(40, 60), log(0, 900, OTHER), held(70), StandStill(Problem.ANEW, rows(40, 60))),
        ("an id from now on", rows(40, 60, 0, ""), log(0, 60), None, Redo(rows(40, 60), 60)),
    ],
)
def test_a_recorder_goes_on(
    story: str, committed: RecorderName | None, there: LogSpan, recorded: RecordedUpTo | None, answer: Answer
) -> None:
    assert recorder(committed, there, recorded) == answer, story


@pytest.mark.parametrize("is_aggregator", [True, False])
def test_metadata_of_somebody_else_is_told_by_whoever_asks(is_aggregator: bool) -> None:
    assert resume(is_aggregator, (3, "hello"), log(0, 9)) == StandStill(Problem.FOREIGN)


def test_whoever_asks_for_any_role_gets_what_the_worker_gets() -> None:
    at = cut(30, 40, 60)
    assert resume(True, (30, at.metadata()), log(0, 60), done(70, 80)) == aggregator(at, log(0, 60), done(70, 80))
    assert resume(False, None, log(0, 50), held(39)) == recorder(None, log(0, 50), held(39), 0)


def test_however_far_a_name_is_turned_back_the_answer_is_the_same() -> None:
    link = done(70, 80)
    for back in range(80):
        at = replace(cut(max(0, back - 10), back, back + 1))
        assert aggregator(at, log(0, 90), link) == (Redo(at) if at.end >= link.end else GoOn(link)), back
