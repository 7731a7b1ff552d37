"""The detector: aggregates, heartbeats and rules -> the life of alerts, on inference.alerts. No ClickHouse anywhere.

What it tells follows from the log and from what people say (rules, acknowledgements). Its state is saved together with
the offset that explains it. Before it tells what follows from the log, it commits how far it has read: after a crash it
goes on from the state that was saved, and takes in nothing new of what people say before it has come so far again. When
people say something new, the state is saved first, with the steps that are not told yet. So every step has the same id
whenever it is told: whoever reads them drops what it has.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import faust
import msgspec
import orjson
import structlog

from agents.app import Fold, Folding, Role, host, make_app
from agents.checkpoint import Checkpoint, Checkpoints
from agents.heard import HeardRules
from agents.world import World
from pipeline.config import Settings
from pipeline.core.alerting.device_watch import DeviceState, DeviceWatch
from pipeline.core.alerting.model_watch import ModelState, ModelWatch
from pipeline.core.alerting.news import News, NewsState
from pipeline.core.alerting.unjudged import Unjudged
from pipeline.core.batch import Batch
from pipeline.core.devices.heartbeats import TICK_DEVICE_PREFIX, TICK_WORKSPACE
from pipeline.core.ledger.chain import Verdict
from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from pipeline.edge.kafka.group.standings import FollowedStandings
from pipeline.edge.kafka.producer import OutRecord, Producer
from schemas import aggregate, silence
from schemas.alert import AlertEvent
from schemas.rejection import Rejected
from schemas.rule import Rule
from schemas.silence import Acknowledgement
from schemas.topics import AGGREGATES, EVENTS, HEARTBEATS, RULES, SILENCES

log = structlog.get_logger()

SAVE_S, SAVE_S_MAX = 30.0, 300.0
SAVE_SHARE = 0.02  # of its time that a partition's work stands still to be saved
TICK_MS = 5000  # how often we beat into each partition of heartbeats
RECENT_MS = 600_000  # what history tells at the very first start is news if it is not older
ASKED_PER_STANDSTILL = 6  # how often we ask where the other roles stand
TAKE_MAX = 500  # records that are folded at once: nothing else happens meanwhile


class _Saved(msgspec.Struct):
    """What is saved of the work on a partition."""

    topic_id: str
    next_offset: int
    done_time_ms: int
    news: NewsState


class _SavedModels(_Saved):
    watch: ModelState


class _SavedDevices(_Saved):
    watch: DeviceState


class Watch(Protocol):
    """A machine for one partition."""

    @property
    def unjudged(self) -> Unjudged:
        """What of it failed."""

    def hear(self, ack: Acknowledgement) -> list[AlertEvent]:
        """What a person says of an alert. A second time it changes nothing."""

    def snapshot(self) -> Any:
        """Its state."""

    def restore(self, state: Any) -> None:
        """As it was."""


@dataclass(slots=True)
class _Desk:
    """The work on one partition, for one assignment."""

    partition: Partition
    checkpoint: Checkpoint
    watch: Watch
    kind: type[_SavedModels] | type[_SavedDevices]
    news: News
    told_until: int  # by those before us, by the rules that are in the snapshot
    save_at: float
    heard: tuple[int, int] | None = None  # the version of what people say that was taken in
    beat_at: float = 0.0

    def state(self) -> _Saved:
        """What to save."""
        partition = self.partition
        done = partition.topic_id, partition.next_offset, partition.done_time_ms
        return self.kind(*done, self.news.snapshot(), self.watch.snapshot())


class Detector:
    """The role's work on one partition after another."""

    def __init__(self, settings: Settings, world: World, fold: Fold) -> None:
        """Batches are folded by `fold`."""
        self._settings, self._world, self._clock, self._fold = settings, world, world.clock, fold
        self.output = Producer(world.log)
        self.rules = FollowedTopic(world.log, rules := settings.topic(RULES.name))
        self._heard = HeardRules(self.rules, rules, world.metrics)
        self.silences = FollowedTopic(world.log, settings.topic(SILENCES.name))
        self._checkpoints = Checkpoints(settings, world, self.output)
        self._saving = asyncio.Lock()

    async def watch_models(self, partition: Partition) -> None:
        """One partition of inference.aggregates, until it is revoked."""
        number, settings = partition.tp.partition, self._settings
        partitions = await self.output.partitions(partition.topic)
        sources = await self.output.partitions(settings.topic(EVENTS.name))
        watch = ModelWatch(number, partitions, sources, settings.false_alarms_per_model_week, settings.our_limits)
        desk = await self._restore(partition, f"models/{number}", watch, _SavedModels)
        while not partition.leaving:
            await partition.wait(settings.poll_ms / 1000)
            await self._listen(desk, watch.set_rules)
            await self._count_sources(desk, watch)
            await self._observe(desk, partial(self._observe_aggregates, watch))
            await self._save(desk)
        await self._save(desk, now=True)

    async def watch_devices(self, partition: Partition) -> None:
        """One partition of inference.heartbeats, until it is revoked."""
        settings = self._settings
        watch = DeviceWatch(partition.tp.partition, settings.heartbeat_policy, settings.our_limits)
        roles = FollowedStandings(settings, self._world.log, self._clock, settings.standstill_s / ASKED_PER_STANDSTILL)
        desk = await self._restore(partition, f"devices/{partition.tp.partition}", watch, _SavedDevices)
        try:
            while not partition.leaving:
                await self._beat(desk)
                await partition.wait(settings.poll_ms / 1000)
                await self._listen(desk, lambda _: [])  # no rule is about devices
                await self._observe(desk, watch.observe)
                if partition.tp.partition == 0:  # that it is told once
                    await self._watch_roles(desk, watch, roles)
                await self._save(desk)
        finally:
            await roles.stop()
        await self._save(desk, now=True)

    async def _watch_roles(self, desk: _Desk, watch: DeviceWatch, roles: FollowedStandings) -> None:
        """Whether the other roles get on. The broker knows, and says something else the next time: saved, then told."""
        standings = roles.news()
        if standings is None or desk.partition.next_offset < desk.told_until or not desk.partition.caught_up:
            return
        events = watch.observe_roles(standings)
        if events:
            desk.news.add(events)
            await self._save(desk, now=True)
            await self._tell(desk)

    async def _restore(
        self, partition: Partition, key: str, watch: Watch, kind: type[_SavedModels] | type[_SavedDevices]
    ) -> _Desk:
        """Takes up the newest snapshot. Without one the whole log is read: it teaches what is normal."""
        await self.rules.ready.wait()
        await self.silences.ready.wait()
        checkpoint = self._checkpoints.of(partition, key)
        told_before, state = await checkpoint.load(kind)
        span = await partition.log_span()
        first, end = span.start, span.end
        start, told_until, news = first, 0, News(end, self._clock.now_ms() - RECENT_MS)
        if state is not None:
            watch.restore(state.watch)
            news = News.restore(state.news)
            partition.done_time_ms = state.done_time_ms
            if first <= state.next_offset <= end and state.topic_id == span.topic_id:
                start = state.next_offset
                told_until = told_before
            else:  # the chain knows whether windows are missing, and that is an alert
                log.warning("log_was_cut_or_made_anew", topic=partition.topic, partition=partition.tp.partition)
        partition.seek(start)
        return _Desk(partition, checkpoint, watch, kind, news, told_until, self._clock.monotonic() + SAVE_S)

    async def _listen(self, desk: _Desk, set_rules: Callable[[Mapping[str, Rule]], list[AlertEvent]]) -> None:
        """Takes in what people say, where the log has come to."""
        if desk.heard == self._said or desk.partition.next_offset < desk.told_until:
            return
        desk.heard = self._said
        desk.news.add(set_rules(self._heard.sound()))
        desk.news.add(self._take_acknowledgements(desk))
        # Before the steps are told: a second time people may say something else.
        await self._save(desk, now=True)
        await self._tell(desk)

    async def _count_sources(self, desk: _Desk, watch: ModelWatch) -> None:
        """Takes in new partitions of inference.events, where the log has come to: saved before anything follows."""
        sources = await self.output.partitions(self._settings.topic(EVENTS.name))
        if sources > watch.sources and desk.partition.next_offset >= desk.told_until:
            watch.expect(sources)
            log.info("more_sources", partition=desk.partition.tp.partition, sources=sources)
            await self._save(desk, now=True)

    @property
    def _said(self) -> tuple[int, int]:
        """The version of what people say."""
        return self.rules.version, self.silences.version

    def _take_acknowledgements(self, desk: _Desk) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for value in self.silences.values.values():
            ack = silence.decode(value)
            if isinstance(ack, Acknowledgement):
                events += desk.watch.hear(ack)
        return events

    async def _observe(self, desk: _Desk, observe: Callable[[Batch], list[AlertEvent]]) -> None:
        """Takes in what has come, and tells what follows."""
        for batch in await desk.partition.take(TAKE_MAX):
            desk.news.add(await self._fold(partial(observe, batch)))
            for failed in desk.watch.unjudged.take():
                self._world.metrics.NOT_JUDGED.labels(failed.what.name.lower()).inc()
                log.error("not_judged", **asdict(failed) | {"what": failed.what.value})
            desk.partition.done_time_ms = batch.newest_ms
        if desk.news.ready(desk.partition.next_offset):
            await desk.checkpoint.commit()
            await self._tell(desk)

    async def _tell(self, desk: _Desk) -> None:
        news = desk.news.ready(desk.partition.next_offset)
        if news:
            await desk.checkpoint.tell(news)
            desk.news.told()

    async def _save(self, desk: _Desk, now: bool = False) -> None:
        """Every now and then, one partition after another; the longer it takes the more seldom."""
        if not now and (self._saving.locked() or self._clock.monotonic() < desk.save_at):
            return
        async with nullcontext() if now else self._saving:
            began = self._clock.monotonic()
            await desk.checkpoint.save(desk.state)
            took_s = self._clock.monotonic() - began
        desk.save_at = began + min(max(SAVE_S, took_s / SAVE_SHARE), SAVE_S_MAX)

    async def _beat(self, desk: _Desk) -> None:
        """A beat of our own into the partition: its time goes on when all its devices are dead."""
        if self._clock.monotonic() - desk.beat_at < TICK_MS / 1000:
            return
        desk.beat_at = self._clock.monotonic()
        tp = desk.partition.tp
        device = f"{TICK_DEVICE_PREFIX}{tp.partition}"
        beat = {
            "device_id": device,
            "workspace": TICK_WORKSPACE,
            "sent_at_ms": self._clock.now_ms(),
            "interval_ms": TICK_MS,
        }
        record = OutRecord(device.encode(), orjson.dumps(beat), tp.partition)
        await self.output.send(tp.topic, [record], desk.partition.alive)

    def _observe_aggregates(self, watch: ModelWatch, records: Batch) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for time_ms, raw in zip(records.times_ms, records.values, strict=True):
            record = aggregate.decode(raw)
            if isinstance(record, Rejected):
                continue  # the recorder keeps it; the chain will show the gap
            verdict, steps = watch.observe(record, time_ms)
            self._world.metrics.CHAIN.labels(verdict.value).inc()
            if verdict is Verdict.GAP:
                log.error("chain_gap", source=record.source, start=record.start)
            events += steps
        return events


def make(settings: Settings, world: World) -> tuple[faust.App, Role]:
    """The detector's app."""
    app = make_app("detector", settings)
    detector = Detector(settings, world, Folding(app, "detect"))
    work = {
        settings.topic(AGGREGATES.name): detector.watch_models,
        settings.topic(HEARTBEATS.name): detector.watch_devices,
    }
    members = Partitions(settings, world.log, world.clock, settings.group("detector"), work)
    background = (detector.rules.follow_forever, detector.silences.follow_forever)
    role = Role("detector", world, members, (detector.output,), background)
    host(app, role)
    return app, role
