"""The newest records of some topics, from now on: for whoever watches, not for whoever must have everything."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.edge.kafka.connection import KafkaUnavailable, Log

log = structlog.get_logger()

RETRY_S = 1.0
RECORDS_MAX = 500
LOOK_S = 30.0  # how often it looks for new partitions
BEHIND_MAX = 20_000  # records that may wait


class Tail:
    """One consumer of no group. Partitions that are added later are read from their start."""

    def __init__(self, log: Log, topics: Sequence[str]) -> None:
        """`topics` as on the broker."""
        self._log, self._topics = log, list(topics)
        self._consumer: AIOKafkaConsumer | None = None
        self._looked_s = 0.0

    async def start(self) -> None:
        """Connects, as long as that takes, and goes to where the topics end now."""
        while True:
            self._consumer = self._log.consumer(auto_offset_reset="latest", fetch_max_wait_ms=200)
            try:
                await self._consumer.start()
                await self._go_to(self._consumer, {tp: end for tp, (_, end) in (await self._partitions()).items()})
                return
            except (KafkaError, KafkaUnavailable, OSError) as error:
                await self.stop()
                log.warning("tail_retry", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def read(self, timeout_s: float) -> list[ConsumerRecord]:
        """Some of what has come."""
        assert self._consumer is not None
        try:
            await self._look(self._consumer)
            batches = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=RECORDS_MAX)
        except (KafkaError, KafkaUnavailable) as error:
            log.warning("tail_read_retry", error=repr(error))
            await asyncio.sleep(RETRY_S)
            return []
        return [record for records in batches.values() for record in records]

    async def skip(self) -> bool:
        """Goes to the end where too much waits; whether it did."""
        assert self._consumer is not None
        waiting = 0
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            waiting += max(0, end - await self._consumer.position(partition)) if end is not None else 0
        if waiting <= BEHIND_MAX:
            return False
        await self._consumer.seek_to_end()
        return True

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s < LOOK_S:
            return
        there = await self._partitions()
        new = there.keys() - consumer.assignment()
        if new:
            at = {tp: await consumer.position(tp) for tp in consumer.assignment()}
            await self._go_to(consumer, at | {tp: there[tp][0] for tp in new})

    async def _partitions(self) -> dict[TopicPartition, tuple[int, int]]:
        found = await self._log.ends(self._topics)
        self._looked_s = asyncio.get_running_loop().time()
        return found

    async def _go_to(self, consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
