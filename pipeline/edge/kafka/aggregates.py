"""The aggregator's output: cuts to inference.aggregates, and what the topic says of a source whose name is lost."""

from collections.abc import Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pipeline.core.ledger.names import AggregatorName, Position
from pipeline.edge.kafka.connection import Log
from pipeline.edge.kafka.producer import OutRecord, Producer
from schemas import aggregate

_LOOK_BACK = 50  # records, at the first look for a source's last link: it is looked for on every assignment


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
        """What the topic says of how far a source has come; None if nothing of it is out.

        The newest cut that is anywhere. Unless it ended everywhere, it is to be made again.
        """
        partitions = [TopicPartition(self._topic, p) for p in range(await self.targets())]
        last = await self._last_of(partitions, source)
        if not last:
            return None
        newest = max(last.values(), key=lambda record: record.end)
        name = AggregatorName.of(newest.cut, newest.topic_id)
        in_full = [record for tp, record in last.items() if Position(*record.end) == name.end]
        return name.done(newest.low) if len(in_full) >= name.targets else name

    async def _last_of(
        self, partitions: list[TopicPartition], source: int
    ) -> Mapping[TopicPartition, aggregate.AggregateRecord]:
        """The newest record of `source` in each partition that has one: looks back further and further."""
        consumer = self._log.consumer()
        await consumer.start()
        try:
            consumer.assign(partitions)
            first, upper = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            found: dict[TopicPartition, aggregate.AggregateRecord] = {}
            look_back = _LOOK_BACK
            while left := [tp for tp in partitions if tp not in found and upper[tp] > first[tp]]:
                lower = {tp: max(first[tp], upper[tp] - look_back) for tp in left}
                found |= await _last_between(consumer, lower, upper, source)
                upper, look_back = upper | lower, 4 * look_back
            return found
        finally:
            await consumer.stop()


async def _last_between(
    consumer: AIOKafkaConsumer, lower: Mapping[TopicPartition, int], upper: Mapping[TopicPartition, int], source: int
) -> dict[TopicPartition, aggregate.AggregateRecord]:
    """The furthest record of `source` in each stretch of the topic: behind it may lie one that a zombie sent late."""
    found: dict[TopicPartition, aggregate.AggregateRecord] = {}
    key = str(source).encode()
    for tp, offset in lower.items():
        consumer.seek(tp, offset)
    left = set(lower)
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=1000)).items():
            for record in records:
                link = aggregate.decode(record.value) if record.offset < upper[tp] and record.key == key else None
                if isinstance(link, aggregate.AggregateRecord) and (tp not in found or found[tp].end <= link.end):
                    found[tp] = link
        left = {tp for tp in left if await consumer.position(tp) < upper[tp]}
    return found
