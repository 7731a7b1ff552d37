"""The detector: aggregates, heartbeats and rules -> the life of alerts, on inference.alerts. No ClickHouse anywhere.

Its state and the offset that explains it are saved together. After a crash it goes on from there and tells some steps
again, with the same ids: whoever reads them drops what it has.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import faust
import orjson
import structlog

from agents.app import Folding, Role, host, make_app
from pipeline.config import Settings
from pipeline.core.alerting.device_watch import DeviceWatch
from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.detection.heartbeat import TICK_DEVICE_PREFIX, TICK_WORKSPACE
from pipeline.core.ledger import Verdict
from pipeline.core.tables import Records
from pipeline.edge import clock, metrics
from pipeline.edge.followed import FollowedTopic
from pipeline.edge.output import Output, OutRecord
from pipeline.edge.partition import Partition
from pipeline.edge.partitions import Partitions
from pipeline.edge.snapshots import Snapshot, SnapshotTopic
from schemas import aggregate, alert, rule, silence
from schemas.alert import AlertEvent
from schemas.rejection import Rejected
from schemas.rule import Rule
from schemas.silence import Acknowledgement
from schemas.topics import AGGREGATES, ALERTS, HEARTBEATS, RULES, SILENCES

log = structlog.get_logger()

METADATA = "d1"  # the committed offset only shows the lag; what counts is in the snapshot
SAVE_S = 30.0
TICK_MS = 5000  # how often we beat into each partition of heartbeats
OLD_MS = 600_000  # what history tells at the very first start is not news
TAKE_MAX = 2000


class Watch(Protocol):
    """A machine for one partition."""

    def acknowledge(self, fingerprint: str, episode: int, author: str, comment: str, at_ms: int) -> list[AlertEvent]:
        """A person has it."""

    def snapshot(self) -> dict[str, Any]:
        """Its state."""

    def restore(self, saved: dict[str, Any]) -> None:
        """As it was."""


@dataclass(slots=True)
class _Seen:
    """Which versions of the followed topics a partition has taken in."""

    rules: int = -1
    silences: int = -1
    saved_at: float = 0.0
    tick_at: float = 0.0


class Detector:
    """The role's work on one partition after another."""

    def __init__(self, settings: Settings, app: faust.App) -> None:
        """Registers the folding agent with the app."""
        self._settings = settings
        self.output = Output(settings)
        self.rules = FollowedTopic(settings, settings.topic(RULES.name))
        self.silences = FollowedTopic(settings, settings.topic(SILENCES.name))
        self._snapshots = SnapshotTopic(settings, self.output)
        self._fold: Folding[Callable[[], list[AlertEvent]], list[AlertEvent]] = Folding(app, "detect", lambda f: f())

    async def watch_models(self, partition: Partition) -> None:
        """One partition of inference.aggregates, until it is revoked."""
        number = partition.tp.partition
        partitions = await self.output.partitions(partition.topic)
        watch = ModelWatch(number, partitions, self._settings.false_alarms_per_model_week)
        key, seen, since_ms = f"models/{number}", _Seen(), await self._restore(partition, f"models/{number}", watch)
        while not partition.leaving:
            await partition.wait(self._settings.poll_ms / 1000)
            events = self._rule_changes(watch, seen) + self._acknowledgements(watch, seen)
            for fetched in await partition.take(TAKE_MAX):
                events += await self._fold(partial(self._observe_aggregates, watch, fetched.records))
                partition.done_time_ms = fetched.records.times_ms[-1]
            await self._tell(partition, events, since_ms)
            await self._save(partition, key, watch, seen)
        await self._save(partition, key, watch, seen, now=True)

    async def watch_devices(self, partition: Partition) -> None:
        """One partition of inference.heartbeats, until it is revoked."""
        number = partition.tp.partition
        watch = DeviceWatch(number, self._settings.heartbeat_policy)
        key, seen, since_ms = f"devices/{number}", _Seen(), await self._restore(partition, f"devices/{number}", watch)
        while not partition.leaving:
            await self._beat(partition, seen)
            await partition.wait(self._settings.poll_ms / 1000)
            events = self._acknowledgements(watch, seen)
            for fetched in await partition.take(TAKE_MAX):
                events += await self._fold(partial(watch.observe, fetched.records))
                partition.done_time_ms = fetched.records.times_ms[-1]
            events += watch.tick(caught_up=partition.lag() == 0 and not partition.pending_records)
            await self._tell(partition, events, since_ms)
            await self._save(partition, key, watch, seen)
        await self._save(partition, key, watch, seen, now=True)

    def _observe_aggregates(self, watch: ModelWatch, records: Records) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for raw in records.values:
            record = aggregate.decode(raw)
            if isinstance(record, Rejected):
                continue  # the recorder keeps it; the chain will show the gap
            verdict, told = watch.observe(record)
            metrics.CHAIN.labels(verdict.value).inc()
            if verdict is Verdict.GAP:
                log.error("chain_gap", source=record.source, start=record.start)
            events += told
        return events

    async def _restore(self, partition: Partition, key: str, watch: Watch) -> int:
        """Takes up the newest snapshot; from when on steps are news, in the log's time."""
        await self.rules.ready.wait()
        await self.silences.ready.wait()
        first, end = await partition.ends()
        snapshot = await self._snapshots.load(key)
        if snapshot is not None and snapshot.next_offset <= end:
            watch.restore(snapshot.state)
            start, since_ms = max(first, snapshot.next_offset), 0
        else:
            start, since_ms = first, clock.now_ms() - OLD_MS  # the log teaches what is normal
        partition.check_log("detector", start, start, (first, end))
        partition.seek(start)
        return since_ms

    def _rule_changes(self, watch: ModelWatch, seen: _Seen) -> list[AlertEvent]:
        if seen.rules == self.rules.version:
            return []
        seen.rules = self.rules.version
        decoded = [rule.decode(value) for value in self.rules.values.values()]
        wanted = {one.rule_id: one for one in decoded if isinstance(one, Rule)}
        events: list[AlertEvent] = []
        for rule_id in [one.rule_id for one in watch.rules if one.rule_id not in wanted]:
            events += watch.delete_rule(rule_id)
        for one in wanted.values():
            events += watch.set_rule(one)
        return events

    def _acknowledgements(self, watch: Watch, seen: _Seen) -> list[AlertEvent]:
        if seen.silences == self.silences.version:
            return []
        seen.silences = self.silences.version
        events: list[AlertEvent] = []
        for value in self.silences.values.values():
            ack = silence.decode(value)
            if isinstance(ack, Acknowledgement):
                events += watch.acknowledge(ack.fingerprint, ack.episode, ack.author, ack.comment, ack.at_ms)
        return events

    async def _tell(self, partition: Partition, events: Sequence[AlertEvent], since_ms: int) -> None:
        news = [event for event in events if event.at_ms >= since_ms]
        if news:
            records = [OutRecord(event.fingerprint.encode(), alert.encode(event)) for event in news]
            await self.output.send(self._settings.topic(ALERTS.name), records, partition.alive)
            for event in news:
                metrics.ALERTS.labels(event.kind.value, event.state.value).inc()
                log.info("alert", id=event.id, state=event.state.value, summary=event.summary)

    async def _save(self, partition: Partition, key: str, watch: Watch, seen: _Seen, now: bool = False) -> None:
        if not now and time.monotonic() - seen.saved_at < SAVE_S:
            return
        seen.saved_at = time.monotonic()
        await partition.commit(partition.next_offset, METADATA)  # refused if the partition is another's by now
        await self._snapshots.save(key, Snapshot(partition.next_offset, watch.snapshot()), partition.alive)

    async def _beat(self, partition: Partition, seen: _Seen) -> None:
        """A beat of our own into the partition: its time goes on when all its devices are dead."""
        if time.monotonic() - seen.tick_at < TICK_MS / 1000:
            return
        seen.tick_at = time.monotonic()
        device = f"{TICK_DEVICE_PREFIX}{partition.tp.partition}"
        beat = {"device_id": device, "workspace": TICK_WORKSPACE, "sent_at_ms": clock.now_ms(), "interval_ms": TICK_MS}
        record = OutRecord(device.encode(), orjson.dumps(beat), partition.tp.partition)
        await self.output.send(partition.topic, [record], partition.alive)


def make(settings: Settings) -> tuple[faust.App, Role]:
    """The detector's app."""
    app = make_app("detector", settings)
    detector = Detector(settings, app)
    work = {
        settings.topic(AGGREGATES.name): detector.watch_models,
        settings.topic(HEARTBEATS.name): detector.watch_devices,
    }
    members = Partitions(settings, settings.group("detector"), work)
    background = (detector.rules.follow_forever, detector.silences.follow_forever)
    role = Role("detector", members, (detector.output,), background)
    host(app, role)
    return app, role
