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
from pipeline.core.ledger.names import Position, RecorderName, mark, marked
from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.windows import followed
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from pipeline.edge.store.inserts import Attempt
from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS, METADATA, Topic

log = structlog.get_logger()

WINDOWS = "model_windows_1d"  # the last to forget: it says of all window tables how far they have come
TOKENS_KEPT_MS = 3_600_000  # what ClickHouse surely remembers; older names are judged by the data alone
IDLE_S = 1.0  # then a finished cut does not stay named
DELAYS_SAMPLED = 20  # of a cut's records
FOLLOWED_MAX = 20_000  # records of inference.aggregates: hours of cuts of eight sources


# What says how far it had come.
_TABLES: Mapping[Topic, str] = {
    EVENTS: "inferences",
    HEARTBEATS: "device_heartbeats",
    METADATA: "inference_metadata",
    ALERTS: "alerts",
    AGGREGATES: WINDOWS,
}


@dataclass(frozen=True, slots=True)
class Route:
    """Where the records of a topic go: how to make rows of them, and which tables say how far it had come."""

    record: Callable[[Batch, Mapping[int, Position], int], Recorded]
    table: str


@dataclass(slots=True)
class _State:
    """How far a partition has come."""

    next_offset: int
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
            settings.topic(topic.name): Route(partial(kernel.rows, topic, settings.time_limits), table)
            for topic, table in _TABLES.items()
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
                if named and not partition.leaving:
                    await self._commit(partition, state, state.next_offset)
                    named = False
                continue
            await self._ripen(partition)
            taken = await partition.take(self._settings.cut_rows_max)
            if taken:
                attempt = Attempt.AGAIN_OLD if state.next_offset < state.verify_below else Attempt.FIRST
                await self._record(partition, state, join(taken), attempt, None)
                named = True
        if named:
            await self._commit(partition, state, state.next_offset)

    async def _ripen(self, partition: Partition) -> None:
        """Waits until there is enough for a cut, or it has waited long enough."""
        since = self._clock.monotonic()
        settings = self._settings
        while (
            not partition.leaving
            and partition.pending_records < settings.cut_rows_max
            and not partition.is_full
            and (left_s := settings.cut_age_ms / 1000 - (self._clock.monotonic() - since)) > 0
        ):
            await asyncio.sleep(min(left_s, 0.05))

    async def _reach(self, partition: Partition, state: _State) -> bool:
        """Begins to read where the name ends; False if the partition is revoked before it is there.

        Where no name holds the chain's positions, the records before are read for them.
        """
        start = state.next_offset
        if self.routes[partition.topic].table == WINDOWS and not state.chain:
            first, _ = await partition.ends()
            start = max(first, start - FOLLOWED_MAX)
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
        old = self._clock.now_ms() - name.named_at_ms > TOKENS_KEPT_MS
        # Named anew, perhaps, long after its rows were first put in.
        old = old or name.from_offset < state.verify_below
        attempt = Attempt.AGAIN_OLD if old else Attempt.AGAIN
        await self._record(partition, state, join(taken), attempt, name)
        self._metrics.CUTS_REDONE.labels(partition.topic).inc()
        return True

    async def _record(
        self, partition: Partition, state: _State, records: Batch, attempt: Attempt, name: RecorderName | None
    ) -> None:
        """Names a cut (unless it is named) while its rows are made, then puts them in."""
        route = self.routes[partition.topic]
        to_offset = records.next_offset
        making = self._fold(partial(route.record, records, state.chain, state.epoch))
        if name is None:
            _, recorded = await asyncio.gather(self._commit(partition, state, to_offset), making)
        else:
            recorded = await making
        first, topic = state.next_offset, partition.topic
        token = f"{topic}:{partition.tp.partition}:{first}-{to_offset}:{records.oldest_ms}"
        for rows in recorded.blocks:
            await self._store.put(rows, token, attempt, partition.alive)
        state.next_offset, state.chain = to_offset, recorded.chain or state.chain
        partition.done_time_ms = records.newest_ms
        self._count(partition, records, recorded)

    def _count(self, partition: Partition, records: Batch, recorded: Recorded) -> None:
        self._metrics.CUTS.labels(partition.topic).inc()
        for reason, count in recorded.refused.items():
            self._metrics.REFUSED.labels(partition.topic, reason.value).inc(count)
        for adjustment, count in recorded.adjusted.items():
            self._metrics.ADJUSTED.labels(partition.topic, adjustment.value).inc(count)
        for verdict, count in recorded.verdicts.items():
            self._metrics.CHAIN.labels(verdict.value).inc(count)
        if recorded.verdicts[Verdict.GAP]:
            log.error("chain_gap", topic=partition.topic, partition=partition.tp.partition, offset=records.first_offset)
        if self.routes[partition.topic].table == "inferences":
            now_ms = self._clock.now_ms()
            for time_ms in records.times_ms[:: max(1, len(records.times_ms) // DELAYS_SAMPLED)]:
                self._metrics.EVENT_TO_ROW_SECONDS.observe(max(0, now_ms - time_ms) / 1000)

    async def _commit(self, partition: Partition, state: _State, to_offset: int) -> None:
        verify_below = state.verify_below if state.verify_below > state.next_offset else 0
        name = RecorderName(state.next_offset, to_offset, self._clock.now_ms(), state.chain, state.epoch, verify_below)
        await partition.commit(name.from_offset, name.metadata())

    async def _restore(self, partition: Partition) -> tuple[RecorderName, _State]:
        """What is committed, checked against the log and the tables. Raises GapError and ForeignMetadataError."""
        committed = await partition.committed()
        first, end = await partition.ends()
        if committed is None:
            # Committed offsets expire when a group is empty for a week; the tables say how far it had come.
            recorded = await self._recorded_to(partition, (0, 0))
            epoch, last = (0, first - 1) if recorded is None else recorded
            # The last cut may be in one of its tables only: it is looked at again, and mended.
            start = max(first, last + 1 - self._settings.cut_rows_max) if last < end else last + 1
            name = RecorderName(start, start, 0, epoch=epoch)
        else:
            name = RecorderName.parse(committed.offset, committed.metadata)
        partition.check_log("recorder", name.from_offset, name.to_offset, (first, end))
        # Should Kafka have lost a commit, or somebody turned it back, the tables know more than it.
        ahead = await self._recorded_to(partition, (name.epoch, name.to_offset))
        verify_below = 0 if ahead is None or ahead[0] != name.epoch else ahead[1] + 1
        verify_below = max(verify_below, name.verify_below)
        return name, _State(name.from_offset, name.epoch, name.chain, verify_below)

    async def _recorded_to(self, partition: Partition, least: tuple[int, int]) -> tuple[int, int] | None:
        """The highest (epoch, offset) >= `least` that ClickHouse has of a partition; None if it has none."""
        number, topic = partition.tp.partition, partition.topic
        table = self.routes[topic].table
        if table == WINDOWS:
            sql = (
                f"SELECT maxOrNull(source[{number}]) FROM {WINDOWS} "
                f"WHERE mapContains(source, {number}) AND source[{number}] >= {mark(*least)}"
            )
        else:
            there = f"kafka_partition = {number} AND kafka_offset >= {least[1]}"
            sql = (
                f"SELECT maxOrNull(o) FROM (SELECT maxOrNull(kafka_offset) AS o FROM {table} WHERE {there} UNION ALL "
                f"SELECT maxOrNull(kafka_offset) FROM dead_letters WHERE kafka_topic = '{topic}' AND {there})"
            )
        (line,) = await self._store.query(sql, partition.alive)
        if line == r"\N":
            return None
        return marked(int(line)) if table == WINDOWS else (least[0], int(line))


def make(settings: Settings, world: World) -> tuple[faust.App, Role]:
    """The recorder's app."""
    app = make_app("recorder", settings)
    recorder = Recorder(settings, world, Folding(app, "record"))
    work = dict.fromkeys(recorder.routes, recorder.work)
    members = Partitions(settings, world.log, world.clock, settings.group("recorder"), work)
    role = Role("recorder", world, members, (world.store,))
    host(app, role)
    return app, role
