"""The notifier: inference.alerts -> people, at least once, and each step once as far as they are concerned.

One worker is active: whoever owns the single partition of inference.silences. It reads all of inference.alerts, for
what has one cause belongs in one message, whatever partition it lies in. Others of the role stand by.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

import faust
import msgspec
import structlog

from agents.app import Role, host, make_app
from agents.checkpoint import Checkpoint, Checkpoints
from agents.heard import RefusedRecords
from agents.world import World
from pipeline.config import Settings
from pipeline.core.alerting.outages import Outages, OutagesState
from pipeline.core.alerting.undelivered import Undelivered, UndeliveredState
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notification import Notification
from pipeline.core.notifying.notifier import Notifier, NotifierState
from pipeline.core.notifying.recipients import named
from pipeline.core.notifying.routing import Routing
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from pipeline.edge.kafka.producer import Producer
from pipeline.edge.kafka.reader import Reader
from pipeline.edge.notification.addressing import mistakes_in_settings
from pipeline.edge.notification.delivery import Delivery, SendPatience
from pipeline.edge.notification.outcome import Outcome, Sent
from schemas import alert, rule, silence
from schemas.alert import AlertEvent
from schemas.rejection import Rejected
from schemas.silence import Acknowledgement
from schemas.topics import ALERTS, RULES, SILENCES

log = structlog.get_logger()

KEY = "notifier"
SAVE_S = 5.0
READ_S = 0.2


class _SavedDesk(msgspec.Struct):
    """What is saved of the active notifier."""

    offsets: dict[int, int]
    notifier: NotifierState
    undelivered: UndeliveredState
    outages: OutagesState
    untold: list[AlertEvent]


@dataclass(slots=True)
class _Desk:
    """The active notifier: its machine, how far it has read, whether there is something to save."""

    notifier: Notifier
    checkpoint: Checkpoint
    clock: Clock
    offsets: dict[int, int] = field(default_factory=dict)  # of inference.alerts, by partition: the next to read
    rules_version: int = -1
    rules: dict[str, bytes] = field(default_factory=dict)
    undelivered: Undelivered = field(default_factory=Undelivered)
    outages: Outages = field(default_factory=Outages)
    untold: list[AlertEvent] = field(default_factory=list)  # our own alerts, on their way to inference.alerts
    changed: bool = False
    saved_at: float = 0.0

    def done(self, notification: Notification, outcome: Outcome) -> None:
        """A notification is done with: saved soon, for what is not is sent again after a crash."""
        self.notifier.confirm(notification.idempotency_key, delivered=isinstance(outcome, Sent))
        recipient = named(notification.recipient)
        if isinstance(outcome, Sent):
            self.undelivered.delivered(recipient)
        else:
            self.untold += self.undelivered.failed(recipient, outcome.reason, self.clock.now_ms())
        self.changed, self.saved_at = True, 0.0

    def state(self) -> _SavedDesk:
        """What to save."""
        return _SavedDesk(
            self.offsets, self.notifier.snapshot(), self.undelivered.snapshot(), self.outages.snapshot(), self.untold
        )


class NotifierWork:
    """What the active worker does."""

    def __init__(self, settings: Settings, world: World, read_s: float = READ_S) -> None:
        """A turn takes `read_s` where nothing comes."""
        self._read_s = read_s
        self._settings, self._world, self._clock = settings, world, world.clock
        self.output = Producer(world.log)
        self._refusals = RefusedRecords(world.metrics)
        self._rules = settings.topic(RULES.name)
        self.rules = FollowedTopic(world.log, self._rules)
        self._checkpoints = Checkpoints(settings, world, self.output)
        self._alerts = settings.topic(ALERTS.name)

    async def work(self, partition: Partition) -> None:
        """Active for as long as the partition is ours."""
        desk = await self._restore(partition)
        first = (await partition.log_span()).start
        partition.seek(first)
        patience = SendPatience(give_up_s=self._settings.notify_give_up_s)
        async with self._world.senders() as senders, self._reading(desk) as reader:
            delivery = Delivery(senders, desk.done, patience)
            try:
                while not partition.leaving:
                    await self._turn(partition, desk, reader, delivery)
            finally:
                await delivery.stop()
        await self._save(desk)

    async def _turn(self, partition: Partition, desk: _Desk, reader: Reader, delivery: Delivery) -> None:
        """Takes in what has come, then tells what is due: never before all that is there was read."""
        await self._silences(partition, desk)
        self._take_rules(desk)
        now_ms = self._clock.now_ms()
        for record in await reader.read(self._read_s):
            event = alert.decode(record.value)
            if isinstance(event, Rejected):  # the recorder keeps it as a dead letter
                self._refusals.take(self._alerts, record.key, event)
            else:
                for step in desk.notifier.observe(event, now_ms):
                    desk.outages.observe(step, now_ms)
            desk.offsets[record.partition] = record.offset + 1
            desk.changed = True
        partition.alive()
        all_was_read = reader.caught_up and partition.caught_up
        if all_was_read and (due := desk.notifier.tick(now_ms)):
            await self._save(desk)  # in the outbox; and somebody else may be active by now
            for notification in due:
                delivery.put(notification)
        for what, count in desk.notifier.take_lost().items():
            self._world.metrics.NOT_NOTIFIED.labels(what.value).inc(count)
            log.error("not_notified", what=what.value, count=count)
        for failed in desk.notifier.failures.take():
            self._world.metrics.NOT_JUDGED.labels(failed.what.name.lower()).inc()
            log.error("not_judged", **asdict(failed) | {"what": failed.what.value})
        await self._tell_of_ourselves(desk, now_ms, all_was_read)
        if desk.changed and self._clock.monotonic() - desk.saved_at >= SAVE_S:
            await self._save(desk)

    async def _tell_of_ourselves(self, desk: _Desk, now_ms: int, all_was_read: bool) -> None:
        """Who cannot be told and what site is out are alerts of ours, saved before they are told: each has one id."""
        desk.untold += desk.undelivered.tick(now_ms)
        if all_was_read:
            desk.untold += desk.outages.tick(now_ms)
        if not desk.untold:
            return
        telling = list(desk.untold)  # more may come meanwhile
        await self._save(desk)
        await desk.checkpoint.tell(telling)
        del desk.untold[: len(telling)]
        desk.changed = True

    async def _silences(self, partition: Partition, desk: _Desk) -> None:
        for batch in await partition.take(10_000):
            for key, raw in zip(batch.keys, batch.values, strict=True):
                value = None if raw is None else silence.decode(raw)
                if isinstance(value, Acknowledgement):
                    desk.untold += desk.outages.hear(value, self._clock.now_ms())
                if isinstance(value, Rejected):
                    self._refusals.take(partition.topic, key, value)
                else:
                    desk.notifier.observe_silence((key or b"").decode(errors="replace"), value)

    def _take_rules(self, desk: _Desk) -> None:
        if desk.rules_version == self.rules.version:
            return
        desk.rules_version = self.rules.version
        now = {key.decode(errors="replace"): value for key, value in self.rules.values.items()}
        for rule_id in desk.rules.keys() - now.keys():
            desk.notifier.observe_rule(rule_id, None)
        for rule_id, value in now.items():
            if desk.rules.get(rule_id) != value:
                decoded = rule.decode(value)
                if isinstance(decoded, Rejected):
                    self._refusals.take(self._rules, rule_id.encode(), decoded)
                desk.notifier.observe_rule(rule_id, None if isinstance(decoded, Rejected) else decoded)
        desk.rules = now

    async def _restore(self, partition: Partition) -> _Desk:
        await self.rules.ready.wait()
        policy, defaults = self._settings.notifier_policy, self._settings.default_recipients
        checkpoint = self._checkpoints.of(partition, KEY)
        desk = _Desk(Notifier(Routing(defaults), Silences(), policy), checkpoint, self._clock)
        self._take_rules(desk)  # before the first event: they say whom it is for
        _, state = await checkpoint.load(_SavedDesk)  # the offset says nothing: all silences are read anew
        if state is not None:
            desk.notifier.restore(state.notifier)
            desk.offsets = state.offsets
            desk.undelivered.restore(state.undelivered)
            desk.outages.restore(state.outages)
            desk.untold = state.untold
        return desk

    @asynccontextmanager
    async def _reading(self, desk: _Desk) -> AsyncIterator[Reader]:
        offsets = {number: desk.offsets.get(number) for number in range(await self.output.partitions(self._alerts))}
        reader = Reader.of_topic(self._world.log, self._alerts, offsets)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    async def _save(self, desk: _Desk) -> None:
        desk.changed, desk.saved_at = False, self._clock.monotonic()
        await desk.checkpoint.save(desk.state)


def make(settings: Settings, world: World) -> tuple[faust.App, Role]:
    """The notifier's app."""
    app = make_app("notifier", settings)
    for said in mistakes_in_settings(settings):
        log.error("recipient_cannot_work", said=said)
    work = NotifierWork(settings, world)
    by_topic = {settings.topic(SILENCES.name): work.work}
    members = Partitions(settings, world.log, world.clock, settings.group("notifier"), by_topic)
    role = Role("notifier", world, members, (work.output,), (work.rules.follow_forever,))
    host(app, role)
    return app, role
