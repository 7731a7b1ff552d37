"""Deliberate bugs, each in code of ours that the simulation runs: what breaks a rule of the ledger must be seen."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import agents.recorder
import pipeline.core.windows.publication
from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.core.rows.tables import TableRows
from pipeline.core.windows.aggregation import PartitionAggregator
from pipeline.edge.kafka.group.commits import Committer
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.store.inserts import Attempt, Writer
from tests.simulation.kafka import CommittedOffsets

Alive = Callable[[], None]


@contextmanager
def patched(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    """All of them at once."""
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def aggregator_does_not_redo() -> AbstractContextManager[None]:
    """A named cut is taken for done."""
    parse = AggregatorName.parse

    def done(offset: int, metadata: str) -> AggregatorName:
        name = parse(offset, metadata)
        return name.done(name.low)

    return patched(patch.object(AggregatorName, "parse", done))


def recorder_does_not_redo() -> AbstractContextManager[None]:
    """A named cut is taken for done."""
    parse = RecorderName.parse

    def done(offset: int, metadata: str) -> RecorderName:
        name = parse(offset, metadata)
        return replace(name, from_offset=name.to_offset)

    return patched(patch.object(RecorderName, "parse", done))


def low_water_mark_is_high() -> AbstractContextManager[None]:
    """A restart begins after what is still open."""
    return patched(patch.object(PartitionAggregator, "low", property(lambda machine: machine.next_offset)))


def names_come_after() -> AbstractContextManager[None]:
    """A cut is made first, and named then: each name waits for the next."""
    commit = Partition.commit

    async def late(partition: Any, offset: int, metadata: str) -> None:
        held = getattr(partition, "held", None)
        partition.held = offset, metadata
        if held is not None:
            await commit(partition, *held)

    return patched(patch.object(Partition, "commit", late))


def retries_are_believed() -> AbstractContextManager[None]:
    """An insert counts when it is acknowledged, whatever was before."""

    async def put(writer: Any, rows: TableRows, token: str, attempt: Attempt, alive: Alive) -> None:
        await writer._insert(rows, token, alive)

    return patched(patch.object(Writer, "put", put))


def forgotten_tokens_are_trusted() -> AbstractContextManager[None]:
    """A cut is made again with its token, however old it is."""
    return patched(patch.object(agents.recorder, "TOKENS_KEPT_MS", 1 << 60))


def chain_is_not_checked() -> AbstractContextManager[None]:
    """A reader takes every record."""

    def observe(chain: Any, source: int, start: Position, end: Position) -> Verdict:
        chain._positions[source] = end
        return Verdict.ACCEPTED

    return patched(patch.object(Chain, "observe", observe))


class _Anyone(tuple[Any, ...]):
    """A member that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


def names_are_not_fenced() -> AbstractContextManager[None]:
    """Whoever commits is heard: neither we nor the broker look at the generation."""
    member = vars(Committer)["member"].fget
    return patched(
        patch.object(Committer, "member", property(lambda committer: _Anyone(member(committer)))),
        patch.object(CommittedOffsets, "fencing", False),
    )


def cuts_show_who_made_them() -> AbstractContextManager[None]:
    """Rows go out in the order in which names were first met, which depends on where reading began."""

    def as_met(table: Any, *_: str) -> Any:
        return table

    return patched(patch.object(pipeline.core.windows.publication, "_ordered", as_met))


BUGS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        aggregator_does_not_redo,
        recorder_does_not_redo,
        low_water_mark_is_high,
        names_come_after,
        retries_are_believed,
        forgotten_tokens_are_trusted,
        chain_is_not_checked,
        names_are_not_fenced,
        cuts_show_who_made_them,
    )
}
