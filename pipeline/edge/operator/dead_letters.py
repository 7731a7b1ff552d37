"""Dead letters: found in ClickHouse, read again from Kafka where they are long, sent again on request.

A replay is marked in the table dead_letter_replays after Kafka has acknowledged it, lot by lot: a replay that is killed
may send one lot (LOT records) again the next time. Every record also says what it is a replay of, in a header.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata, TopicPartition

from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.connection import unavailable
from pipeline.edge.kafka.producer import REQUEST_BYTES_MAX
from pipeline.edge.store.asks import Asks
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.dead_letters import (
    DeadLetter,
    Selection,
    SentAgain,
    lots_to_replay,
    mark_replayed,
    newest_at,
)

LOT = 200
HEADER = "inferwatch-replay-of"


class NoSuchDeadLetterError(Exception):
    """There is no dead letter from there."""


@dataclass(slots=True)
class Replayed:
    """What became of the dead letters that were to be sent again."""

    sent: int = 0
    gone: list[str] = field(default_factory=list)  # too long for ClickHouse, and no longer on the broker
    refused: list[str] = field(default_factory=list)  # by the broker


async def get(kafka: Kafka, store: Asks, topics: Sequence[str], partition: int, offset: int) -> DeadLetter:
    """One dead letter, whole if it can still be had. Raises NoSuchDeadLetterError."""
    letter = await newest_at(store, topics, partition, offset)
    if letter is None:
        raise NoSuchDeadLetterError(f"there is no dead letter from {topics[0]} partition {partition} offset {offset}")
    return await _whole(kafka, letter) or letter


async def replay(kafka: Kafka, store: ClickHouse, selection: Selection, on_lot: Callable[[int], None]) -> Replayed:
    """Sends them to their topic again, with their key, in order. `on_lot` is told how many are done with."""
    outcome = Replayed()
    producer = kafka.producer(max_request_size=REQUEST_BYTES_MAX)
    try:
        await asyncio.wait_for(producer.start(), 15)
        async for lot in lots_to_replay(store, selection, LOT):
            sent = []
            for letter in lot:
                whole = await _whole(kafka, letter)
                if whole is None:
                    outcome.gone.append(letter.place)
                    continue
                at = await _send(producer, whole)
                if at is None:
                    outcome.refused.append(letter.place)
                else:
                    sent.append(SentAgain(letter, at.partition, at.offset))
            await mark_replayed(store, sent)
            outcome.sent += len(sent)
            on_lot(len(lot))
    except (KafkaError, TimeoutError, OSError) as error:
        raise unavailable(kafka.where, error, f"; {outcome.sent} records were sent again") from error
    finally:
        await producer.stop()
    return outcome


async def _send(producer: AIOKafkaProducer, letter: DeadLetter) -> RecordMetadata | None:
    """Where the record is now; None if the broker does not take it."""
    try:
        return await producer.send_and_wait(
            letter.topic, letter.value, key=letter.key or None, headers=[(HEADER, letter.place.encode())]
        )
    except KafkaError as error:
        if error.retriable:
            raise
        return None


async def _whole(kafka: Kafka, letter: DeadLetter) -> DeadLetter | None:
    """The record with its whole value: from the broker if ClickHouse has only its beginning. None if it is gone."""
    if letter.is_whole:
        return letter
    tp = TopicPartition(letter.topic, letter.partition)
    ends = await kafka.ends([letter.topic])
    if tp not in ends or not ends[tp][0] <= letter.offset < ends[tp][1]:
        return None
    records, _ = await kafka.read(tp, letter.offset, letter.offset + 1)
    value = records[0].value if records else None
    # The beginning is compared: a topic that was made anew has another record there.
    if value is None or len(value) != letter.value_bytes or not value.startswith(letter.value):
        return None
    return replace(letter, value=value)
