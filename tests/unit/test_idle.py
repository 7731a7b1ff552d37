"""When a partition counts as idle: only for as long as the broker itself said that there is nothing new."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from aiokafka.structs import TopicPartition

from pipeline.core.batch import Batch
from pipeline.edge.kafka.group.partition import Partition
from tests.clocks import Clock

TP = TopicPartition("events", 0)


@dataclass
class Position:
    """What a consumer knows of the broker's answers."""

    end: int | None = None
    asked_ms: int | None = None

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.end

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        return self.end

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self.asked_ms

    def seek(self, tp: TopicPartition, offset: int) -> None: ...

    def resume(self, tp: TopicPartition) -> None: ...


@dataclass
class Group:
    consumer: Position
    clock: Clock
    partition_bytes_max: int = 1 << 20


def partition_at_its_end(position: Position, now: list[int]) -> Partition:
    """It has read the one record there is, which came at the first of `now`."""
    partition = Partition(cast(Any, Group(position, Clock(now))), TP, (1, "member"))
    partition.seek(0)
    partition.deliver(Batch(TP.topic, TP.partition, [0], [now[0]], [None], [b"{}"]))
    assert len(asyncio.run(partition.take(10))) == 1
    return partition


def test_time_passes_with_each_answer_of_the_broker_and_stands_still_without() -> None:
    now, position = [10_000], Position(end=1, asked_ms=10_000)
    partition = partition_at_its_end(position, now)
    assert partition.idle() == (10_000, 0)
    now[0], position.asked_ms = 13_000, 13_000
    assert partition.idle() == (13_000, 3000)
    now[0] = 600_000  # the broker has been away since
    assert partition.idle() == (13_000, 3000)


def test_a_partition_with_more_to_read_is_not_idle() -> None:
    now, position = [10_000], Position(end=1, asked_ms=10_000)
    partition = partition_at_its_end(position, now)
    position.end, position.asked_ms = 2, 20_000
    assert partition.idle() == (0, 0)
