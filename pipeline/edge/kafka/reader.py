"""Reads partitions that are given, not assigned: each from an offset, or from its start."""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.edge.kafka.connection import Log

log = structlog.get_logger()

RETRY_S = 1.0
RECORDS_MAX = 5000


class Reader:
    """`caught_up` once all that was there at the start has been read; a broker that is away does not change it."""

    def __init__(self, log: Log, offsets: Mapping[TopicPartition, int | None], *, whole: bool = False) -> None:
        """The next offset of each partition; None: its first.

        What leaves the log before it is read is passed over: nobody can have it any more. But of what must be read
        `whole` that is an error, OffsetOutOfRangeError: the log was made anew, and is read again from its start.
        """
        self._log, self._offsets, self._whole = log, dict(offsets), whole
        self._consumer: AIOKafkaConsumer | None = None
        self._ends: dict[TopicPartition, int] = {}
        self.caught_up = False

    @classmethod
    def of_topic(cls, log: Log, topic: str, offsets: Mapping[int, int | None]) -> "Reader":
        """Of some partitions of one topic (full name)."""
        return cls(log, {TopicPartition(topic, number): offset for number, offset in offsets.items()})

    async def start(self) -> None:
        """Connects, as long as that takes, and goes to the offsets; one that is gone becomes the first there is."""
        while True:
            self._consumer = self._log.consumer(auto_offset_reset="none" if self._whole else "earliest")
            try:
                await self._consumer.start()
                await self._seek(self._consumer)
                return
            except (KafkaError, OSError) as error:
                await self.stop()
                log.warning("reader_retry", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        partitions = list(self._offsets)
        consumer.assign(partitions)
        firsts = await consumer.beginning_offsets(partitions)
        self._ends = await consumer.end_offsets(partitions)
        for partition, offset in self._offsets.items():
            is_there = offset is not None and firsts[partition] <= offset <= self._ends[partition]
            consumer.seek(partition, offset if is_there else firsts[partition])

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def read(self, timeout_s: float) -> list[ConsumerRecord]:
        """What has come, in the order of each partition."""
        assert self._consumer is not None
        try:
            batches = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=RECORDS_MAX)
        except OffsetOutOfRangeError:
            raise
        except KafkaError as error:
            log.warning("read_retry", error=repr(error))
            await asyncio.sleep(timeout_s)
            return []
        if not self.caught_up:
            positions = [await self._consumer.position(partition) for partition in self._ends]
            self.caught_up = all(at >= end for at, end in zip(positions, self._ends.values(), strict=True))
        return [record for records in batches.values() for record in records]
