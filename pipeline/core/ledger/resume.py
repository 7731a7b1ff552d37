"""Where a worker goes on: one answer from what it committed, what the broker holds, and what its output says.

Worker, doctor, `topics list` and `topics accept-gap` ask this function and no other. What was not seen is never skipped
silently: a log that is not the one the name belongs to stands still until an operator accepts it.

Below, a log is drawn as [first, next), a name as from..to; the recorder's rows as the last offset that ClickHouse has.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from pipeline.core.ledger.names import AggregatorName, ForeignMetadataError, RecorderName
from pipeline.core.span import Span

Name = AggregatorName | RecorderName


@dataclass(frozen=True, slots=True)
class LogSpan(Span):
    """The offsets of a partition that a reader can come to, and which topic they belong to."""

    topic_id: str = ""  # "" where the broker does not say


@dataclass(frozen=True, slots=True)
class RecordedUpTo:
    """What ClickHouse has of a partition."""

    epoch: int
    last: int  # the highest offset
    topic_id: str = ""  # of the log that its rows came from last; "" unknown


class Problem(Enum):
    """Why a role's partition stands still."""

    GAP = "the log was cut before it was read"
    ANEW = "the topic was made anew: what was done belongs to another log"
    SHORT = "the log ends before what was done: its end was lost, or the topic was made anew"
    FOREIGN = "the committed metadata is not ours: somebody else uses this consumer group"


@dataclass(frozen=True, slots=True)
class Redo:
    """The named cut is made again, exactly; then it goes on."""

    name: Name
    verify_below: int = 0  # ClickHouse has rows up to here that the name does not account for


@dataclass(frozen=True, slots=True)
class GoOn:
    """What the name says is done; nothing is under way."""

    name: Name
    verify_below: int = 0


@dataclass(frozen=True, slots=True)
class StandStill:
    """Nobody but an operator can say how it goes on."""

    problem: Problem
    name: Name | None = None  # what is done, where that is known


Answer = Redo | GoOn | StandStill
Committed = tuple[int, str]  # offset and metadata


def resume_aggregator(committed: Committed | None, log: LogSpan, last_link: AggregatorName | None = None) -> Answer:
    """`last_link`: the newest cut that is out on inference.aggregates; empty if it ended everywhere.

    Nothing anywhere                       log [0, 50)                  GoOn at 0
    Offsets expired (a week without us)    link ..40                    GoOn after 40
    ... in the middle of a cut             link 20..40, out in part     Redo 20..40
    Turned back                            name ..20, link ..40         GoOn after 40: a name is never behind its output
    In order, or killed before the cut     name 40..60, link ..40       Redo 40..60
    An operator's word                     name in a later epoch        it counts, wherever the link is
    """
    try:
        named = None if committed is None else AggregatorName.parse(*committed)
    except ForeignMetadataError:
        return StandStill(Problem.FOREIGN)
    known = [name for name in (named, last_link) if name is not None]
    if not known:
        return GoOn(AggregatorName.begin(log.start, topic_id=log.topic_id))
    # Of two that end together the committed one: it also says where a restart begins to read.
    return _in_log(max(known, key=lambda name: name.end), log)


def resume_recorder(
    committed: Committed | None, log: LogSpan, recorded: RecordedUpTo | None = None, cut_rows_max: int = 0
) -> Answer:
    """`recorded`: what ClickHouse has at and after the name's end, if it could be asked.

    Nothing anywhere                       log [0, 50)                  GoOn at 0
    Offsets expired                        rows to 39, [0, 50)          GoOn a cut before 40: its last may be in half
    ... and the log goes on after a hole   rows to 39, [45, 90)         StandStill GAP: 40..44 are nowhere
    ... and the rows are another log's     rows of another id           StandStill ANEW
    In order                               name 40..60                  Redo 40..60
    Turned back                            name 10..20, rows to 39      Redo 10..20, then ask for all below 40 + a cut
    ... by the cut that was under way      name ..20, rows to 19        GoOn at 20, and ask for a cut
    Looked at again (topics rewind)        name 10..10, verify 90       GoOn at 10: the name accounts for the rows
    """
    try:
        name = None if committed is None else RecorderName.parse(*committed)
    except ForeignMetadataError:
        return StandStill(Problem.FOREIGN)
    if name is None and recorded is None:
        return GoOn(RecorderName(log.start, log.start, 0, topic_id=log.topic_id))
    if name is None:
        assert recorded is not None
        end = recorded.last + 1
        answer = _in_log(RecorderName(end, end, 0, {}, recorded.epoch, topic_id=recorded.topic_id), log)
        if isinstance(answer, StandStill):
            return answer
        # The last cut may be in one of its tables only: it is looked at again, and mended.
        start = max(log.start, end - cut_rows_max)
        name = RecorderName(start, start, 0, {}, recorded.epoch, topic_id=log.topic_id)
        return GoOn(name, min(log.end, end + cut_rows_max))
    # Should Kafka have lost a commit, or somebody turned it back, the tables know more than it: all up to `ahead`, and
    # of the cut after that perhaps some. They may also hold rows of an earlier topic of that name, at any offset.
    is_ahead = recorded is not None and recorded.epoch == name.epoch and recorded.last >= name.to_offset
    ahead = recorded.last + 1 if recorded is not None and is_ahead else name.to_offset
    return _in_log(name, log, max(name.verify_below, min(ahead + cut_rows_max, log.end)))


def recorded_after(committed: Committed | None) -> tuple[int, int] | None:
    """The least (epoch, offset) of ClickHouse's that says more than the recorder's name; None: nothing does."""
    try:
        name = None if committed is None else RecorderName.parse(*committed)
    except ForeignMetadataError:
        return None
    return (0, 0) if name is None else (name.epoch, name.to_offset)


def resume(
    role_is_aggregator: bool,
    committed: Committed | None,
    log: LogSpan,
    output: AggregatorName | RecordedUpTo | None = None,
) -> Answer:
    """For whoever asks about any role."""
    if role_is_aggregator:
        return resume_aggregator(committed, log, output if isinstance(output, AggregatorName) else None)
    return resume_recorder(committed, log, output if isinstance(output, RecordedUpTo) else None)


def _in_log(name: Name, log: LogSpan, verify_below: int = 0) -> Answer:
    """Whether the log still holds what is next and all that is named.

    Another topic            ids differ                         ANEW, however its offsets lie
    Its end is missing       name 40..60, log [0, 55)           SHORT
    ... and its start too    name 10..100, log [50, 60)         SHORT: the end says more than the start
    Its start is missing     name 40..60, log [45, 90)          GAP
    All of it is there       name 40..60, log [40, 60)          Redo
    Read to the end          name ..60, log [60, 60)            GoOn
    """
    if name.topic_id and log.topic_id and name.topic_id != log.topic_id:
        return StandStill(Problem.ANEW, name)
    if max(name.reads_from, name.to_offset) > log.end:
        return StandStill(Problem.SHORT, name)
    if name.reads_from < log.start:
        return StandStill(Problem.GAP, name)
    kind: Callable[[Name, int], Answer] = GoOn if name.is_empty else Redo
    return kind(replace(name, topic_id=log.topic_id or name.topic_id), verify_below)
