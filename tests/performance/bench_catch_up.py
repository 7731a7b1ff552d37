"""Catch-up: a topic full of events, then one worker alone, from its first partition to the last acknowledged row.

The log's times are those of the events (message.timestamp.type=CreateTime), so that windows close as they would have:
what is measured is a worker that comes back after `span` at events / span a second.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.publish import Publisher, partition_of
from schemas import aggregate
from schemas.topics import AGGREGATES, EVENTS
from tests import asked_once as kafka
from tests.integration.engines import Engines
from tests.integration.outside import migrate
from tests.performance import system
from tests.performance.events import chunks
from tests.performance.figures import Figure, VoidRunError

BATCH_RECORDS = 800
IDLE_S = 5.0  # for what the servers use without work
AGGREGATOR_US, RECORDER_US = 6.7, 10.0  # 150,000 and 100,000 events/s on a core


@dataclass(frozen=True, slots=True)
class Load:
    """What is in the topic. The span ends some time ago, so that every window closes."""

    events: int = 1_000_000
    span_s: int = 600
    compression: str = "lz4"


def run(running: Engines, directory: Path, load: Load) -> list[Figure]:
    """One worker of each kind after the other, on the same events."""
    settings = system.world(running)
    first_ms = now_ms() - (load.span_s + 30) * 1000
    asyncio.run(_fill(settings, load, first_ms))
    migrate(settings)
    with system.client(settings) as client:
        system.wait_settled(client)
        idle = _idle(running)
        servers = {"broker": running.kafka, "ClickHouse": running.clickhouse}
        with system.worker("aggregator", settings, directory) as worker:
            meter = system.Meter(worker=worker, broker=running.kafka)
            done_at = first_ms + load.span_s * 1000
            system.wait("every window is out", lambda: _aggregated(settings, done_at), every_s=0.5)
            use = meter.read().less(idle, ("broker",))
        wall_s = asyncio.run(_check_aggregates(settings, load.events))
        figures = list(_figures("aggregator", load, use, wall_s, AGGREGATOR_US))
        with system.worker("recorder", settings, directory) as worker:
            meter = system.Meter(worker=worker, **servers)
            began = now_ms()
            system.wait("every row is in", lambda: _rows(client) >= load.events, every_s=0.2)
            wall_s = (now_ms() - began) / 1000
            system.wait("every window is in", lambda: _recorded(settings), every_s=0.5)
            working = meter.read()
            system.wait_settled(client)
            settled = meter.read().less(idle, ("broker", "ClickHouse"))
            # The worker itself has nothing to do while ClickHouse merges.
            use = replace(settled, cpu_s={**settled.cpu_s, "worker": working.cpu_s["worker"]})
        _check_tables(client, load.events)
        return figures + list(_figures("recorder", load, use, wall_s, RECORDER_US))


def _figures(role: str, load: Load, use: system.Use, wall_s: float, target_us: float) -> Iterator[Figure]:
    bench = f"catch-up: {role} alone"
    for name, cpu_s in use.cpu_s.items():
        target = target_us if name == "worker" else None
        yield Figure(bench, name, cpu_s / load.events * 1e6, "CPU-us/event", target)
    yield Figure(bench, "worker", load.events / use.cpu_s["worker"], "events/s/core", 1e6 / target_us, more=True)
    yield Figure(bench, "wall clock", load.events / wall_s, "events/s")


def _idle(running: Engines) -> system.Use:
    meter = system.Meter(broker=running.kafka, ClickHouse=running.clickhouse)
    time.sleep(IDLE_S)
    return meter.read()


async def _fill(settings: Settings, load: Load, first_ms: int) -> None:
    async with kafka.admin(settings) as admin:
        configs = {**EVENTS.settings(), "message.timestamp.type": "CreateTime"}
        await admin.create_topics([NewTopic(settings.topic(EVENTS.name), EVENTS.partitions, 1, topic_configs=configs)])
    await kafka.create_topics(settings)  # the others
    producer = AIOKafkaProducer(
        **kafka.client_options(settings), compression_type=load.compression, max_batch_size=1_000_000, linger_ms=5
    )
    await producer.start()
    try:
        publisher = Publisher(producer)
        waiting: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        time_ms = first_ms
        for chunk in chunks(load.events, first_ms, load.span_s * 1000):
            time_ms = chunk.time_ms
            for key, value in zip(chunk.keys, chunk.values, strict=True):
                waiting[partition_of(key, EVENTS.partitions)].append((key, value))
            for partition in [p for p, records in waiting.items() if len(records) >= BATCH_RECORDS]:
                await _send(publisher, settings, partition, waiting.pop(partition), time_ms)
        for partition, records in waiting.items():
            await _send(publisher, settings, partition, records, time_ms)
        await publisher.flush()
    finally:
        await producer.stop()


async def _send(
    publisher: Publisher, settings: Settings, partition: int, records: list[tuple[bytes, bytes]], time_ms: int
) -> None:
    keys, values = zip(*records, strict=True)
    async for _ in publisher.send_many(settings.topic(EVENTS.name), partition, keys, values, time_ms):
        pass


def _aggregated(settings: Settings, through_ms: int) -> bool:
    """Whether every partition has named the cut that closes the last window; it goes out at once."""
    committed = asyncio.run(kafka.committed(settings, "aggregator"))
    names = [AggregatorName.parse(at.offset, at.metadata) for at in committed.values()]
    return len(names) == EVENTS.partitions and all(name.through_ms >= through_ms for name in names)


def _recorded(settings: Settings) -> bool:
    committed = asyncio.run(kafka.committed(settings, "recorder"))
    topics = [settings.topic(EVENTS.name), settings.topic(AGGREGATES.name)]
    ends = asyncio.run(kafka.ends(settings, topics))
    done = {tp: RecorderName.parse(at.offset, at.metadata).from_offset for tp, at in committed.items()}
    return all(done.get(tp, 0) >= end for tp, (_, end) in ends.items())


async def _check_aggregates(settings: Settings, events: int) -> float:
    """Counts what is out, each link once; the seconds from the first record to the last but those closed by silence."""
    consumer = AIOKafkaConsumer(**kafka.client_options(settings), auto_offset_reset="earliest")
    topic = settings.topic(AGGREGATES.name)
    ends = await kafka.ends(settings, [topic])
    await consumer.start()
    found, times_ms = 0, list[int]()
    try:
        consumer.assign(list(ends))
        chains = {tp: Chain() for tp in ends}
        left = {tp for tp, (first, end) in ends.items() if end > first}
        while left:
            for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    value = aggregate.decode(record.value)
                    assert isinstance(value, aggregate.AggregateRecord), value
                    verdict = chains[tp].observe(value.source, Position(*value.start), Position(*value.end))
                    if verdict is Verdict.GAP:
                        raise VoidRunError("there is a gap in the chain of aggregates")
                    if verdict is Verdict.ACCEPTED:
                        found += int(value.models.numbers["inference_count"].sum())
                        times_ms.append(record.timestamp)
                if records[-1].offset + 1 >= ends[tp][1]:
                    left.discard(tp)
    finally:
        await consumer.stop()
    if found != events:
        raise VoidRunError(f"{found} of {events} events are in the aggregates")
    return (max(times_ms) - min(times_ms)) / 1000


def _rows(client: Client) -> int:
    return system.number(client, "SELECT count() FROM inferences")


def _check_tables(client: Client, events: int) -> None:
    rows = system.number(client, "SELECT uniqExact(kafka_partition, kafka_offset) FROM inferences")
    if rows != events or _rows(client) != events:
        raise VoidRunError(f"{rows} different rows of {_rows(client)} in inferences; there were {events} events")
    for suffix in ("", "_1m", "_1h", "_1d"):
        count = system.number(client, f"SELECT sum(inference_count) FROM model_windows{suffix}")
        if count != events:
            raise VoidRunError(f"model_windows{suffix} count {count} of {events} events")
