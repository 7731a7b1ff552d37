"""A small system as the workers leave it, made without them: records on Kafka, rows, windows and committed names.

The recount is plain Python on purpose: it shares no code with what it is compared with.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.ledger.names import AggregatorName, RecorderName
from schemas import topics
from tests import asked_once as kafka

ZERO = -2147483648


@dataclass
class Seed:
    """What was seeded. `events` are the rows of `inferences`; `end` is the next offset of each partition."""

    settings: Settings
    client: Client
    events: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    end: dict[int, int] = field(default_factory=dict)
    through_ms: int = 0

    @property
    def topic(self) -> str:
        return self.settings.topic(topics.EVENTS.name)


def seed(settings: Settings, client: Client, now_ms: int, *, partitions: int = 3, each: int = 60) -> Seed:
    """Everything consistent: `each` records in the first `partitions` partitions, every tenth of them malformed."""
    asyncio.run(kafka.create_topics(settings))
    seeded = Seed(settings, client)
    values = {p: [_value(p, i, now_ms) for i in range(each)] for p in range(partitions)}
    for p, offset, time_ms, value in asyncio.run(publish(settings, seeded.topic, values)):
        seeded.end[p] = max(seeded.end.get(p, 0), offset + 1)
        if value == b"{":
            seeded.dead_letters.append(dead_letter(seeded.topic, p, offset, time_ms, value))
        else:
            seeded.events.append(event_row(json.loads(value), p, offset, time_ms))
    insert(client, "inferences", seeded.events)
    insert(client, "dead_letters", seeded.dead_letters)
    insert(client, "model_windows_in", list(model_windows(seeded.events)))
    insert(client, "class_windows_in", list(class_windows(seeded.events)))
    seeded.through_ms = now_ms - now_ms % 10_000 + 600_000  # so that no audit has to wait
    asyncio.run(commit_names(seeded))
    return seeded


async def publish(settings: Settings, topic: str, values: dict[int, list[bytes]]) -> list[tuple[int, int, int, bytes]]:
    """(partition, offset, broker time in ms, value) of every record, once it is there."""
    producer = AIOKafkaProducer(**kafka.client_options(settings))
    await producer.start()
    try:
        sent = [(value, await producer.send(topic, value, partition=p)) for p in values for value in values[p]]
        return [((at := await future).partition, at.offset, at.timestamp, value) for value, future in sent]
    finally:
        await producer.stop()


async def publish_in_transaction(
    settings: Settings, topic: str, partition: int, values: list[bytes]
) -> list[tuple[int, int, int, bytes]]:
    """As `publish`, in one transaction, whose end takes an offset too."""
    producer = AIOKafkaProducer(**kafka.client_options(settings), transactional_id=f"seeding-{topic}")
    await producer.start()
    try:
        async with producer.transaction():
            sent = [(value, await producer.send(topic, value, partition=partition)) for value in values]
        return [((at := await future).partition, at.offset, at.timestamp, value) for value, future in sent]
    finally:
        await producer.stop()


async def delete_records(settings: Settings, partition: TopicPartition, before: int) -> None:
    """The log begins at `before`, as retention would have it."""
    async with kafka.admin(settings) as client:
        await client.delete_records({partition: RecordsToDelete(before)})


async def alter_topic(settings: Settings, topic: str, values: dict[str, str]) -> None:
    """Sets settings of a topic."""
    async with kafka.admin(settings) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, values)])


async def delete_topic(settings: Settings, topic: str) -> None:
    """Deletes a topic, and waits until it is gone."""
    async with kafka.admin(settings) as client:
        await client.delete_topics([topic])
        async with asyncio.timeout(20):
            while topic in await client.list_topics():
                await asyncio.sleep(0.1)


async def commit_names(seeded: Seed) -> None:
    """All is done, in every partition."""
    settings, aggregates = seeded.settings, seeded.settings.topic(topics.AGGREGATES.name)
    for p, end in seeded.end.items():
        tp = TopicPartition(seeded.topic, p)
        name = AggregatorName(end, end, seeded.through_ms, end, seeded.through_ms, 0)
        await kafka.commit_for_empty_group(settings, "aggregator", tp, end, name.metadata())
        await kafka.commit_for_empty_group(settings, "recorder", tp, end, RecorderName(end, end, 0).metadata())
    await kafka.commit_for_empty_group(
        settings, "recorder", TopicPartition(aggregates, 0), 0, RecorderName(0, 0, 0).metadata()
    )


def insert(client: Client, table: str, rows: list[dict[str, Any]]) -> None:
    """Rows as JSONEachRow."""
    if rows:
        client.raw_insert(table, insert_block="\n".join(map(json.dumps, rows)), fmt="JSONEachRow")


def event_row(event: dict[str, Any], partition: int, offset: int, time_ms: int) -> dict[str, Any]:
    """A row of `inferences`."""
    detections = event["predictions"]
    return {
        "event_id": event["event_id"],
        "event_time": event["event_time_ms"] / 1000,
        "workspace": event["workspace"],
        "model_id": event["model_id"],
        "device_id": event.get("device_id", ""),
        "latency_us": None if event["latency_ms"] is None else round(event["latency_ms"] * 1000),
        "detections.class": [d["class"] for d in detections],
        "detections.confidence_ppm": [round(d["confidence"] * 1e6) for d in detections],
        **{f"detections.{side}": [0.0] * len(detections) for side in ("x", "y", "width", "height")},
        "error": event["error"] or "",
        "kafka_partition": partition,
        "kafka_offset": offset,
        "kafka_time": time_ms / 1000,
    }


def dead_letter(topic: str, partition: int, offset: int, time_ms: int, value: bytes) -> dict[str, Any]:
    """A row of `dead_letters`."""
    return {
        "reason": "not_json",
        "field": "",
        "kafka_topic": topic,
        "kafka_partition": partition,
        "kafka_offset": offset,
        "kafka_time": time_ms / 1000,
        "key": "",
        "value": value.decode(),
        "value_bytes": len(value),
    }


def model_windows(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of model_windows."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["workspace"], row["model_id"], row["device_id"], int(row["event_time"]) // 10 * 10].append(row)
    for (workspace, model_id, device_id, start), group in groups.items():
        latencies = [row["latency_us"] for row in group if row["latency_us"] is not None]
        confidences = [ppm for row in group for ppm in row["detections.confidence_ppm"]]
        yield {
            "workspace": workspace,
            "model_id": model_id,
            "device_id": device_id,
            "window_start": start,
            "inference_count": len(group),
            "error_count": sum(row["error"] != "" for row in group),
            "empty_count": sum(not row["detections.class"] for row in group),
            "detection_count": len(confidences),
            "latency_count": len(latencies),
            "latency_us_sum": sum(latencies),
            "latency_us_min": min(latencies, default=None),
            "latency_us_max": max(latencies, default=None),
            "latency_histogram": Counter(map(latency_bucket, latencies)),
            **_confidence_columns(confidences),
            "source": {0: 1},
        }


def class_windows(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of class_windows."""
    groups = defaultdict(list)
    for row in rows:
        start = int(row["event_time"]) // 10 * 10
        for name, ppm in zip(row["detections.class"], row["detections.confidence_ppm"], strict=True):
            inference = row["kafka_partition"], row["kafka_offset"]
            groups[row["workspace"], row["model_id"], name, start].append((inference, ppm))
    for (workspace, model_id, name, start), group in groups.items():
        yield {
            "workspace": workspace,
            "model_id": model_id,
            "class": name,
            "window_start": start,
            "detection_count": len(group),
            "inference_count": len({inference for inference, _ in group}),
            **_confidence_columns([ppm for _, ppm in group]),
            "source": {0: 1},
        }


