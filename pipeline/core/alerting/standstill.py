"""Whether another role gets on: records wait for it in a partition, and it has not moved there for so long."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.ledger.standing import Standing
from schemas.topics import AGGREGATES


@dataclass(frozen=True, slots=True)
class Waiting:
    """A partition where records wait."""

    partition: str  # topic/number
    since_ms: int  # they have waited, or the role has moved last
    records: int
    problem: str  # what an operator is asked about; "" if nothing


@dataclass(frozen=True, slots=True)
class RoleProgress:
    """One role at one moment."""

    partitions: int
    moved_ms: int  # when it was last seen to move in any of them; when it was first looked at, if never
    waiting: tuple[Waiting, ...]  # longest first


class StandstillState(msgspec.Struct):
    """How far a role was when it was looked at last."""

    asked_ms: int = 0
    moved_ms: int = 0
    # By partition: how far it is there, and since when it has not moved although records wait; None: none do.
    at: dict[str, tuple[int, int | None]] = {}


class Standstill:
    """One role, in all its partitions. Time is an argument, and so is what the broker said."""

    def __init__(self, forget_ms: int) -> None:
        """Who has not looked for `forget_ms` does not know that it stood still all the while."""
        self._forget_ms = forget_ms
        self._state = StandstillState()

    def observe(self, at_ms: int, standings: Iterable[Standing]) -> RoleProgress:
        """Where the role stands in each of its partitions."""
        state = self._state
        if at_ms - state.asked_ms > self._forget_ms:
            state.at, state.moved_ms = {}, at_ms
        state.asked_ms = at_ms
        before, state.at = state.at, {}
        waiting = []
        for one in standings:
            name, taken = f"{one.topic}/{one.partition}", _taken(one)
            known, since_ms = before.get(name, (taken, None))
            if known != taken:
                since_ms = None
                # A cut of the aggregator without a row is taken without ClickHouse: it says nothing of it.
                state.moved_ms = state.moved_ms if one.topic.endswith(AGGREGATES.name) else at_ms
            if one.lag:
                since_ms = at_ms if since_ms is None else since_ms
                waiting.append(Waiting(name, since_ms, one.lag, one.problem.value if one.problem else ""))
            state.at[name] = taken, since_ms if one.lag else None
        waiting.sort(key=lambda one: (one.since_ms, one.partition))
        return RoleProgress(len(state.at), state.moved_ms, tuple(waiting))

    def snapshot(self) -> StandstillState:
        """What to save."""
        return self._state

    def restore(self, state: StandstillState) -> None:
        """As it was when it was saved."""
        self._state = state


def _taken(standing: Standing) -> int:
    """How far it has come: it grows with every cut."""
    name = standing.name
    return name.to_offset if isinstance(name, AggregatorName) else standing.next_offset
