"""The compacted topics that people write: rules and silences. Read to their end, and written a key at a time."""

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka import client as kafka
from pipeline.edge.kafka.publish import publishing
from schemas import rule
from schemas.rejection import Rejected
from schemas.rule import Rule
from schemas.topics import RULES


async def read_compacted(settings: Settings, topic: str, timeout_s: float = 30) -> dict[bytes, bytes]:
    """The last value of every key of a topic (full name) that was not deleted. Raises KafkaUnavailable."""
    ends = await kafka.ends(settings, [topic])
    if not ends:
        raise kafka.KafkaUnavailable(f"there is no topic {topic}; inferwatch topics create makes it")
    latest: dict[bytes, bytes] = {}
    for (_, partition), (start, end) in ends.items():
        records, reached = await kafka.read(settings, TopicPartition(topic, partition), start, end, timeout_s)
        if reached < end:
            raise kafka.KafkaUnavailable(f"topic {topic} could not be read to its end within {timeout_s:.0f} s")
        for record in records:
            if record.value is None:
                latest.pop(record.key or b"", None)
            else:
                latest[record.key or b""] = record.value
    return latest


async def write_compacted(settings: Settings, topic: str, values: Mapping[bytes, bytes | None]) -> None:
    """A record for every key; None deletes it. Returns once Kafka has them all. Raises KafkaUnavailable."""
    async with publishing(settings) as publisher:
        try:
            async with asyncio.timeout(30):
                futures = [await publisher.send(topic, key, value) for key, value in values.items()]
                for future in futures:
                    await future
        except (KafkaError, TimeoutError, OSError) as error:
            raise kafka.KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap} took no record: {error!r}") from error


def read_rules(settings: Settings) -> dict[str, Rule | Rejected]:
    """Every rule by its key, in order; what is no rule says why."""
    found = asyncio.run(read_compacted(settings, settings.topic(RULES.name)))
    return {key.decode(errors="backslashreplace"): rule.decode(value) for key, value in sorted(found.items())}


def put_rules(settings: Settings, rules: Iterable[Rule]) -> None:
    """Takes rules in, each in place of the one with its id."""
    values = {one.rule_id.encode(): rule.encode(one) for one in rules}
    asyncio.run(write_compacted(settings, settings.topic(RULES.name), values))


def delete_rules(settings: Settings, rule_ids: Iterable[str]) -> None:
    """Deletes rules by their keys."""
    values = {rule_id.encode(): None for rule_id in rule_ids}
    asyncio.run(write_compacted(settings, settings.topic(RULES.name), values))
