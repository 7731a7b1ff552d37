"""How our own producers (demo, load generator) reach Kafka: plain aiokafka, whole batches.

An idempotent producer sends a batch again until the broker answers, and the broker keeps it once. So a batch is either
acknowledged, or was still on its way when we stopped waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.connection import KafkaUnavailable, answering

BATCH_BYTES_MAX = 1_000_000  # before compression; a single larger record still goes, alone
BATCH_RECORDS_MAX = 1600
LINGER_MS = 20


@dataclass(frozen=True, slots=True)
class BatchSent:
    """A batch on its way: records start .. end of what was handed in."""

    partition: int
    start: int
    end: int
    future: "asyncio.Future[RecordMetadata]"


def partition_of(key: bytes, partition_count: int) -> int:
    """The partition that every Kafka client with the usual partitioner (murmur2) puts this key into."""
    return int(murmur2(key) & 0x7FFFFFFF) % partition_count


class Publisher:
    """One producer. Use `publishing`, which starts and stops it."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic (full name) has."""
        return len(await self._producer.partitions_for(topic))

    async def send(self, topic: str, key: bytes, value: bytes | None) -> "asyncio.Future[RecordMetadata]":
        """One record, to the partition of its key. The future ends when Kafka has it."""
        future: asyncio.Future[RecordMetadata] = await self._producer.send(topic, value, key=key)
        return future

    async def send_many(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes],
        values: Sequence[bytes | None],
        now_ms: int,
    ) -> AsyncIterator[BatchSent]:
        """Records in their order, in as few batches as they fit into; waits while the partition's queue is full.

        A batch is on its way if and only if its delivery was yielded, also when this is cancelled.
        """
        start = 0
        while start < len(values):
            batch = self._producer.create_batch()
            append = batch.append
            end = start
            last = min(len(values), start + BATCH_RECORDS_MAX)
            while end < last and append(timestamp=now_ms, key=keys[end], value=values[end]) is not None:
                end += 1
            assert end > start, "a batch takes at least one record, however large"
            batch.close()
            yield BatchSent(partition, start, end, await self._queue(batch, topic, partition))
            start = end

    async def flush(self) -> None:
        """Waits until everything is acknowledged: for ever, if the broker never comes back."""
        await self._producer.flush()

    async def close(self, timeout_s: float = 2) -> None:
        """Lets go, without waiting long for answers: `flush` first."""
        try:
            await asyncio.wait_for(self._producer.stop(), timeout_s)
        except TimeoutError:
            with suppress(KafkaError):
                await self._producer.client.close()

    async def _queue(self, batch: object, topic: str, partition: int) -> "asyncio.Future[RecordMetadata]":
        while True:
            try:
                future: asyncio.Future[RecordMetadata] = await self._producer.send_batch(
                    batch, topic, partition=partition
                )
            except KafkaTimeoutError:  # the batch before is still waiting for its broker, and this one was not taken
                continue
            return future


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Publisher]:
    """A started Publisher. Raises KafkaUnavailable when no broker answers."""
    producer = Kafka(settings).producer(max_batch_size=BATCH_BYTES_MAX, max_request_size=1_200_000, linger_ms=LINGER_MS)
    try:
        with answering(settings.kafka_bootstrap):
            await asyncio.wait_for(producer.start(), 15)
    except KafkaUnavailable:
        await producer.stop()
        raise
    publisher = Publisher(producer)
    try:
        yield publisher
    finally:
        await publisher.close()
