"""Dead letters: found in ClickHouse, read again from Kafka where they are long, sent again on request.

A replay is marked in the table dead_letter_replays after Kafka has acknowledged it, lot by lot: a replay that is killed
may send one lot (LOT records) again the next time. Every record also says what it is a replay of, in a header.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata, TopicPartition
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.edge.kafka import client as kafka
from pipeline.edge.kafka.connection import unavailable
from pipeline.edge.kafka.producer import REQUEST_BYTES_MAX
from pipeline.edge.store.client import ask, put

STORED_BYTES_MAX = 65_536  # of a value, in the table
LOT = 200
HEADER = "inferwatch-replay-of"

_COLUMNS = """reason, field, kafka_topic, kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time),
    base64Encode(key), value_bytes"""
_NOT_REPLAYED = """(kafka_topic, kafka_partition, kafka_offset, kafka_time) NOT IN
    (SELECT kafka_topic, kafka_partition, kafka_offset, kafka_time FROM dead_letter_replays)"""


class NoSuchDeadLetterError(Exception):
    """There is no dead letter from there."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; None is all."""

    reason: str | None = None
    topic: str | None = None  # full name
    since_ms: int = 0  # by broker time
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record. `value` holds what ClickHouse keeps of it, at most STORED_BYTES_MAX."""

    reason: str
    field: str
    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes
    value_bytes: int
    value: bytes

    @property
    def is_whole(self) -> bool:
        """Whether `value` is all of it."""
        return self.value_bytes == len(self.value)

    @property
    def place(self) -> str:
        """topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class Replayed:
    """What became of the dead letters that were to be sent again."""

    sent: int = 0
    gone: list[str] = field(default_factory=list)  # too long for ClickHouse, and no longer on the broker
    refused: list[str] = field(default_factory=list)  # by the broker


def find(client: Client, selection: Selection, *, value_bytes_max: int = 0) -> list[DeadLetter]:
    """The newest first, with the beginning of their values."""
    where, parameters = _where(selection)
    limit = f"LIMIT {selection.limit}" if selection.limit is not None else ""
    rows = ask(
        client,
        f"SELECT {_COLUMNS}, base64Encode(substring(value, 1, {value_bytes_max})) FROM dead_letters WHERE {where} "
        f"ORDER BY kafka_time DESC, kafka_topic, kafka_partition, kafka_offset DESC {limit}",
        parameters,
    )
    return [_dead_letter(row) for row in rows]


def get(settings: Settings, client: Client, topics: Sequence[str], partition: int, offset: int) -> DeadLetter:
    """One dead letter, whole if it can still be had. Raises NoSuchDeadLetterError."""
    rows = ask(
        client,
        f"SELECT {_COLUMNS}, base64Encode(value) FROM dead_letters WHERE kafka_topic IN {{topics:Array(String)}} "
        "AND kafka_partition = {partition:UInt16} AND kafka_offset = {offset:UInt64} "
        "ORDER BY kafka_time DESC LIMIT 1",
        {"topics": list(topics), "partition": partition, "offset": offset},
    )
    if not rows:
        raise NoSuchDeadLetterError(f"there is no dead letter from {topics[0]} partition {partition} offset {offset}")
    letter = _dead_letter(rows[0])
    return asyncio.run(_whole(settings, letter)) or letter


def count_to_replay(client: Client, selection: Selection) -> tuple[int, int, int]:
    """(records, bytes) of those not replayed yet, and how many of the selection were."""
    where, parameters = _where(selection)
    limit = f"LIMIT {selection.limit}" if selection.limit is not None else ""
    ((records, size),) = ask(
        client,
        f"SELECT count(), sum(value_bytes) FROM (SELECT value_bytes FROM dead_letters WHERE {where} "
        f"AND {_NOT_REPLAYED} {limit})",
        parameters,
    )
    ((before,),) = ask(client, f"SELECT count() FROM dead_letters WHERE {where} AND NOT ({_NOT_REPLAYED})", parameters)
    return records, size, before


def replay(settings: Settings, client: Client, selection: Selection, on_lot: Callable[[int], None]) -> Replayed:
    """Sends them to their topic again, with their key, in order. `on_lot` is told how many are done with."""
    return asyncio.run(_replay(settings, client, selection, on_lot))


