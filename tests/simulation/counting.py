"""Aggregators and recorders: some partitions, a log, a storm; then calm, and the count."""

import asyncio
from collections.abc import Callable
from functools import lru_cache

from aiokafka.structs import TopicPartition

from pipeline.config import Settings, load
from pipeline.core.ledger.names import RecorderName
from schemas.topics import AGGREGATES, EVENTS
from tests.simulation import check, events
from tests.simulation.anew import Operator, make_anew
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.group import Group
from tests.simulation.kafka import CommittedOffsets, Log
from tests.simulation.loop import Clock, pass_s
from tests.simulation.luck import Luck, ViolationError
from tests.simulation.people import People
from tests.simulation.worker import Bug, Place

# Just before a year, a month, a day and an hour end: tables are partitioned by these.
STARTS_MS = (1_798_761_575_000, 1_796_083_185_000, 1_795_391_979_000, 1_795_370_380_000)
SETTLE_S = 30.0  # by then whatever was on its way has arrived
END_S = 300.0  # so long may it take from calm to the end

# Without its committed offset a recorder does not know where the chain is, and takes a repeat that comes next.
RECORDERS_FIND_CHAINS = False


@lru_cache(maxsize=64)
def _settings(cut_rows_max: int) -> Settings:
    return load({}, {"poll_ms": 1500, "cut_age_ms": 50, "cut_rows_max": cut_rows_max})


