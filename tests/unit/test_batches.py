"""Records of many requests become one batch a partition; whoever waits is told what became of all of its records."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edge.kafka.batches import BATCH_RECORDS_MAX, Batches, KeyedRecords

NOW = 1_795_000_000_000


class Builder:
    """Takes `room` records."""

    def __init__(self, room: int) -> None:
        self.values: list[bytes] = []
        self._room = room

    def append(self, *, timestamp: int, key: bytes, value: bytes) -> object | None:
        assert timestamp == NOW
        if len(self.values) >= self._room:
            return None
        self.values.append(value)
        return self

    def close(self) -> None: ...


class Broker:
    """A log whose producers do what they are told. `answers`: an error, or None, for each batch; then all are taken."""

    where = "broker:1"

    def __init__(self, room: int = 10**9) -> None:
        self.sent: list[tuple[int, list[bytes]]] = []
        self.on_their_way: list[asyncio.Future[None]] = []
        self.answers: list[BaseException | None] = []
        self.silent = False
        self.opened = 0
        self._room = room
        self._message_accumulator = self

    def producer(self, **_: Any) -> "Broker":
        self.opened += 1
        return self

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def create_batch(self) -> Builder:
        return Builder(self._room)

    async def send_batch(self, batch: Builder, topic: str, partition: int) -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            future.set_exception(answer)
            return future
        self.sent.append((partition, batch.values))
        self.on_their_way.append(future)
        if not self.silent:
            asyncio.get_running_loop().call_soon(future.set_result, None)
        return future


def records(*values: int) -> KeyedRecords:
    return KeyedRecords([b"k"] * len(values), [str(value).encode() for value in values])


def with_batches(broker: Broker, story: Callable[[Batches], Coroutine[Any, Any, None]], stuck_s: float = 60) -> None:
    async def run() -> None:
        await story(Batches(cast(Any, broker), stuck_s))

    asyncio.run(asyncio.wait_for(run(), 10))


def is_reachable(batches: Batches) -> bool:
    return batches.reachable


def test_what_comes_while_a_batch_is_on_its_way_goes_together_in_the_next() -> None:
    broker = Broker()

    async def story(batches: Batches) -> None:
        broker.silent = True
        first = asyncio.create_task(batches.send("t", {3: records(1)}, NOW))
        while not broker.on_their_way:
            await asyncio.sleep(0)
        later = [asyncio.create_task(batches.send("t", {3: records(n)}, NOW)) for n in range(2, 50)]
        await asyncio.sleep(0)
        broker.silent = False
        assert not first.done()
        broker.on_their_way[0].set_result(None)
        assert await first == set()
        assert await asyncio.gather(*later) == [set()] * 48

    with_batches(broker, story)
    assert [len(values) for _, values in broker.sent] == [1, 48]
    assert broker.opened == 1


@given(
    requests=st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 20), min_size=1), min_size=1, max_size=12),
    room=st.integers(1, 15),
)
def test_every_record_is_sent_once_in_its_order_however_small_a_batch_is(
    requests: list[dict[int, int]], room: int
) -> None:
    broker = Broker(room)
    numbers = iter(range(10**6))
    parts = [{p: records(*(next(numbers) for _ in range(count))) for p, count in one.items()} for one in requests]

    async def story(batches: Batches) -> None:
        assert await asyncio.gather(*(batches.send("t", one, NOW) for one in parts)) == [set()] * len(parts)

    with_batches(broker, story)
    for partition in range(4):
        given_to = [value for one in parts if partition in one for value in one[partition].values]
        assert [value for number, values in broker.sent if number == partition for value in values] == given_to


def test_a_batch_holds_no_more_than_its_bound() -> None:
    broker = Broker()

    async def story(batches: Batches) -> None:
        assert await batches.send("t", {0: records(*range(2 * BATCH_RECORDS_MAX + 1))}, NOW) == set()

    with_batches(broker, story)
    assert [len(values) for _, values in broker.sent] == [BATCH_RECORDS_MAX, BATCH_RECORDS_MAX, 1]


def test_a_partition_that_fails_fails_nobody_elses_records_and_the_next_request_gets_a_new_producer() -> None:
    broker = Broker()
    broker.answers = [KafkaConnectionError("gone")]

    async def story(batches: Batches) -> None:
        assert await batches.send("t", {0: records(1), 1: records(2)}, NOW) == {0}
        assert await batches.send("t", {0: records(3)}, NOW) == set()
        assert batches.reachable

    with_batches(broker, story)
    assert broker.sent == [(1, [b"2"]), (0, [b"3"])]
    assert broker.opened == 2


@pytest.mark.parametrize("error", [ValueError("nobody thought of it"), asyncio.CancelledError()])
def test_whatever_goes_wrong_nobody_waits_for_ever(error: BaseException) -> None:
    broker = Broker(room=2)
    broker.answers = [None, error]

    async def story(batches: Batches) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        assert await batches.send("t", {0: records(1, 2, 3)}, NOW) == {0}
        assert await batches.send("t", {0: records(4)}, NOW) == set()

    with_batches(broker, story)


def test_a_partition_that_stands_still_takes_nothing_more_and_the_others_go_on() -> None:
    broker = Broker()

    async def story(batches: Batches) -> None:
        broker.silent = True
        first = asyncio.create_task(batches.send("t", {0: records(1)}, NOW))
        while is_reachable(batches):
            await asyncio.sleep(0.005)
        broker.silent = False
        assert await batches.send("t", {0: records(2), 1: records(3)}, NOW) == {0}
        broker.on_their_way[0].set_result(None)
        assert await first == set()
        assert batches.reachable
        assert await batches.send("t", {0: records(4)}, NOW) == set()

    with_batches(broker, story, stuck_s=0.02)
    assert broker.sent == [(0, [b"1"]), (1, [b"3"]), (0, [b"4"])]
