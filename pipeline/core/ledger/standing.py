"""Where a role stands in a partition: what it has committed, what the broker holds, and what an operator accepts.

A role never skips by itself what it has not seen: a log that was cut (retention) or made anew stands still until an
operator says `inferwatch topics accept-gap`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.core.ledger.names import AggregatorName, RecorderName
from pipeline.core.ledger.resume import Committed, LogSpan, Name, Problem, RecordedUpTo, StandStill, resume
from schemas import roles
from schemas.topics import Topic

AGGREGATOR, RECORDER = roles.AGGREGATOR.name, roles.RECORDER.name
READS: Mapping[str, tuple[Topic, ...]] = {role.name: role.reads for role in roles.ROLES if role.is_exact}


@dataclass(frozen=True, slots=True)
class Standing:
    """One role in one partition."""

    role: str
    topic: str
    partition: int
    log: LogSpan
    name: Name | None = None  # what is done and named; None: nothing of ours is known
    problem: Problem | None = None

    @property
    def next_offset(self) -> int:
        """The first offset that a restart would read."""
        return self.log.start if self.name is None else self.name.reads_from

    @property
    def lag(self) -> int:
        """Offsets on the broker that no cut has taken."""
        if self.problem is Problem.ANEW:
            return len(self.log)
        taken = self.name.to_offset if isinstance(self.name, AggregatorName) else self.next_offset
        return max(0, self.log.end - max(taken, self.log.start))

    @property
    def lost(self) -> int:
        """Records that left the broker before the role was done with them, at most."""
        return max(0, self.log.start - self.next_offset) if self.problem is Problem.GAP else 0

    @property
    def goes_on_at(self) -> int:
        """Where it reads on once an operator has accepted the problem."""
        return self.log.end if self._lost_its_end else self.log.start

    @property
    def _lost_its_end(self) -> bool:
        """Whether it is surely the same log, so that what it still holds was read before."""
        same = self.name is not None and self.log.topic_id and self.name.topic_id == self.log.topic_id
        return self.problem is Problem.SHORT and bool(same)

    def trouble(self) -> str:
        """What is wrong and what to do, for a person."""
        assert self.problem is not None
        where = f"{self.topic} partition {self.partition}: {self.problem.value}"
        if self.problem is Problem.FOREIGN:
            return f"{where}; give this installation another INFERWATCH_GROUP_PREFIX"
        done = ""
        if self.name is not None:
            done = f" the {self.role} is done up to offset {self.next_offset}"
            done += f", the log starts at {self.log.start} and ends at {self.log.end};"
        if self.lost:
            done += f" {self.lost:,} offsets ({self.next_offset}..{self.log.start - 1}) are lost to it;"
        command = f"inferwatch topics accept-gap --role {self.role} {self.topic} {self.partition}"
        return f"{where};{done} to accept it stop the {self.role} workers, then: {command}"


def standing(
    role: str,
    topic: str,
    partition: int,
    log: LogSpan,
    committed: Committed | None,
    output: AggregatorName | RecordedUpTo | None = None,
) -> Standing:
    """`committed`: of the role's group; `output`: what its output says, where it was asked."""
    answer = resume(role == AGGREGATOR, committed, log, output)
    if isinstance(answer, StandStill):
        return Standing(role, topic, partition, log, answer.name, answer.problem)
    is_new = committed is None and output is None
    return Standing(role, topic, partition, log, None if is_new else answer.name)


def rewound(standing: Standing, offset: int) -> RecorderName | None:
    """The name to commit so that the recorder looks again at all from `offset` on; None if it has yet to come there.

    All that is in the log now is asked for in ClickHouse before it is put in, and only what is missing is.
    """
    name, log = standing.name, standing.log
    start = max(offset, log.start)
    if standing.problem is not None or not isinstance(name, RecorderName) or start >= name.from_offset:
        return None
    return RecorderName(start, start, 0, {}, name.epoch, log.end, log.topic_id)


def accepted(standing: Standing, now_ms: int) -> Name:
    """The name to commit so that the role goes on, at `goes_on_at`, with what it cannot have counted as gone.

    Of the same log what was recorded is known by its offset; of another one only a new epoch tells it apart. Rows of
    the recorder that are there already are found by asking them.
    """
    name, log, at = standing.name, standing.log, standing.goes_on_at
    is_gap = standing.problem is Problem.GAP
    match name:
        case AggregatorName():
            return name.goes_on(at, max(name.to_offset, at) if is_gap else at, log.topic_id)
        case RecorderName() if is_gap:
            verify_below = max(name.verify_below, name.to_offset)
            return RecorderName(at, at, now_ms, name.chain, name.epoch, verify_below, log.topic_id)
        case RecorderName():
            return RecorderName(at, at, now_ms, name.chain, name.epoch + 1, 0, log.topic_id)
        case _:
            raise ValueError(f"there is nothing to accept: {standing}")