class Counting:
    """Everything there is."""

    def __init__(self, luck: Luck, bug: Bug) -> None:
        rng = luck.rng
        clock = Clock(rng.choice(STARTS_MS))
        self.luck, self._clock = luck, clock
        settings = _settings(rng.choice((2, 5, 20)))
        self.events = [TopicPartition(EVENTS.name, n) for n in range(rng.choice((1, 1, 2)))]
        self.aggregates = [TopicPartition(AGGREGATES.name, n) for n in range(rng.choice((1, 2, 2, 3)))]
        self.logs = {tp: Log(clock) for tp in [*self.events, *self.aggregates]}
        self.clickhouse = ClickHouse(luck, tokens_max=200)
        committed = {role: CommittedOffsets(bug.fencing) for role in ("aggregator", "recorder")}
        self._operator = Operator(luck, clock, self.logs, committed, self.clickhouse)
        place = Place(settings, luck, clock, self.logs, committed, self.clickhouse, People(luck), bug)
        self.aggregators = Group("aggregator", place, lambda: self.events)
        self.recorders = Group("recorder", place, lambda: [*self.events, *self.aggregates])
        self.groups = (self.aggregators, self.recorders)

    async def run(self) -> None:
        """From the first record to the count."""
        luck, rng = self.luck, self.luck.rng
        for group in self.groups:
            await group.rebalance([])
        producing = [luck.spawn(self._produce(tp, rng.randint(4, 24))) for tp in self.events]
        pace_s = rng.choice((3, 6, 12))
        disturbing = [luck.spawn(group.disturb(pace_s)) for group in self.groups]
        disturbing.append(luck.spawn(self._disturb_clickhouse()))
        if rng.random() < 0.1:
            disturbing.append(luck.spawn(self._grow()))
        await asyncio.gather(*producing)
        await luck.pause(10)
        luck.stormy = False
        luck.tell("calm")
        await asyncio.gather(*disturbing)
        if rng.random() < 0.1:
            await self._sleep_long()
        if rng.random() < 0.15:
            await self._turn_back()
        elif rng.random() < 0.06:
            await self._make_anew()
        try:
            await asyncio.wait_for(self._finish(), END_S)
        except TimeoutError as error:
            raise ViolationError("no end") from error
        await pass_s(SETTLE_S)
        for group in self.groups:
            group.check()  # zombies too
        if luck.counts["CHAIN gap"]:
            raise ViolationError("a reader met a gap")
        luck.counts += check.everything(self.events, self.aggregates, self.logs, self.clickhouse)

    async def _produce(self, tp: TopicPartition, count: int) -> None:
        rng = self.luck.rng
        for pause_s in events.pauses(rng, count):
            await pass_s(pause_s)
            self.logs[tp].append(events.values(rng, self._clock.now_ms()))
            if rng.random() < 0.05:
                self.logs[tp].skip(rng.choice((1, 2, 9)))
        if rng.random() < 0.3:
            self.logs[tp].skip(rng.choice((1, 3)))  # a transaction's end, and nothing behind it

    async def _disturb_clickhouse(self) -> None:
        rng = self.luck.rng
        while self.luck.stormy:
            await pass_s(rng.expovariate(1 / 15))
            if self.luck.strikes(0.5, "clickhouse_down"):
                self.clickhouse.is_up = False
                await self.luck.pause(8)
                self.clickhouse.is_up = True

    async def _grow(self) -> None:
        """The topic of aggregates gets one partition more."""
        await self.luck.pause(20)
        self.luck.note("growth")
        self.aggregates.append(TopicPartition(AGGREGATES.name, len(self.aggregates)))
        self.logs[self.aggregates[-1]] = Log(self._clock, came_later=True)
        await self.recorders.rebalance(self.recorders.members)  # a client notices it, and joins again

    async def _sleep_long(self) -> None:
        """All workers are killed, ClickHouse forgets its tokens; then they come back, into more of the storm."""
        self.luck.note("long_outage")
        names_lost = self.luck.rng.random() < 0.4
        if names_lost:
            await pass_s(SETTLE_S)  # what they are at would be lost with its name
            await self.recorders.stop()
        for group in self.groups:
            group.kill()
        await pass_s(SETTLE_S)  # nothing is on its way any more
        await pass_s(2 * 3600)
        self.clickhouse.forget_tokens()
        if names_lost:
            self.luck.note("names_lost")
            self.aggregators.state.offsets.clear()
            for tp in self.logs if RECORDERS_FIND_CHAINS else self.events:
                self.recorders.state.offsets.pop(tp, None)
        await self._storm_again()

    async def _turn_back(self) -> None:
        """All workers are killed, and once nothing is on its way any more each role's commits are turned back."""
        self.luck.note("turned_back")
        for group in self.groups:
            group.kill()
        await pass_s(SETTLE_S)
        for group in self.groups:
            group.state.turn_back(lambda count: self.luck.rng.choice((0, 1, 1, 2, 5, count - 1)))
        await self._storm_again()

    async def _make_anew(self) -> None:
        """The topic of events is deleted and created, longer or shorter; all stand still there until it is accepted."""
        self.luck.note("made_anew")
        rng = self.luck.rng
        await asyncio.wait_for(self._finish(), END_S)  # what goes with the old topic must be in
        make_anew(self.events, self.logs, [group.state for group in self.groups], keeps=rng.random() < 0.3)
        producing = [self.luck.spawn(self._produce(tp, rng.choice((1, 4, 40)))) for tp in self.events]
        await self._storm_again()  # and nothing comes of it
        await asyncio.gather(*producing)
        for _ in range(2):  # who was lost in the storm may have been replaced meanwhile
            for group in self.groups:
                group.kill()
            await pass_s(SETTLE_S)
        await self._operator.accept(self.events)
        await self._storm_again()
        if rng.random() < 0.5:
            await self._forget_in_the_new_one()

    async def _forget_in_the_new_one(self) -> None:
        """Kafka loses what the recorders committed; ClickHouse has rows of both topics, at the same offsets."""
        self.luck.note("forgotten_anew")
        await asyncio.wait_for(self._finish(), END_S)
        for tp in self.events:
            self.recorders.state.forget(tp)
        producing = [self.luck.spawn(self._produce(tp, self.luck.rng.choice((1, 10)))) for tp in self.events]
        await self._storm_again()
        await asyncio.gather(*producing)

    async def _storm_again(self) -> None:
        self.luck.stormy = True
        for group in self.groups:
            await group.rebalance([])
        await self.luck.pause(10)
        self.luck.stormy = False

    # -- the end

    async def _finish(self) -> None:
        await self._until(self._is_aggregated)
        await self.aggregators.stop()
        await self._until(self._is_named_to_the_end)
        await pass_s(SETTLE_S)  # until the last cuts are made
        await self.recorders.stop()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            await pass_s(3)

    def _is_aggregated(self) -> bool:
        last_ms = check.last_window_end_ms(self.logs[tp] for tp in self.events)
        ends = check.chain_ends(self.aggregates, self.logs)
        return all(
            (end := ends.get((source.partition, target.partition))) is not None
            and end.offset == self.logs[source].end
            and end.through_ms >= last_ms
            for source in self.events
            for target in self.aggregates
        )

    def _is_named_to_the_end(self) -> bool:
        offsets = self.recorders.state.offsets
        return all(
            RecorderName.parse(offsets[tp].offset, offsets[tp].metadata).to_offset == log.end
            if tp in offsets
            else self.luck.counts["names_lost"]  # and nothing came since
            for tp, log in self.logs.items()
        )
