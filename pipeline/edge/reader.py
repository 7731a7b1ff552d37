"""Reads partitions that are given, not assigned: each from an offset, or from its start."""

from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka import client_options

log = structlog.get_logger()


class Reader:
    """`caught_up` once all that was there has been read; a broker that is away does not change it."""

    def __init__(self, settings: Settings, offsets: Mapping[TopicPartition, int | None]) -> None:
        """The next offset of each partition; None: its first."""
        self._settings, self._offsets = settings, dict(offsets)
        self._consumer: AIOKafkaConsumer = None
        self.caught_up = False

    async def start(self) -> None:
        """Connects and goes to the offsets; one that is gone becomes the first that is there."""
        self._consumer = AIOKafkaConsumer(**client_options(self._settings), enable_auto_commit=False)
        await self._consumer.start()
        self._consumer.assign(list(self._offsets))
        firsts = await self._consumer.beginning_offsets(list(self._offsets))
        ends = await self._consumer.end_offsets(list(self._offsets))
        for partition, offset in self._offsets.items():
            first = firsts[partition]
            inside = offset is not None and first <= offset <= ends[partition]
            self._consumer.seek(partition, offset if inside else first)

    async def stop(self) -> None:
        """Disconnects."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def read(self, timeout_s: float) -> list[tuple[int, ConsumerRecord]]:
        """(partition, record) of what has come, in the order of each partition."""
        try:
            batches = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=5000)
        except KafkaError as error:
            log.warning("read_retry", error=repr(error))
            return []
        found = [(tp.partition, record) for tp, records in batches.items() for record in records]
        if not self.caught_up:
            ends = await self._consumer.end_offsets(list(self._offsets))
            self.caught_up = all([await self._consumer.position(tp) >= end for tp, end in ends.items()])
        return found