@cache
def latency_bucket(latency_us: int) -> int:
    """The definition, in whole numbers: the least b with latency <= (101/99)^b."""
    if latency_us == 0:
        return ZERO
    bucket = 0
    while latency_us * 99**bucket > 101**bucket:
        bucket += 1
    return bucket


def _confidence_columns(confidences: list[int]) -> dict[str, Any]:
    return {
        "confidence_ppm_sum": sum(confidences),
        "confidence_ppm_sum_sq": sum(ppm * ppm for ppm in confidences),
        "confidence_ppm_min": min(confidences, default=None),
        "confidence_ppm_max": max(confidences, default=None),
        "confidence_histogram": Counter(ppm // 10_000 for ppm in confidences),
    }


def _value(partition: int, i: int, now_ms: int) -> bytes:
    if i % 10 == 9:
        return b"{"
    classes = ("person", "helmet", "person", "vest")[: i % 5]
    event = {
        "event_id": f"{partition}-{i}",
        "event_time_ms": now_ms - 120_000 + i * 1000 + partition,
        "workspace": "acme",
        "model_id": f"helmets/{i % 2}",
        "device_id": f"cam-{partition}",
        "latency_ms": None if i % 7 == 3 else (0.0, 0.001, 0.002, 12.345, 86_400_000.0)[i % 6 % 5],
        "predictions": [{"class": name, "confidence": (i * 7 % 101) / 100} for name in classes],
        "error": "out of memory" if i % 13 == 0 else None,
    }
    return json.dumps(event).encode()
