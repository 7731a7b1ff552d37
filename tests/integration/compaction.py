"""Kafka's log cleaner at work on a topic, now: records and batches go, their offsets stay."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka.client import admin, client_options

CLEANS_WITHIN_S = 60.0
SEGMENT_MS = 100
EAGER = {
    "cleanup.policy": "compact",
    "segment.ms": str(SEGMENT_MS),
    "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "0",
}
ROLL = b"~roll"  # key of what begins the next segment: only what lies before is cleaned


async def configure(settings: Settings, kind: ConfigResourceType, name: str, configs: Mapping[str, str]) -> None:
    """These settings of a topic or a broker, in place of all that it had."""
    async with admin(settings) as client:
        for answer in await client.alter_configs([ConfigResource(kind, name, dict(configs))]):
            assert all(code == 0 for code, *_ in answer.resources), answer


async def roll(settings: Settings, topic: str, partitions: int) -> None:
    """Each partition begins a new segment, with an aborted batch: what lies before may be cleaned."""
    before = time.monotonic()
    while time.monotonic() - before < 3 * SEGMENT_MS / 1000:
        await asyncio.sleep(0.05)
    producer = AIOKafkaProducer(**client_options(settings), transactional_id=f"roll-{topic}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition in range(partitions):
            await (await producer.send(topic, b"", ROLL, partition=partition))
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def read(settings: Settings, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All that a plain reader is given."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        whole = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(whole)
        end, found = await consumer.end_offsets(whole), []
        for tp, start in (await consumer.beginning_offsets(whole)).items():
            consumer.seek(tp, start)
        while [tp for tp in whole if await consumer.position(tp) < end[tp]]:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def compact(settings: Settings, topic: str, partitions: int) -> int:
    """Returns when each key has one value left, and no deletion; how many records went. The topic stays so set up."""
    await configure(settings, ConfigResourceType.TOPIC, topic, EAGER)
    await configure(settings, ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "300"})
    before = await read(settings, topic, partitions)
    try:
        async with asyncio.timeout(CLEANS_WITHIN_S):
            while True:
                await roll(settings, topic, partitions)
                now = await read(settings, topic, partitions)
                keys = Counter((record.partition, record.key) for record in now)
                if all(n == 1 for n in keys.values()) and all(r.key and r.value is not None for r in now):
                    return len(before) - len(now)
    finally:
        await configure(settings, ConfigResourceType.BROKER, "1", {})
