"""The aggregator's output: cuts to inference.aggregates, and what the topic says of a source whose name is lost."""

from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pipeline.core.ledger.names import AggregatorName, Position
from pipeline.edge.kafka.connection import Log
from pipeline.edge.kafka.producer import OutRecord, Producer
from schemas import aggregate

_LOOK_BACK = 1000  # records, at the first look for a source's last link


class AggregatesTopic(Producer):
    """The topic as the aggregator writes it."""

    def __init__(self, log: Log, topic: str) -> None:
        """`topic` as on the broker."""
        super().__init__(log)
        self._topic = topic

    async def targets(self) -> int:
        """How many partitions a cut is spread over now."""
        return await self.partitions(self._topic)

    async def send_cut(self, source: int, records: Iterable[tuple[int, bytes]], alive: Callable[[], None]) -> None:
        """Sends (partition, record) in order and returns when all are acknowledged."""
        key = str(source).encode()
        await self.send(self._topic, [OutRecord(key, value, target) for target, value in records], alive)

    async def last_name(self, source: int) -> AggregatorName | None:
        """The name to go on from, if the committed one of a source is lost; None if nothing of it is out.

        The newest cut that is anywhere. Unless it ended everywhere, it is to be made again.
        """
        consumer = self._log.consumer()
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, p) for p in range(await self.targets())]
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
