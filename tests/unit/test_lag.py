"""How far a partition is behind: by offsets, and by the age of what waits; also while nothing is fetched."""

import asyncio
from typing import Any, cast

from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition

from pipeline.core.batch import Batch
from pipeline.edge.kafka.group.partition import Partition
from tests.clocks import Clock

TP = TopicPartition("events", 0)


class Consumer:
    """What a partition asks of aiokafka's."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.stable: int | None = None
        self.paused = False

    def highwater(self, tp: TopicPartition) -> int:
        return self.end

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        return self.stable

    def seek(self, tp: TopicPartition, offset: int) -> None: ...

    def pause(self, tp: TopicPartition) -> None:
        self.paused = True

    def resume(self, tp: TopicPartition) -> None:
        self.paused = False


class Group:
    partition_bytes_max = 100

    def __init__(self, consumer: Consumer, clock: Clock) -> None:
        self.consumer, self.clock = consumer, clock


def assigned(end: int, now: list[int] | None = None) -> Partition:
    partition = Partition(cast(Any, Group(Consumer(end), Clock(now or [0]))), TP, (1, "member"))
    partition.seek(0)
    return partition


def deliver(partition: Partition, first: int, times_ms: list[int], size: int = 10) -> None:
    offsets = range(first, first + len(times_ms))
    values = [b"x" * size] * len(times_ms)
    partition.deliver(Batch(TP.topic, TP.partition, offsets, times_ms, [None] * len(times_ms), values))


class GivenUp(Consumer):
    """Its assignment is gone, and it has yet to say so."""

    def seek(self, tp: TopicPartition, offset: int) -> None:
        raise IllegalStateError(tp)


def test_a_partition_whose_assignment_is_gone_leaves_and_fails_nothing() -> None:
    partition = Partition(cast(Any, Group(GivenUp(5), Clock([0]))), TP, (1, "member"))
    partition.seek(3)
    assert (partition.leaving, partition.next_offset, partition.failure) == (True, 3, None)
    partition.stand_still("a reason")
    assert partition.failure == "a reason"


def test_a_record_that_waits_here_counts_once() -> None:
    partition = assigned(end=5)
    assert partition.lag() == 5
    deliver(partition, 0, [1, 2, 3])
    assert partition.lag() == 5
    asyncio.run(partition.take(3))
    assert partition.lag() == 2


def test_while_it_is_paused_the_lag_grows_with_what_the_kafka_says() -> None:
    partition = assigned(end=3)
    deliver(partition, 0, [1, 2, 3], size=50)
    was_full = partition.is_full
    assert was_full
    partition.end_asked = 1000
    assert partition.lag() == 1000
    asyncio.run(partition.take(3))
    assert not partition.is_full
    assert partition.lag() == 0  # it is fetched again, and the fetch knows better
    assert partition.caught_up


# -- an offset is not a record


def test_what_holds_no_record_at_the_end_is_read_once_the_consumer_is_behind_it() -> None:
    partition = assigned(end=5)
    deliver(partition, 0, [1, 2, 3])
    partition.come_to(5)  # a marker, and what was aborted before it
    assert partition.lag() == 5
    assert not partition.caught_up
    asyncio.run(partition.take(10))
    assert partition.next_offset == 3
    partition.come_to(5)
    assert (partition.next_offset, partition.lag(), partition.caught_up) == (5, 0, True)


def test_a_log_of_markers_only_is_read_to_its_end() -> None:
    partition = assigned(end=4)
    partition.come_to(4)
    assert (partition.next_offset, partition.caught_up, partition.lag_s()) == (4, True, 0.0)


def test_what_a_transaction_holds_open_does_not_wait_for_us() -> None:
    partition = assigned(end=9)
    consumer = cast(Any, partition)._group.consumer
    deliver(partition, 0, [1, 2, 3])
    consumer.stable = 3
    asyncio.run(partition.take(10))
    assert (partition.lag(), partition.caught_up) == (0, True)
    consumer.stable = 9
    assert (partition.lag(), partition.caught_up) == (6, False)


def test_a_hole_before_the_next_record_is_come_over_with_it() -> None:
    partition = assigned(end=12)
    deliver(partition, 0, [1, 2])
    deliver(partition, 9, [3, 4, 5])
    partition.come_to(12)
    assert [list(part.offsets) for part in asyncio.run(partition.take(10, until=5))] == [[0, 1]]
    assert asyncio.run(partition.take(10, until=5)) == []
    assert partition.next_offset == 5  # a named cut that ends in the hole is whole
    assert [list(part.offsets) for part in asyncio.run(partition.take(10))] == [[9, 10, 11]]


def test_coming_over_a_hole_is_progress() -> None:
    now = [1_000_000]
    partition = assigned(end=3, now=now)
    now[0] += 1_000_000
    partition.come_to(3)
    assert partition.silent_s < 500


def test_a_record_after_an_idle_hour_is_not_an_hour_behind() -> None:
    now = [3_600_000]
    partition = assigned(end=1, now=now)
    partition.done_time_ms = 1  # the newest that is done came long ago
    deliver(partition, 0, [3_599_000])
    assert partition.lag_s() == 1.0
    now[0] += 60_000
    assert partition.lag_s() == 61.0
    asyncio.run(partition.take(1))
    assert partition.lag_s() == 0.0
