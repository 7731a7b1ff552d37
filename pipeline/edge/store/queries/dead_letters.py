"""Dead letters in ClickHouse, and which of them were sent again."""

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.edge.store.asks import Asks
from pipeline.edge.store.client import ClickHouse

_COLUMNS = """reason, field, kafka_topic, kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time),
    base64Encode(key), value_bytes"""
_NOT_REPLAYED = """(kafka_topic, kafka_partition, kafka_offset, kafka_time) NOT IN
    (SELECT kafka_topic, kafka_partition, kafka_offset, kafka_time FROM dead_letter_replays)"""
_BEYOND = """(kafka_topic, kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time))
    > ({after_topic:String}, {after_partition:UInt16}, {after_offset:UInt64}, {after_ms:Int64})"""


_BEFORE = """(toUnixTimestamp64Milli(kafka_time), kafka_topic, kafka_partition, kafka_offset)
    < ({after_ms:Int64}, {after_topic:String}, {after_partition:UInt16}, {after_offset:UInt64})"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters; None is all."""

    reason: str | None = None
    topic: str | None = None  # full name
    since_ms: int = 0  # by broker time
    until_ms: int | None = None
    workspace: str | None = None  # that the record itself claims to be of, where it can be read
    places: Sequence["LetterPlace"] | None = None
    limit: int | None = None


class LetterPlace(NamedTuple):
    """Where a dead letter comes from; `topic` is its full name."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record. `value` holds what ClickHouse keeps of it: its first 64 KiB."""

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


@dataclass(frozen=True, slots=True)
class ToReplay:
    """How much of a selection is to be sent again, and how much of it was."""

    records: int
    bytes: int
    before: int


@dataclass(frozen=True, slots=True)
class SentAgain:
    """A dead letter, and where it is now."""

    letter: DeadLetter
    partition: int
    offset: int


async def find(
    store: Asks, selection: Selection, *, value_bytes_max: int = 0, after: tuple[int, LetterPlace] | None = None
) -> list[DeadLetter]:
    """The newest first, with the beginning of their values. `after`: broker time and place of the last one seen."""
    where, parameters = _where(selection)
    if after is not None:
        where += f" AND {_BEFORE}"
        parameters |= _beyond(after[0], after[1])
    rows = await store.ask(
        f"SELECT {_COLUMNS}, base64Encode(substring(value, 1, {value_bytes_max})) FROM dead_letters WHERE {where} "
        "ORDER BY kafka_time DESC, kafka_topic DESC, kafka_partition DESC, kafka_offset DESC "
        f"{_limit(selection)}",
        parameters,
    )
    return [_dead_letter(row) for row in rows]


async def newest_at(store: Asks, topics: Sequence[str], partition: int, offset: int) -> DeadLetter | None:
    """The dead letter from there; of several, from a topic that was made anew, the newest."""
    rows = await store.ask(
        f"SELECT {_COLUMNS}, base64Encode(value) FROM dead_letters WHERE kafka_topic IN {{topics:Array(String)}} "
        "AND kafka_partition = {partition:UInt16} AND kafka_offset = {offset:UInt64} "
        "ORDER BY kafka_time DESC LIMIT 1",
        {"topics": list(topics), "partition": partition, "offset": offset},
    )
    return _dead_letter(rows[0]) if rows else None


async def count_to_replay(store: ClickHouse, selection: Selection) -> ToReplay:
    """How much a replay of the selection would send."""
    where, parameters = _where(selection)
    ((records, size),) = await store.ask(
        f"SELECT count(), sum(value_bytes) FROM (SELECT value_bytes FROM dead_letters WHERE {where} "
        f"AND {_NOT_REPLAYED} {_limit(selection)})",
        parameters,
    )
    ((before,),) = await store.ask(
        f"SELECT count() FROM dead_letters WHERE {where} AND NOT ({_NOT_REPLAYED})", parameters
    )
    return ToReplay(records, size, before)


async def lots_to_replay(store: ClickHouse, selection: Selection, lot_max: int) -> AsyncIterator[list[DeadLetter]]:
    """What is to be replayed, whole as far as it is here, some at a time, by topic, partition, offset."""
    where, parameters = _where(selection)
    left, beyond = selection.limit, "1"
    while left is None or left > 0:
        count = lot_max if left is None else min(lot_max, left)
        rows = await store.ask(
            f"SELECT {_COLUMNS}, base64Encode(value) FROM dead_letters WHERE {where} AND {_NOT_REPLAYED} AND {beyond} "
            f"ORDER BY kafka_topic, kafka_partition, kafka_offset, kafka_time LIMIT {count}",
            parameters,
        )
        if not rows:
            return
        lot = [_dead_letter(row) for row in rows]
        yield lot
        last, beyond = lot[-1], _BEYOND
        parameters |= _beyond(last.time_ms, LetterPlace(last.topic, last.partition, last.offset))
        left = None if left is None else left - len(lot)


async def mark_replayed(store: ClickHouse, sent: Sequence[SentAgain]) -> None:
    """They are not to be sent again."""
    columns = ("kafka_topic", "kafka_partition", "kafka_offset", "kafka_time", "replayed_partition", "replayed_offset")
    rows = [
        (r.letter.topic, r.letter.partition, r.letter.offset, r.letter.time_ms, r.partition, r.offset) for r in sent
    ]
    if rows:
        await store.put("dead_letter_replays", columns, rows)


def _beyond(time_ms: int, place: LetterPlace) -> dict[str, object]:
    return {
        "after_ms": time_ms,
        "after_topic": place.topic,
        "after_partition": place.partition,
        "after_offset": place.offset,
    }


def _limit(selection: Selection) -> str:
    return f"LIMIT {selection.limit}" if selection.limit is not None else ""


def _where(selection: Selection) -> tuple[str, dict[str, object]]:
    parts = ["kafka_time >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')"]
    parameters: dict[str, object] = {"since_ms": selection.since_ms}
    if selection.reason is not None:
        parts.append("reason = {reason:String}")
        parameters["reason"] = selection.reason
    if selection.topic is not None:
        parts.append("kafka_topic = {topic:String}")
        parameters["topic"] = selection.topic
    if selection.until_ms is not None:
        parts.append("kafka_time < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')")
        parameters["until_ms"] = selection.until_ms
    if selection.workspace is not None:
        parts.append("JSONExtractString(value, 'workspace') = {claimed:String}")
        parameters["claimed"] = selection.workspace
    if selection.places is not None:
        parts.append(
            "(toString(kafka_topic), kafka_partition, kafka_offset) IN {places:Array(Tuple(String, UInt16, UInt64))}"
        )
        parameters["places"] = [tuple(place) for place in selection.places]
    return " AND ".join(parts), parameters


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    reason, field, topic, partition, offset, time_ms, key, value_bytes, value = row
    return DeadLetter(
        reason, field, topic, partition, offset, time_ms, base64.b64decode(key), value_bytes, base64.b64decode(value)
    )
