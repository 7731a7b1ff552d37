"""The two policies of a producer: patient, and within some seconds; both hold no more than so many bytes."""

import asyncio
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.edge.kafka.producer import OutRecord, Policy, Producer, within

RECORD = OutRecord(b"k", b"v" * 9)


class Answered(tuple[TopicPartition, int]):
    offset = 7


class Broker:
    """A log whose producers do what they are told: acknowledge, stay silent, or refuse."""

    where = "broker:1"

    def __init__(self) -> None:
        self.refusals = 0
        self.sent: list[asyncio.Future[Any]] = []
        self.silent = False

    def producer(self, **_: Any) -> "Broker":
        return self

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes, key: bytes, partition: int | None) -> "asyncio.Future[Any]":
        if self.refusals:
            self.refusals -= 1
            raise KafkaConnectionError("no broker")
        future = asyncio.get_running_loop().create_future()
        self.sent.append(future)
        if not self.silent:
            future.set_result(Answered())
        return future


def producer(broker: Broker, policy: Policy) -> Producer:
    return Producer(cast(Any, broker), policy)


async def turns() -> None:
    """All that can happen now has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_patient_producer_sends_again_until_the_broker_answers() -> None:
    broker, failures = Broker(), []
    broker.refusals = 2
    patient = producer(broker, Policy())
    assert asyncio.run(patient.send("t", [RECORD], lambda: failures.append(1))) == [7]
    assert len(failures) == 2
    assert patient.reachable


def test_who_waits_for_an_answer_is_told_at_once_that_a_broker_refuses() -> None:
    broker = Broker()
    broker.refusals = 1
    with pytest.raises(KafkaUnavailable, match=r"Kafka at broker:1 does not answer .*no broker"):
        asyncio.run(producer(broker, within(5)).send("t", [RECORD]))


def test_who_waits_for_an_answer_is_told_in_time_that_none_comes() -> None:
    broker = Broker()
    broker.silent = True
    one = producer(broker, within(0.05))
    with pytest.raises(KafkaUnavailable, match="Kafka at broker:1 does not answer"):
        asyncio.run(one.send("t", [RECORD]))
    assert not one.reachable


def test_what_is_more_than_the_bytes_that_may_be_under_way_waits() -> None:
    async def play() -> None:
        broker = Broker()
        broker.silent = True
        one = producer(broker, Policy(bytes_max=25))
        sends = [asyncio.create_task(one.send("t", [RECORD])) for _ in range(3)]  # of 10 bytes each
        await turns()
        assert len(broker.sent) == 2
        broker.sent[0].set_result(Answered())
        await turns()
        assert len(broker.sent) == 3
        for future in broker.sent[1:]:
            future.set_result(Answered())
        assert await asyncio.gather(*sends) == [[7]] * 3

    asyncio.run(play())


def test_one_send_that_is_larger_than_the_bound_goes_alone() -> None:
    assert asyncio.run(producer(Broker(), Policy(bytes_max=5)).send("t", [RECORD] * 3)) == [7] * 3


def test_a_full_producer_does_not_hold_up_a_request_beyond_its_time() -> None:
    async def play() -> None:
        broker = Broker()
        broker.silent = True
        one = producer(broker, within(0.05, bytes_max=10))
        first = asyncio.create_task(one.send("t", [RECORD]))
        await turns()
        with pytest.raises(KafkaUnavailable):
            await one.send("t", [RECORD])
        with pytest.raises(KafkaUnavailable):
            await first
        assert len(broker.sent) <= 2

    asyncio.run(play())
