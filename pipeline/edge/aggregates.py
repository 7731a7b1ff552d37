"""How cuts get to inference.aggregates: acknowledged by all replicas, sent again for as long as that takes."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.core.ledger import AggregatorName, Position
from pipeline.edge.kafka import client_options
from schemas import aggregate

log = structlog.get_logger()

_LOOK_BACK = 1000  # records, at the first look for a source's last link


class AggregatesTopic:
    """The aggregator's output. `reachable` says how the last send went."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Nothing is opened before `start`."""
        self._settings, self._topic = settings, topic
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self.reachable = True

    async def start(self) -> None:
        """The producer is opened at the first send: the broker may not be there yet."""

    async def stop(self) -> None:
        """Closes the producer."""
        await self._close()

    async def partitions(self) -> int:
        """How many partitions the topic has now."""
        while True:
            try:
                return len(await (await self._open()).partitions_for(self._topic))
            except (KafkaError, OSError) as error:
                await self._failed(error, 1.0)

    async def send(self, source: int, records: Iterable[tuple[int, bytes]], alive: Callable[[], None]) -> None:
        """Sends (partition, record) in order and returns when all are acknowledged. `alive` is called at every try."""
        waiting, wait_s = list(records), 0.1
        while True:
            try:
                producer = await self._open()
                sent = [
                    await producer.send(self._topic, value, key=str(source).encode(), partition=partition)
                    for partition, value in waiting
                ]
                answers = await asyncio.gather(*sent, return_exceptions=True)
                failures = [answer for answer in answers if isinstance(answer, BaseException)]
                if not failures:
                    self.reachable = True
                    return
                # All go again: a reader drops what it has, and order must hold within a partition.
                raise failures[0]
            except (KafkaError, OSError) as error:
                alive()
                await self._failed(error, wait_s)
                wait_s = min(2 * wait_s, 10)

    async def last_name(self, source: int) -> AggregatorName | None:
        """The name to go on from, if the committed one of a source is lost; None if nothing of it is out.

        The newest cut that is anywhere. Unless it ended everywhere, it is to be made again.
        """
        consumer = AIOKafkaConsumer(**client_options(self._settings), enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, p) for p in range(await self.partitions())]
            consumer.assign(partitions)
            last = [await _last_of(consumer, partition, source) for partition in partitions]
        finally:
            await consumer.stop()
        found = [record for record in last if record is not None]
        if not found:
            return None
        newest = max(found, key=lambda record: record.end)
        name = AggregatorName(*newest.cut)
        ended = all(record is not None and Position(*record.end) == name.end for record in last[: name.targets])
        return name.done(newest.low) if ended else name

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    max_request_size=8 << 20,
                    request_timeout_ms=15_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _failed(self, error: BaseException, wait_s: float) -> None:
        self.reachable = False
        log.warning("aggregates_retry", topic=self._topic, error=repr(error))
        await self._close()  # an idempotent producer does not always get over what it met
        await asyncio.sleep(wait_s)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), 5)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("producer_stop", error=repr(error))


async def _last_of(
    consumer: AIOKafkaConsumer, partition: TopicPartition, source: int
) -> aggregate.AggregateRecord | None:
    """The newest record of `source` in a partition: looks back further and further."""
    first = (await consumer.beginning_offsets([partition]))[partition]
    upper = (await consumer.end_offsets([partition]))[partition]
    look_back = _LOOK_BACK
    while upper > first:
        lower = max(first, upper - look_back)
        found = await _last_between(consumer, partition, lower, upper, source)
        if found is not None:
            return found
        upper, look_back = lower, 2 * look_back
    return None


async def _last_between(
    consumer: AIOKafkaConsumer, partition: TopicPartition, lower: int, upper: int, source: int
) -> aggregate.AggregateRecord | None:
    consumer.seek(partition, lower)
    found: aggregate.AggregateRecord | None = None
    while await consumer.position(partition) < upper:
        for record in (await consumer.getmany(partition, timeout_ms=1000)).get(partition, []):
            link = aggregate.decode(record.value)
            if record.offset < upper and isinstance(link, aggregate.AggregateRecord) and link.source == source:
                found = link
    return found
