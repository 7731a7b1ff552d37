"""The demo's devices on a real broker: real inferences, and a story that can be read from the topics alone."""

import asyncio
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from pipeline.config import Settings
from pipeline.edge.kafka.publish import publishing
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.demo import DemoStats
from pipeline.trial.demo.digits import MODELS, Digits, train
from pipeline.trial.demo.job import DEGRADED, Demo
from pipeline.trial.phases import DARK, HEALTHY, NOISE, RECOVERED, SILENT, Schedule
from schemas import event, heartbeat, metadata
from schemas.event import InferenceEvent
from schemas.heartbeat import Heartbeat
from schemas.metadata import InferenceMetadata
from tests.alerting import START_S
from tests.integration.outside import connect
from tests.integration.seeding import insert, model_windows
from tests.integration.test_produce import read_topic

pytestmark = pytest.mark.integration

PHASE_S = 1.5


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return train(tmp_path_factory.mktemp("images"))


@pytest.fixture
def played(world: Settings, digits: Digits) -> Demo:
    """A demo of four devices that has gone through every phase once."""

    async def run() -> Demo:
        async with publishing(world) as publisher:
            demo = Demo(world, digits, publisher, Schedule(PHASE_S, (PHASE_S,) * 4), 4)
            await demo.run(asyncio.Event(), 5 * PHASE_S)
            return demo

    return asyncio.run(run())


def _events(settings: Settings, records: list[ConsumerRecord]) -> list[InferenceEvent]:
    decoded = [event.decode(record.value, record.timestamp, settings.time_limits) for record in records]
    events = [got for got in decoded if isinstance(got, InferenceEvent)]
    assert len(events) == len(records)
    return events


def test_the_story_is_on_the_topics(world: Settings, played: Demo) -> None:
    events = _events(world, asyncio.run(read_topic(world, "inference.events")))
    assert len(events) == sum(played.published.values()) > 4 * 20
    assert {e.model_id for e in events} == set(MODELS)
    assert [p.phase for p in played.played] == [HEALTHY, NOISE, DARK, SILENT, RECOVERED]

    sure: dict[tuple[str, str], list[float]] = defaultdict(list)
    devices: dict[str, set[str | None]] = defaultdict(set)
    for name, spans in played.spans_ms().items():
        for e in events:
            if any(start + 100 <= e.event_time_ms < end for start, end in spans):
                sure[name, e.model_id].append(e.predictions[0].confidence)
                devices[name].add(e.device_id)
    mean = {key: sum(values) / len(values) for key, values in sure.items()}
    assert mean["healthy", DEGRADED] - 0.1 > mean["noise", DEGRADED] > mean["dark", DEGRADED] + 0.1
    assert mean["recovered", DEGRADED] > mean["noise", DEGRADED] + 0.1
    assert mean["dark", MODELS[0]] > mean["healthy", MODELS[0]] - 0.1  # the other model sees clearly throughout
    assert devices["healthy"] == devices["recovered"] == {d.device_id for d in played.devices}
    assert devices["silent"] == devices["healthy"] - {played.silenced.device_id}

    _heartbeats_are_promises(world, played)
    _every_inference_has_its_truth(world, events)
    images = {e.image.url for e in events if e.image and e.image.url}
    assert all(Path(url.removeprefix("file://")).read_bytes().startswith(b"\x89PNG") for url in images)


def _heartbeats_are_promises(world: Settings, played: Demo) -> None:
    records = asyncio.run(read_topic(world, "inference.heartbeats"))
    beats = [got for record in records if isinstance(got := heartbeat.decode(record.value), Heartbeat)]
    assert len(beats) == len(records)
    by_device = defaultdict(list)
    for beat in beats:
        by_device[beat.device_id].append(beat)
    assert all(some[-1].status == "stopping" for some in by_device.values())
    (silent,) = played.spans_ms()["silent"]
    for device in played.devices:
        boots = {beat.boot_id for beat in by_device[device.device_id]}
        restarted = device is played.silenced
        assert len(boots) == 1 + restarted
        if restarted:
            assert not [b for b in by_device[device.device_id] if silent[0] + 50 < b.sent_at_ms < silent[1]]


def _every_inference_has_its_truth(world: Settings, events: list[InferenceEvent]) -> None:
    records = asyncio.run(read_topic(world, "inference.metadata"))
    said = [got for record in records if isinstance(got := metadata.decode(record.value), InferenceMetadata)]
    assert len(said) == len(records) == 2 * len(events)
    labels = {m.inference_id: m.value for m in said if m.field == "label"}
    correct = {m.inference_id: m.value for m in said if m.field == "correct"}
    for e in events:
        assert correct[e.event_id] is (e.predictions[0].class_name == labels[e.event_id])


def test_history_is_what_automatic_detection_has_seen_and_an_hour_of_a_pause(world: Settings) -> None:
    starts = {"steady/1": [0, 10, 20], "paused/1": [-90_000, -50, 20]}
    blank: dict[str, Any] = {
        "workspace": world.workspace,
        "latency_us": None,
        "error": "",
        "kafka_partition": 0,
        "kafka_offset": 0,
    }
    blank |= {"detections.class": [], "detections.confidence_ppm": []}
    rows = [
        blank | {"event_time": START_S + at, "model_id": model, "device_id": device}
        for model in starts
        for at in starts[model]
        for device in ("a", "b")
    ]
    with closing(connect(world, "admin")) as client:
        client.command("ALTER TABLE model_windows MODIFY TTL window_start + toIntervalDay(36500)")
        insert(client, "model_windows_in", list(model_windows(rows)))
    asyncio.run(_check_history(world))


async def _check_history(world: Settings) -> None:
    async with ClickHouse(world, "reader") as store:
        stats = DemoStats(store, world.workspace, START_S * 1000)
        assert await stats.history((START_S + 30) * 1000) == {"steady/1": 3, "paused/1": 1 + 360 + 7}
        assert await stats.history((START_S + 80) * 1000) == {"steady/1": 8, "paused/1": 1 + 360 + 7 + 5}
        assert await stats.history((START_S + 90_000) * 1000) == {"steady/1": 363, "paused/1": 1 + 360 + 7 + 360}


def test_asked_to_stop_it_stops_with_everything_acknowledged(world: Settings, digits: Digits) -> None:
    async def run() -> int:
        async with publishing(world) as publisher:
            demo = Demo(world, digits, publisher, Schedule(20, (10.0,) * 4), 2)
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(1, stop.set)
            await asyncio.wait_for(demo.run(stop, None), 20)
            return sum(demo.published.values())

    published = asyncio.run(run())
    assert len(asyncio.run(read_topic(world, "inference.events"))) == published > 5
