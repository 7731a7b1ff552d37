"""What aiokafka fetched, as batches."""

from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.core.batch import Batch


def fetched(tp: TopicPartition, records: Sequence[ConsumerRecord]) -> Batch:
    """What aiokafka fetched of one partition, as columns."""
    return Batch(
        tp.topic,
        tp.partition,
        [r.offset for r in records],
        [r.timestamp for r in records],
        [r.key for r in records],
        [r.value for r in records],
        create_time=records[0].timestamp_type == 0,
    )
