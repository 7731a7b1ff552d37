"""Compacted topics that people write, rules and silences: read to their end, followed, and written a key at a time."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import structlog
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka, KafkaUnavailable
from pipeline.edge.kafka.connection import Log, unavailable
from pipeline.edge.kafka.producer import OutRecord, Producer, within
from pipeline.edge.kafka.reader import Reader
from schemas import rule
from schemas.rejection import Rejected
from schemas.rule import Rule
from schemas.topics import RULES

log = structlog.get_logger()

ASK_S = 30.0  # so long may a whole topic, or a record on its way, take
BEFORE_MAX = 1000  # records of which it is known what they took the place of


def _take(latest: dict[bytes, bytes], records: Iterable[ConsumerRecord]) -> None:
    """The last value of every key; None deletes it."""
    for record in records:
        if record.value is None:
            latest.pop(record.key or b"", None)
        else:
            latest[record.key or b""] = record.value


class FollowedTopic:
    """A topic of one partition, always at hand: `values` is whole once `ready` is set; `version` grows with changes."""

    def __init__(self, log: Log, topic: str) -> None:
        """`topic` as on the broker."""
        self._log, self.name = log, topic
        self.values: dict[bytes, bytes] = {}
        self.version = 0
        self.ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._next_offset = 0
        self._before: OrderedDict[int, bytes | None] = OrderedDict()

    async def follow_forever(self) -> None:
        """Reads from the start and goes on; begins again when the log was made anew."""
        while True:
            reader = Reader(self._log, {TopicPartition(self.name, 0): None}, whole=True)
            try:
                await reader.start()
                await self._follow(reader)
            except OffsetOutOfRangeError as error:
                log.warning("follow_again", topic=self.name, error=repr(error))
                await asyncio.sleep(1)
            finally:
                await reader.stop()

    async def _follow(self, reader: Reader) -> None:
        latest: dict[bytes, bytes] = {}
        while True:
            records = await reader.read(1.0)
            for record in records:
                self._before[record.offset] = latest.get(record.key or b"")
                if len(self._before) > BEFORE_MAX:
                    self._before.popitem(last=False)
                _take(latest, (record,))
            if reader.caught_up and (records or not self.ready.is_set()):
                self.values = dict(latest)
                self.version += 1
                self._next_offset = records[-1].offset + 1 if records else 0
                self.ready.set()
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    async def before(self, offset: int, unknown: bytes | None) -> bytes | None:
        """Waits until `values` hold the record at `offset`; what its key held before, `unknown` if long ago."""
        while self._next_offset <= offset:
            await self._changed.wait()
        return self._before.get(offset, unknown)


async def read_compacted(log: Log, topic: str, timeout_s: float = ASK_S) -> dict[bytes, bytes]:
    """The last value of every key of a topic (full name) that was not deleted. Raises KafkaUnavailable."""
    partitions = await log.ends([topic])
    if not partitions:
        raise KafkaUnavailable(f"there is no topic {topic}; inferwatch topics create makes it")
    latest: dict[bytes, bytes] = {}
    reader = Reader(log, dict.fromkeys(partitions))
    try:
        async with asyncio.timeout(timeout_s):
            await reader.start()
            while not reader.caught_up:
                _take(latest, await reader.read(0.2))
    except TimeoutError as error:
        raise unavailable(log.where, error) from error
    finally:
        await reader.stop()
    return latest


async def write_compacted(settings: Settings, topic: str, values: Mapping[bytes, bytes | None]) -> None:
    """A record for every key; None deletes it. Returns once Kafka has them all. Raises KafkaUnavailable."""
    producer = Producer(Kafka(settings), within(ASK_S))
    try:
        await producer.send(topic, [OutRecord(key, value) for key, value in values.items()])
    finally:
        await producer.stop()


async def read_rules(kafka: Kafka) -> dict[str, Rule | Rejected]:
    """Every rule by its key, in order; what is no rule says why."""
    found = await read_compacted(kafka, kafka.settings.topic(RULES.name))
    return {key.decode(errors="backslashreplace"): rule.decode(value) for key, value in sorted(found.items())}


async def put_rules(settings: Settings, rules: Iterable[Rule]) -> None:
    """Takes rules in, each in place of the one with its id."""
    values = {one.rule_id.encode(): rule.encode(one) for one in rules}
    await write_compacted(settings, settings.topic(RULES.name), values)


async def delete_rules(settings: Settings, rule_ids: Iterable[str]) -> None:
    """Deletes rules by their keys."""
    await write_compacted(settings, settings.topic(RULES.name), {rule_id.encode(): None for rule_id in rule_ids})
