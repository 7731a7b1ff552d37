"""Alerts: how long after the log says so an alert that fires is on inference.alerts, by the broker's clock alone.

Devices beat and go silent, models turn slow, all at seeded times. A device's page is due when the time of its partition
has passed its deadline: with the first record there that is later. A rule's alert is due when its window is complete:
with the last source partition's closing record in its partition of inference.aggregates.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import orjson
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import put_rules
from pipeline.edge.kafka.producer import OutRecord, Producer
from pipeline.edge.kafka.publish import partition_of
from schemas import aggregate, alert, heartbeat
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertKind, AlertState
from schemas.heartbeat import Heartbeat
from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS
from tests import asked_once as kafka
from tests.alerting import rule
from tests.asked_once import create_topics
from tests.integration.engines import Engines
from tests.performance import system
from tests.performance.figures import Figure, VoidRunError, quantile

DEVICES, MODELS = 240, 60
BEAT_MS, PAGE_BEATS = 1000, 5
SILENT_S = 8.0
STEP_S = 0.1
SLOW_MS, FAST_MS = 400.0, 40.0
WORKSPACE = "acme"
DELAY_P99_MS = 1000.0
SLOW = rule(metric="latency_mean_ms", operator=">", threshold=100, workspace=WORKSPACE, window_s=60)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who is silent or slow from when to when, in seconds."""

    silent: Mapping[int, tuple[float, float]]
    slow: Mapping[int, tuple[float, float]]

    @classmethod
    def draw(cls, seconds: float, seed: int) -> "_Plan":
        """Each device once, each model once; all begin early enough to be told."""
        rng = random.Random(seed)
        silent = {i: rng.uniform(PAGE_BEATS + 10, seconds - SILENT_S - 2) for i in range(DEVICES)}
        slow = {i: rng.uniform(12, seconds - 30) for i in range(MODELS)}
        return cls({i: (at, at + SILENT_S) for i, at in silent.items()}, {i: (at, seconds) for i, at in slow.items()})


def run(running: Engines, directory: Path, seconds: int) -> list[Figure]:
    """One aggregator, one detector."""
    settings = system.world(running).model_copy(update={"heartbeat_page_beats": PAGE_BEATS, "heartbeat_learned": False})
    asyncio.run(create_topics(settings))
    asyncio.run(put_rules(settings, [SLOW]))
    seconds = max(seconds, 60)
    with system.worker("aggregator", settings, directory), system.worker("detector", settings, directory):
        asyncio.run(_play(settings, _Plan.draw(seconds, seed=1), seconds))
        return list(_figures(asyncio.run(_measure(settings))))


async def _play(settings: Settings, plan: _Plan, seconds: float) -> None:
    """Beats and events, each at its time."""
    output, rng, loop = Producer(Kafka(settings)), random.Random(2), asyncio.get_running_loop()
    phases = [rng.uniform(0, BEAT_MS / 1000) for _ in range(DEVICES)]
    beats, number = [0] * DEVICES, 0
    began = loop.time()
    try:
        while (at := loop.time() - began) < seconds + 3:
            due = []
            for i, phase in enumerate(phases):
                if at >= phase + beats[i] * BEAT_MS / 1000:
                    beats[i] = int(at - phase) + 1
                    if not plan.silent[i][0] <= at < plan.silent[i][1]:
                        due.append(_beat(i))
            await output.send(settings.topic(HEARTBEATS.name), due, lambda: None)
            events = [_event(i, number, plan.slow[i][0] <= at < plan.slow[i][1]) for i in range(MODELS)]
            number += 1
            await output.send(settings.topic(EVENTS.name), events, lambda: None)
            await asyncio.sleep(max(0, STEP_S - (loop.time() - began - at)))
    finally:
        await output.stop()


def _beat(i: int) -> OutRecord:
    device = f"cam-{i:03d}"
    beat = {"device_id": device, "workspace": WORKSPACE, "sent_at_ms": now_ms(), "interval_ms": BEAT_MS}
    return OutRecord(device.encode(), orjson.dumps(beat), partition_of(device.encode(), HEARTBEATS.partitions))


def _event(i: int, number: int, slow: bool) -> OutRecord:
    body = {
        "event_id": f"{i}-{number}",
        "event_time_ms": now_ms(),
        "workspace": WORKSPACE,
        "model_id": f"model-{i:02d}/1",
        "device_id": f"cam-{i:03d}",
        "latency_ms": SLOW_MS if slow else FAST_MS,
        "predictions": [{"class": "person", "confidence": 0.9}],
    }
    return OutRecord(f"{i}-{number}".encode(), orjson.dumps(body))


