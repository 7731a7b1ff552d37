"""Detectors and notifiers: closed windows and heartbeats, people who change their minds, a storm; then calm, and the
count. Who writes windows is played here, with the repeats that a crashed aggregator makes.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal
from zlib import crc32

from aiokafka.structs import OffsetAndMetadata, TopicPartition
from msgspec.structs import replace

from pipeline.config import Settings, load
from pipeline.core.ledger.names import AggregatorName, RecorderName
from schemas import rule as rules
from schemas import silence as silences
from schemas.alert import AlertState
from schemas.rule import Metric, Operator, Rule
from schemas.silence import Acknowledgement, Matcher, Silence
from schemas.topics import AGGREGATES, ALERTS, DETECTOR_STATE, EVENTS, HEARTBEATS, RULES, SILENCES, Topic
from tests.builders import aggregate, heartbeat
from tests.simulation import alerts_check as check
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.group import Group
from tests.simulation.kafka import CommittedOffsets, Log
from tests.simulation.loop import Clock, pass_s
from tests.simulation.luck import Luck, ViolationError
from tests.simulation.people import People
from tests.simulation.worker import Bug, Place

START_MS = 1_795_373_680_000
WINDOW_MS = 10_000
MODELS = ("a", "b/1")
BEAT_S = 2.0
FETCH_S = 4.0
HERE = 0.006
END_S = 400.0  # so long may it take from calm to the end
SETTLE_S = 10.0
RECIPIENTS = ("https://hook.example/one", "mailto:on-call@example.org")
RULE = Rule(
    rule_id="sure",
    workspace="w",
    metric=Metric.CONFIDENCE_MEAN,
    operator=Operator.BELOW,
    threshold=0.5,
    window_s=60,
    min_count=1,
)


@lru_cache(maxsize=64)
def _settings(storm_max: int, watchdog: str) -> Settings:
    settings = load(
        {},
        {
            "poll_ms": 1500,
            "standstill_s": 20,
            "heartbeat_page_beats": 5,
            "group_wait_s": 2,
            "group_interval_s": 10,
            "storm_max": storm_max,
            "notify_recipients": " ".join(RECIPIENTS),
            "watchdog_recipients": watchdog,
        },
    )
    # Automatic detection would have something to say of such jumps, for longer than a run lasts.
    return settings.model_copy(update={"false_alarms_per_model_week": None})


@lru_cache(maxsize=4096)
def _link(source: int, start: tuple[int, ...], end: tuple[int, ...], rows: tuple[tuple[int, str, bool], ...]) -> bytes:
    """A record of inference.aggregates; of each row (start, model, whether it is bad)."""
    good, bad = (
        {
            "confidence_ppm_sum": 6 * ppm,
            "confidence_ppm_min": ppm,
            "confidence_ppm_max": ppm,
            "confidence_histogram": {ppm // 10_000: 6},
        }
        for ppm in (800_000, 200_000)
    )
    models = [
        {"window_start_s": s, "workspace": "w", "model_id": model, "device_id": "cam", **(bad if is_bad else good)}
        for s, model, is_bad in rows
    ]
    return aggregate(start, end, source=source, models=models, classes=())


class Alerting:
    """Everything there is."""

    def __init__(self, luck: Luck, bug: Bug) -> None:
        rng, self.luck = luck.rng, luck
        self.clock = Clock(START_MS)
        self.settings = _settings(rng.choice((2, 20, 20)), rng.choice(("", "", "https://dead.man/")))
        self.logs: dict[TopicPartition, Log] = {}
        self.events = self._topic(EVENTS, rng.choice((1, 1, 2)))  # only counted
        self.aggregates = self._topic(AGGREGATES, rng.choice((1, 1, 2)))
        self.heartbeats = self._topic(HEARTBEATS, rng.choice((1, 1, 2)))
        self.alerts = self._topic(ALERTS, rng.choice((1, 2, 3)))
        self._topic(DETECTOR_STATE, rng.choice((1, 2)))
        (self.rules,), (self.silences,) = self._topic(RULES, 1), self._topic(SILENCES, 1)
        self.people = People(luck)
        roles = ("detector", "notifier", "aggregator", "recorder")
        self._committed = {role: CommittedOffsets(bug.fencing) for role in roles}
        nobody = ClickHouse(luck, tokens_max=1)
        place = Place(
            self.settings,
            luck,
            self.clock,
            self.logs,
            self._committed,
            nobody,
            self.people,
            bug,
            rng.random() < 0.7,
            HERE,
            FETCH_S,
        )
        self.detectors = Group("detector", place, lambda: [*self.aggregates, *self.heartbeats])
        self.notifiers = Group("notifier", place, lambda: [self.silences])
        self.groups = (self.detectors, self.notifiers)
        self.people_speak = rng.random() < 0.5
        self.first_rule = replace(RULE, hold_s=rng.choice((0, 20)), keep_firing_s=rng.choice((0, 20)))
        self._bad = {rng.choice(MODELS): 8}  # models, and for how many windows they are still bad
        self._chain = {tp.partition: (0, 0, START_MS, 0) for tp in self.events}

    def _topic(self, topic: Topic, partitions: int) -> list[TopicPartition]:
        tps = [TopicPartition(topic.name, number) for number in range(partitions)]
        self.logs |= {tp: Log(self.clock) for tp in tps}
        return tps

    async def run(self) -> None:
        """From the first record to the count."""
        luck, rng = self.luck, self.luck.rng
        self._say(self.rules, self.first_rule.rule_id, rules.encode(self.first_rule))
        for group in self.groups:
            await group.rebalance([])
        playing = [luck.spawn(run) for run in (self._close_windows(), self._get_on())]
        playing += [luck.spawn(self._beat(number)) for number in range(2)]
        pace_s = rng.choice((5, 8, 12))
        disturbing = [luck.spawn(group.disturb(pace_s)) for group in self.groups]
        if self.people_speak:
            disturbing.append(luck.spawn(self._speak()))
        await pass_s(rng.choice((30, 45, 60)))
        luck.stormy = False
        luck.tell("calm")
        await asyncio.gather(*disturbing)
        try:
            await asyncio.wait_for(self._finish(), END_S)
        except TimeoutError as error:
            raise ViolationError("no end: " + check.what_is_open(self)) from error
        for play in playing:
            play.cancel()
        await self.detectors.stop()
        await self.notifiers.stop()
        await pass_s(SETTLE_S)
        for group in self.groups:
            group.check()
        luck.counts += check.everything(self)

    async def _finish(self) -> None:
        """Once more something is bad, until everybody has heard of it; then all is well, until all have heard that."""
        self._say(self.rules, self.first_rule.rule_id, rules.encode(self.first_rule))
        self._say(self.silences, "quiet", None)
        self._bad = {"a": 1000}
        await self._until(lambda: check.is_open(self, "a") and not check.unheard(self))
        self._bad = {}
        await self._until(lambda: check.is_calm(self))
        ends = {tp: self.logs[tp].end for tp in (*self.aggregates, *self.heartbeats)}
        await self._until(lambda: self.detectors.has_read(ends))  # who begins anew has history to read first
        await self._until(lambda: check.is_calm(self))

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            await pass_s(2)

    # -- what happens

    async def _close_windows(self) -> None:
        """Each source closes its windows, one after another; sometimes a cut is sent again."""
        rng = self.luck.rng
        while True:
            await pass_s(rng.choice((1.5, 3.0, 4.5)))
            count = rng.choice((1, 2, 2)) if self.luck.stormy else 2
            if self.luck.stormy and rng.random() < 0.3:
                self._bad[rng.choice(MODELS)] = rng.choice((2, 7, 9))
            for source in sorted(self._chain, key=lambda _: rng.random()):
                cut = list(self._cut(source, count))
                for target, value in cut:
                    self.logs[target].append(value)
                if self.luck.strikes(0.1, "cut_repeated"):
                    for target, value in cut[: rng.randint(1, len(cut))]:
                        self.logs[target].append(value)
            self._bad = {model: left - count for model, left in self._bad.items() if left > count}

    def _cut(self, source: int, count: int) -> Iterator[tuple[TopicPartition, bytes]]:
        start = self._chain[source]
        end = self._chain[source] = (0, start[1] + 10, start[2] + count * WINDOW_MS, 0)
        starts = range(start[2], end[2], WINDOW_MS)
        for target in self.aggregates:
            models = [m for m in MODELS if crc32(f"w/{m}".encode()) % len(self.aggregates) == target.partition]
            rows = tuple((ms // 1000, m, self._bad.get(m, 0) > n) for n, ms in enumerate(starts) for m in models)
            yield target, _link(source, start, end, rows)

    async def _beat(self, number: int) -> None:
        """A device that is silent at times."""
        rng, device = self.luck.rng, f"d{number}"
        log = self.logs[self.heartbeats[number % len(self.heartbeats)]]
        silent_beats = 0
        while True:
            await pass_s(BEAT_S)
            silent_beats -= 1
            if self.luck.stormy and silent_beats < -12 and rng.random() < 0.1:
                silent_beats = rng.choice((3, 9))
            if silent_beats <= 0 or not self.luck.stormy:
                beat = heartbeat(
                    device_id=device, workspace="w", sent_at_ms=self.clock.now_ms(), interval_ms=int(BEAT_S * 1000)
                )
                log.append(beat, device.encode())

    async def _get_on(self) -> None:
        """The other roles commit what they have done; the recorder stands still at times."""
        rng = self.luck.rng
        while True:
            for tp in (*self.aggregates, *self.heartbeats, *self.alerts):
                log = self.logs[tp]
                name = RecorderName(log.end, log.end, self.clock.now_ms())
                self._committed["recorder"].offsets[tp] = OffsetAndMetadata(log.end, name.metadata())
            for tp in self.events:
                done = AggregatorName.begin(0)
                self._committed["aggregator"].offsets[tp] = OffsetAndMetadata(0, done.metadata())
            await pass_s(4.0)
            if self.luck.strikes(0.03, "standstill"):
                await pass_s(rng.choice((10, 30)))

    # -- people

    def _say(self, tp: TopicPartition, key: str, value: bytes | None) -> None:
        self.luck.tell("people say", key, value)
        self.logs[tp].append(value, key.encode())

    async def _speak(self) -> None:
        rng = self.luck.rng
        acts = (self._change_rule, self._change_rule, self._delete_rule, self._silence, self._acknowledge)
        while self.luck.stormy:
            await pass_s(rng.expovariate(1 / 8))
            rng.choice(acts)()

    def _change_rule(self) -> None:
        self.luck.note("rule_changed")
        rng = self.luck.rng
        rule = replace(self.first_rule, threshold=rng.choice((0.1, 0.3, 0.5, 0.9)), hold_s=rng.choice((0, 20)))
        self._say(self.rules, "sure", rules.encode(rule))

    def _delete_rule(self) -> None:
        self.luck.note("rule_deleted")
        self._say(self.rules, "sure", None)

    def _silence(self) -> None:
        now_ms = self.clock.now_ms()
        quiet = Silence(
            id="quiet", matchers=[Matcher("model_id", "a")], starts_at_ms=now_ms, ends_at_ms=now_ms + 20_000, author="p"
        )
        self.luck.note("silence")
        self._say(self.silences, "quiet", silences.encode(quiet))

    def _acknowledge(self) -> None:
        firing = [step for step in check.open_alerts(self).values() if step.state is AlertState.FIRING]
        if firing:
            step = self.luck.rng.choice(firing)
            name = silences.acknowledgement_id(step.fingerprint, step.episode)
            says: Literal["taken", "over"] = self.luck.rng.choice(("taken", "over"))
            ack = Acknowledgement(id=name, author="p", at_ms=self.clock.now_ms(), says=says)
            self.luck.note(f"acknowledged_{says}")
            self._say(self.silences, name, silences.encode(ack))
