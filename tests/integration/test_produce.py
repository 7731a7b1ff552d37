"""The load generator on a real broker: what it says it sent is what a plain consumer reads."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from pipeline.config import Settings, to_environ
from pipeline.core.windows.log_clock import window_start
from pipeline.edge.kafka.publish import publishing
from pipeline.trial.load import Load, Pace
from pipeline.trial.sent import Cell, SentRecords, decode
from pipeline.trial.workload import Workload, WorkloadSpec
from schemas import event, heartbeat
from schemas.event import InferenceEvent
from schemas.rejection import Rejected
from tests import asked_once as broker
from tests.integration.engines import Server

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-c", "from pipeline.cli.app import run; run()", "produce"]


async def read_topic(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """Everything on a topic."""
    name = settings.topic(topic)
    ends = await broker.ends(settings, [name])
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(ends))
        await consumer.seek_to_beginning()
        records: list[ConsumerRecord] = []
        deadline = time.monotonic() + 30
        while len(records) < sum(end - start for start, end in ends.values()):
            assert time.monotonic() < deadline, f"read {len(records)} of {ends}"
            for some in (await consumer.getmany(timeout_ms=500)).values():
                records += some
        return records
    finally:
        await consumer.stop()


def _recount(settings: Settings, records: list[ConsumerRecord]) -> tuple[set[Cell], dict[str, int]]:
    """The oracle: decodes each record by itself, and adds up."""
    sums: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 7)
    refused: Counter[str] = Counter()
    for record in records:
        got = event.decode(record.value, record.timestamp, settings.time_limits)
        if not isinstance(got, InferenceEvent):
            assert isinstance(got, Rejected)
            refused[got.reason.value] += 1
            continue
        counts = sums[got.workspace, got.model_id, got.device_id or "", window_start(got.event_time_ms)]
        ppm = [round(p.confidence * 1e6) for p in got.predictions]
        latency_us = 0 if got.latency_ms is None else round(got.latency_ms * 1000)
        one = (1, bool(got.error), not ppm, len(ppm), got.latency_ms is not None, latency_us, sum(ppm))
        for i, count in enumerate(one):
            counts[i] += count
    return {Cell(*key, *counts) for key, counts in sums.items()}, dict(refused)


def _assert_on_the_topic(settings: Settings, sent: SentRecords) -> None:
    """Exactly what was acknowledged is there, at the offsets that were told."""
    records = asyncio.run(read_topic(settings, "inference.events"))
    told = {(p, o) for p, ranges in sent.ranges.items() for start, n in ranges for o in range(start, start + n)}
    assert {(record.partition, record.offset) for record in records} == told
    assert len(records) == sent.record_count
    assert (set(sent.cells), sent.refused) == _recount(settings, records)
    assert not sent.unknown


def test_what_was_sent_is_on_the_topic_exactly(world: Settings, tmp_path: Path) -> None:
    file = tmp_path / "sent.json"
    options = ["--rate", "0", "--events", "20000", "--devices", "30", "--late", "0.02", "--malformed", "0.02"]
    options += ["--duplicate", "0.01", "--errors", "0.01", "--verify", str(file), "--json"]
    done = subprocess.run(
        [*COMMAND, *options], env=os.environ | to_environ(world), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["sent"], summary["acknowledged"], summary["unknown"]) == (20_000, 20_000, 0)
    assert summary["malformed"].keys() == {
        "not_json", "missing_field", "wrong_type", "out_of_range", "too_large", "unknown_schema"
    }  # fmt: skip
    sent = decode(file.read_bytes())
    assert sent.record_count == 20_000
    _assert_on_the_topic(world, sent)
    records = asyncio.run(read_topic(world, "inference.heartbeats"))
    beats = [beat for record in records if isinstance(beat := heartbeat.decode(record.value), heartbeat.Heartbeat)]
    assert len(beats) == len(records)
    assert {beat.device_id for beat in beats} == {f"cam-{i:04d}" for i in range(30)}


def test_a_device_s_events_are_in_the_partition_of_its_key(world: Settings) -> None:
    asyncio.run(_load(world, Pace(event_count=2000, heartbeat_s=None)))
    records = asyncio.run(read_topic(world, "inference.events"))
    by_device: dict[bytes, set[int]] = defaultdict(set)
    for record in records:
        by_device[record.key].add(record.partition)
    assert len(by_device) == 20
    assert all(len(partitions) == 1 for partitions in by_device.values())
    assert len({record.partition for record in records}) > 4


def test_the_rate_is_kept(world: Settings) -> None:
    sent = asyncio.run(_load(world, Pace(rate=2000, seconds=3, heartbeat_s=None)))
    assert 5000 <= sent.record_count <= 6500
    _assert_on_the_topic(world, sent)


def test_an_interrupt_ends_it_cleanly_with_everything_accounted_for(world: Settings, tmp_path: Path) -> None:
    file = tmp_path / "sent.json"
    child = subprocess.Popen(
        [*COMMAND, "--rate", "3000", "--verify", str(file)], env=os.environ | to_environ(world), stderr=subprocess.PIPE
    )
    try:
        topic = world.topic("inference.events")
        _wait_for(lambda: sum(end for _, end in asyncio.run(broker.ends(world, [topic])).values()) > 1000)
        child.terminate()
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, errors
    _assert_on_the_topic(world, decode(file.read_bytes()))


def test_nothing_is_lost_or_doubled_when_the_broker_is_killed_meanwhile(world: Settings, kafka: Server) -> None:
    async def run() -> SentRecords:
        workload = Workload(WorkloadSpec(seed=5, workspace="default", devices=20, malformed=0.01))
        async with publishing(world) as publisher:
            load = Load(world, workload, Pace(rate=20_000, event_count=60_000, heartbeat_s=None), publisher)
            running = asyncio.create_task(load.run())
            while load.acknowledged < 15_000:
                await asyncio.sleep(0.05)
                assert not running.done()
            kafka.kill9()
            await asyncio.to_thread(kafka.start)
            await asyncio.wait_for(running, 90)
            return load.result()

    sent = asyncio.run(run())
    assert sent.record_count == 60_000
    _assert_on_the_topic(world, sent)


def test_kafka_that_is_not_there_is_said_in_one_line() -> None:
    done = subprocess.run(
        [*COMMAND, "--events", "1"],
        env=os.environ | {"INFERWATCH_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    (line,) = done.stderr.strip().splitlines()
    assert "Kafka at 127.0.0.1:1 does not answer" in line


def _wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


async def _load(settings: Settings, pace: Pace) -> SentRecords:
    workload = Workload(WorkloadSpec(devices=20, late=0.01, malformed=0.01))
    async with publishing(settings) as publisher:
        load = Load(settings, workload, pace, publisher)
        await load.run()
        return load.result()