@dataclass(slots=True)
class _Delays:
    """In ms. `due`: from when the log says so; `ended`: from the deadline, or the end of the window, by the clock."""

    pages_due: list[float]
    pages_ended: list[float]
    rules_due: list[float]
    rules_ended: list[float]


async def _measure(settings: Settings) -> _Delays:
    beats, aggregates, alerts = [await _read(settings, t.name) for t in (HEARTBEATS, AGGREGATES, ALERTS)]
    times, last = defaultdict(list), defaultdict(list)  # by partition; by device
    for record in beats:
        times[record.partition].append(record.timestamp)
        beat = heartbeat.decode(record.value)
        if isinstance(beat, Heartbeat):
            last[beat.device_id].append(record.timestamp)
    complete = _complete(aggregates)
    out, told = _Delays([], [], [], []), set()
    for record in alerts:
        one = alert.decode(record.value)
        if not isinstance(one, AlertEvent) or one.state is not AlertState.FIRING or one.id in told:
            continue
        told.add(one.id)
        if one.kind is AlertKind.HEARTBEAT and one.metric == "silence_s" and one.device_id:
            silent_ms = one.at_ms - max(at for at in last[one.device_id] if at <= one.at_ms)
            if not PAGE_BEATS * BEAT_MS <= silent_ms < (PAGE_BEATS + 1) * BEAT_MS:
                raise VoidRunError(f"{one.device_id} was paged after {silent_ms} ms of silence")
            partition = partition_of(one.device_id.encode(), HEARTBEATS.partitions)
            out.pages_due.append(record.timestamp - next(at for at in times[partition] if at > one.at_ms))
            out.pages_ended.append(record.timestamp - one.at_ms)
        elif one.rule_id == SLOW.rule_id:
            target = crc32(f"{WORKSPACE}/{one.model_id}".encode()) % AGGREGATES.partitions
            out.rules_due.append(record.timestamp - complete[target, one.at_ms])
            out.rules_ended.append(record.timestamp - one.at_ms)
    if len(out.pages_due) < DEVICES or len(out.rules_due) < MODELS:
        raise VoidRunError(
            f"{len(out.pages_due)} of {DEVICES} devices, {len(out.rules_due)} of {MODELS} models alerted"
        )
    return out


def _complete(records: Sequence[ConsumerRecord]) -> dict[tuple[int, int], int]:
    """By partition of aggregates and end of a window: when the last source said that it is complete."""
    through: dict[int, dict[int, int]] = defaultdict(lambda: dict.fromkeys(range(EVENTS.partitions), 0))
    done: dict[int, int] = defaultdict(int)
    out: dict[tuple[int, int], int] = {}
    for record in records:
        link = aggregate.decode(record.value)
        if not isinstance(link, AggregateRecord):
            raise VoidRunError("a record of inference.aggregates that cannot be read")
        through[record.partition][link.source] = link.end[2]
        least = min(through[record.partition].values())
        for end_ms in range(max(done[record.partition], least - 60 * WINDOW_MS) + WINDOW_MS, least + 1, WINDOW_MS):
            out[record.partition, end_ms] = record.timestamp
        done[record.partition] = max(done[record.partition], least)
    return out


async def _read(settings: Settings, topic: str) -> list[ConsumerRecord]:
    name = settings.topic(topic)
    records: list[ConsumerRecord] = []
    for (_, number), (start, end) in (await kafka.ends(settings, [name])).items():
        found, reached = await kafka.read(settings, TopicPartition(name, number), start, end, timeout_s=60)
        if reached < end:
            raise VoidRunError(f"{name} could not be read to its end")
        records += found
    return records


def _figures(delays: _Delays) -> Iterator[Figure]:
    bench = f"alerts: {DEVICES} devices, {MODELS} models"
    for what, values, target in (
        ("deadline passed in the log to page", delays.pages_due, DELAY_P99_MS),
        ("deadline by the clock to page", delays.pages_ended, None),
        ("window closed in the log to rule's alert", delays.rules_due, DELAY_P99_MS),
        ("end of window by the clock to rule's alert", delays.rules_ended, None),
    ):
        yield Figure(bench, f"{what}, p50", quantile(values, 0.5), "ms")
        yield Figure(bench, f"{what}, p99", quantile(values, 0.99), "ms", target)
