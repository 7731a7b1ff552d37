"""Where a role stands in a partition: what it has committed, what the broker holds, and what an operator accepts.

A role never skips by itself what it has not seen: a log that was cut (retention) or made anew stands still until an
operator says `inferwatch topics accept-gap`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pipeline.core.ledger.names import AggregatorName, ForeignMetadataError, Position, RecorderName
from pipeline.core.span import Span
from schemas import roles
from schemas.topics import Topic

AGGREGATOR, RECORDER = roles.AGGREGATOR.name, roles.RECORDER.name
READS: Mapping[str, tuple[Topic, ...]] = {role.name: role.reads for role in roles.ROLES if role.is_exact}


class Problem(Enum):
    """Why a role's partition stands still."""

    GAP = "the log was cut before it was read"
    ANEW = "the log ends before the committed offset: the topic was made anew"
    FOREIGN = "the committed metadata is not ours: somebody else uses this consumer group"


@dataclass(frozen=True, slots=True)
class Standing:
    """One role in one partition."""

    role: str
    topic: str
    partition: int
    log: Span  # offsets on the broker
    name: AggregatorName | RecorderName | None = None  # None: nothing of ours is committed
    problem: Problem | None = None

    @property
    def next_offset(self) -> int:
        """The first offset that a restart would read."""
        match self.name:
            case AggregatorName(low=offset) | RecorderName(from_offset=offset):
                return offset
            case _:
                return self.log.start

    @property
    def lag(self) -> int:
        """Records on the broker that no cut has taken."""
        taken = self.name.to_offset if isinstance(self.name, AggregatorName) else self.next_offset
        return max(0, self.log.end - max(taken, self.log.start)) if self.problem is not Problem.ANEW else len(self.log)

    @property
    def lost(self) -> int:
        """Records that left the broker before the role was done with them, at most."""
        return max(0, self.log.start - self.next_offset) if self.problem is Problem.GAP else 0


def judge(role: str, topic: str, partition: int, log: Span, committed: tuple[int, str] | None) -> Standing:
    """`committed`: offset and metadata of the role's group, None without."""
    if committed is None:
        return Standing(role, topic, partition, log)
    parse = AggregatorName.parse if role == AGGREGATOR else RecorderName.parse
    try:
        name = parse(*committed)
    except ForeignMetadataError:
        return Standing(role, topic, partition, log, problem=Problem.FOREIGN)
    standing = Standing(role, topic, partition, log, name)
    if max(name.to_offset, standing.next_offset) > log.end:
        return Standing(role, topic, partition, log, name, Problem.ANEW)
    if standing.next_offset < log.start:
        return Standing(role, topic, partition, log, name, Problem.GAP)
    return standing


def rewound(standing: Standing, offset: int) -> RecorderName | None:
    """The name to commit so that the recorder looks again at all from `offset` on; None if it has yet to come there.

    All that is in the log now is asked for in ClickHouse before it is put in, and only what is missing is.
    """
    name, start = standing.name, max(offset, standing.log.start)
    if standing.problem is not None or not isinstance(name, RecorderName) or start >= name.from_offset:
        return None
    return RecorderName(start, start, 0, {}, name.epoch, standing.log.end)


def accepted(standing: Standing, now_ms: int) -> AggregatorName | RecorderName:
    """The name to commit so that the role goes on at the start of the log.

    The aggregator's windows that are closed stay closed, and a new epoch tells every reader of the chain that what
    lies between is known to be gone. So does one of the recorder, to the tables; rows that are there already are found
    by asking them.
    """
    name, log = standing.name, standing.log
    match name:
        case AggregatorName() if standing.problem is Problem.GAP:
            return name.after_gap(log.start, name.epoch + 1)
        case AggregatorName():
            start, closed_ms = log.start, name.through_ms
            return AggregatorName(start, start, closed_ms, start, closed_ms, 0, name.epoch + 1)
        case _:
            chain: Mapping[int, Position] = name.chain if name is not None else {}
            epoch = name.epoch if name is not None else 0
            return RecorderName(log.start, log.start, now_ms, chain, epoch + 1)
