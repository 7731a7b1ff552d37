"""The recorder: records of every topic -> rows in ClickHouse, each exactly once."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import faust
import structlog

from agents.app import Fold, Folding, Role, host, make_app
from agents.world import World
from pipeline import kernel
from pipeline.config import Settings
from pipeline.core.batch import Batch, join
from pipeline.core.ledger.chain import Verdict
from pipeline.core.ledger.closing import Ripening
from pipeline.core.ledger.names import Position, RecorderName
from pipeline.core.ledger.resume import recorded_after, resume_recorder
from pipeline.core.ledger.standing import RECORDER
from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.windows import followed
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from pipeline.edge.store.inserts import Attempt
from pipeline.edge.store.recorded import TABLES, WINDOWS, note_log, recorded

log = structlog.get_logger()

IDLE_S = 1.0  # then a finished cut does not stay named
DELAYS_SAMPLED = 20  # of a cut's records
FOLLOWED_MAX = 20_000  # records of inference.aggregates: hours of cuts of eight sources


@dataclass(frozen=True, slots=True)
class RowsRoute:
    """Where the records of a topic go: how to make rows of them, and which tables say how far it had come."""

    record: Callable[[Batch, Mapping[int, Position], int], Recorded]
    table: str


@dataclass(slots=True)
class _State:
    """How far a partition has come."""

    next_offset: int
    topic_id: str = ""
    epoch: int = 0
    chain: Mapping[int, Position] = field(default_factory=dict)
    verify_below: int = 0  # ClickHouse has rows up to here that no committed name accounts for


class Recorder:
    """The role's work on one partition after another."""

    def __init__(self, settings: Settings, world: World, fold: Fold, idle_s: float = IDLE_S) -> None:
        """Batches are folded by `fold`; a finished cut does not stay named for longer than `idle_s`."""
        self._settings, self._clock, self._metrics = settings, world.clock, world.metrics
        self._store, self._fold, self._idle_s = world.store, fold, idle_s
        self.routes = {
            settings.topic(topic.name): RowsRoute(partial(kernel.rows, topic, settings.time_limits), table)
            for topic, table in TABLES.items()
        }

    async def work(self, partition: Partition) -> None:
        """One partition, from its committed name until it is revoked."""
        name, state = await self._restore(partition)
        if not await self._reach(partition, state):
            return
        if not name.is_empty:
            redone = await self._redo(partition, name, state)
            if not redone:
                return
        named = False
        while not partition.leaving:
            if not await partition.wait(self._idle_s):
                if not partition.leaving:
                    named = await self._settle(partition, state, named)
                continue
            await self._ripen(partition)
            taken = await partition.take(self._settings.cut_rows_max)
            if taken:
                attempt = Attempt.AGAIN_OLD if state.next_offset < state.verify_below else Attempt.FIRST
                await self._record(partition, state, join(taken), attempt, None)
                named = True
        await self._settle(partition, state, named)

    async def _settle(self, partition: Partition, state: _State, named: bool) -> bool:
        """Says that all is done that has come, holes in the log among it; False: nothing is named any more."""
        if named or partition.next_offset > state.next_offset:
            state.next_offset = partition.next_offset
            await self._commit(partition, state, state.next_offset)
        return False

    async def _ripen(self, partition: Partition) -> None:
        """Waits until there is enough for a cut, or it has waited long enough."""
        since = self._clock.monotonic()
        ripening = Ripening(self._settings.cut_rows_max, self._settings.cut_age_ms)
        while not partition.leaving:
            waited_ms = (self._clock.monotonic() - since) * 1000
            left_ms = ripening.left_ms(waited_ms, partition.pending_records, partition.is_full)
            if not left_ms:
                return
            await asyncio.sleep(min(left_ms / 1000, 0.05))

    async def _reach(self, partition: Partition, state: _State) -> bool:
        """Begins to read where the name ends; False if the partition is revoked before it is there.

        Where no name holds the chain's positions, the records before are read for them.
        """
        start = state.next_offset
        if self.routes[partition.topic].table == WINDOWS and not state.chain:
            start = max((await partition.log_span()).start, start - FOLLOWED_MAX)
        partition.seek(start)
        while partition.next_offset < state.next_offset:
            if partition.leaving:
                return False
            await partition.wait(self._idle_s)
            for batch in await partition.take(1000, until=state.next_offset):
                state.chain = followed(batch.values, state.chain)
        return True

    async def _redo(self, partition: Partition, name: RecorderName, state: _State) -> bool:
        """Makes the named cut again, exactly; False if the partition is revoked before it is read."""
        taken = []
        while partition.next_offset < name.to_offset:
            if partition.leaving:
                return False
            await partition.wait(self._idle_s)
            taken += await partition.take(self._settings.cut_rows_max, until=name.to_offset)
        if taken:
            # As those before us did it: what they put in under further tokens, the first one does not protect.
            attempt = Attempt.AGAIN_OLD if name.from_offset < name.verify_below else Attempt.AGAIN
            await self._record(partition, state, join(taken), attempt, name)
        state.next_offset = name.to_offset
        self._metrics.CUTS_REDONE.labels(partition.topic).inc()
        return True

    async def _record(
        self, partition: Partition, state: _State, records: Batch, attempt: Attempt, name: RecorderName | None
    ) -> None:
        """Names a cut (unless it is named) while its rows are made, then puts them in."""
        route = self.routes[partition.topic]
        to_offset = records.next_offset if name is None else name.to_offset
        named_ms = self._clock.now_ms() if name is None else name.named_at_ms
        making = self._fold(partial(route.record, records, state.chain, state.epoch))
        if name is None:
            _, made = await asyncio.gather(self._commit(partition, state, to_offset), making)
        else:
            made = await making
        first, topic = state.next_offset, partition.topic
        token = f"{topic}:{partition.tp.partition}:{first}-{to_offset}:{records.oldest_ms}"
        for rows in made.blocks:
            await self._store.put(rows, token, attempt, named_ms, partition.alive)
        state.next_offset, state.chain = to_offset, made.chain or state.chain
        partition.done_time_ms = records.newest_ms
        self._count(partition, records, made)

    def _count(self, partition: Partition, records: Batch, made: Recorded) -> None:
        self._metrics.CUTS.labels(partition.topic).inc()
        for reason, count in made.refused.items():
            self._metrics.REFUSED.labels(partition.topic, reason.value).inc(count)
        for adjustment, count in made.adjusted.items():
            self._metrics.ADJUSTED.labels(partition.topic, adjustment.value).inc(count)
        for verdict, count in made.verdicts.items():
            self._metrics.CHAIN.labels(verdict.value).inc(count)
        if made.verdicts[Verdict.GAP]:
            log.error("chain_gap", topic=partition.topic, partition=partition.tp.partition, offset=records.first_offset)
        if self.routes[partition.topic].table == "inferences":
            now_ms = self._clock.now_ms()
            for time_ms in records.times_ms[:: max(1, len(records.times_ms) // DELAYS_SAMPLED)]:
                self._metrics.EVENT_TO_ROW_SECONDS.observe(max(0, now_ms - time_ms) / 1000)

    async def _commit(self, partition: Partition, state: _State, to_offset: int) -> None:
        verify_below = state.verify_below if state.verify_below > state.next_offset else 0
        name = RecorderName(
            state.next_offset, to_offset, self._clock.now_ms(), state.chain, state.epoch, verify_below, state.topic_id
        )
        await partition.commit(name.from_offset, name.metadata())

    async def _restore(self, partition: Partition) -> tuple[RecorderName, _State]:
        """Where it goes on. Raises StandsStillError."""
        span, committed = await partition.log_span(), await partition.committed_name()
        table, topic, number = self.routes[partition.topic].table, partition.topic, partition.tp.partition
        query = partial(self._store.query, alive=partition.alive)
        least = recorded_after(committed)
        there = None if least is None else await recorded(query, table, topic, number, least)
        answer = partition.go_on(RECORDER, span, resume_recorder(committed, span, there, self._settings.cut_rows_max))
        name = answer.name
        assert isinstance(name, RecorderName)
        await note_log(query, topic, number, name.topic_id, name.epoch)
        return name, _State(name.from_offset, name.topic_id, name.epoch, name.chain, answer.verify_below)


def make(settings: Settings, world: World) -> tuple[faust.App, Role]:
    """The recorder's app."""
    app = make_app("recorder", settings)
    recorder = Recorder(settings, world, Folding(app, "record"))
    work = dict.fromkeys(recorder.routes, recorder.work)
    members = Partitions(settings, world.log, world.clock, settings.group("recorder"), work)
    role = Role("recorder", world, members, (world.store,))
    host(app, role)
    return app, role