async def _replay(settings: Settings, client: Client, selection: Selection, on_lot: Callable[[int], None]) -> Replayed:
    outcome = Replayed()
    producer = kafka.Kafka(settings).producer(max_request_size=REQUEST_BYTES_MAX)
    try:
        await asyncio.wait_for(producer.start(), 15)
        for lot in _lots(client, selection):
            sent = []
            for letter in lot:
                whole = await _whole(settings, letter)
                if whole is None:
                    outcome.gone.append(letter.place)
                    continue
                at = await _send(producer, whole)
                if at is None:
                    outcome.refused.append(letter.place)
                else:
                    sent.append((letter, at))
            _mark(client, sent)
            outcome.sent += len(sent)
            on_lot(len(lot))
    except (KafkaError, TimeoutError, OSError) as error:
        more = f"; {outcome.sent} records were sent again"
        raise unavailable(settings.kafka_bootstrap, error, more) from error
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


async def _whole(settings: Settings, letter: DeadLetter) -> DeadLetter | None:
    """The record with its whole value: from the broker if ClickHouse has only its beginning. None if it is gone."""
    if letter.is_whole:
        return letter
    tp = TopicPartition(letter.topic, letter.partition)
    ends = await kafka.ends(settings, [letter.topic])
    if tp not in ends or not ends[tp][0] <= letter.offset < ends[tp][1]:
        return None
    records, _ = await kafka.read(settings, tp, letter.offset, letter.offset + 1)
    value = records[0].value if records else None
    # The beginning is compared: a topic that was made anew has another record there.
    if value is None or len(value) != letter.value_bytes or not value.startswith(letter.value):
        return None
    return replace(letter, value=value)


def _lots(client: Client, selection: Selection) -> Iterator[list[DeadLetter]]:
    """What is to be replayed, LOT at a time, in the order of topic, partition, offset."""
    where, parameters = _where(selection)
    left = selection.limit
    after: tuple[str, int, int, int] | None = None
    while left is None or left > 0:
        count = LOT if left is None else min(LOT, left)
        beyond = "1"
        if after is not None:
            beyond = (
                "(kafka_topic, kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time)) "
                "> ({after_topic:String}, {after_partition:UInt16}, {after_offset:UInt64}, {after_ms:Int64})"
            )
            names = ("after_topic", "after_partition", "after_offset", "after_ms")
            parameters = parameters | dict(zip(names, after, strict=True))
        rows = ask(
            client,
            f"SELECT {_COLUMNS}, base64Encode(value) FROM dead_letters WHERE {where} AND {_NOT_REPLAYED} AND {beyond} "
            f"ORDER BY kafka_topic, kafka_partition, kafka_offset, kafka_time LIMIT {count}",
            parameters,
        )
        if not rows:
            return
        lot = [_dead_letter(row) for row in rows]
        after = (lot[-1].topic, lot[-1].partition, lot[-1].offset, lot[-1].time_ms)
        left = None if left is None else left - len(lot)
        yield lot


def _mark(client: Client, sent: Sequence[tuple[DeadLetter, RecordMetadata]]) -> None:
    rows = [(a.topic, a.partition, a.offset, a.time_ms, at.partition, at.offset) for a, at in sent]
    if rows:
        columns = (
            "kafka_topic",
            "kafka_partition",
            "kafka_offset",
            "kafka_time",
            "replayed_partition",
            "replayed_offset",
        )
        put(client, "dead_letter_replays", columns, rows)


def _where(selection: Selection) -> tuple[str, dict[str, object]]:
    parts = ["kafka_time >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')"]
    parameters: dict[str, object] = {"since_ms": selection.since_ms}
    if selection.reason is not None:
        parts.append("reason = {reason:String}")
        parameters["reason"] = selection.reason
    if selection.topic is not None:
        parts.append("kafka_topic = {topic:String}")
        parameters["topic"] = selection.topic
    return " AND ".join(parts), parameters


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    reason, field_, topic, partition, offset, time_ms, key, value_bytes, value = row
    return DeadLetter(
        reason, field_, topic, partition, offset, time_ms, base64.b64decode(key), value_bytes, base64.b64decode(value)
    )
