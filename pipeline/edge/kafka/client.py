"""How every process reaches Kafka: one place for security, topics and the ends of partitions."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CommitFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from pipeline.config import Settings
from schemas.topics import TOPICS

T = TypeVar("T")

CLOCK_STEP_MS = 1000  # a broker's clock may step back by this
READ_BYTES_MAX = 64 << 20


class KafkaUnavailable(Exception):
    """No broker answered; the text says which was asked and what to do."""


def client_options(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client is made with: addresses and security."""
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap.split(","),
        "security_protocol": protocol,
    }
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
        if settings.kafka_ssl_certfile:
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
        options["ssl_context"] = context
    if protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return options


@asynccontextmanager
async def admin(settings: Settings, timeout_s: float = 10) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises KafkaUnavailable when no broker answers in time."""
    client = AIOKafkaAdminClient(**client_options(settings))
    try:
        await asyncio.wait_for(client.start(), timeout_s)
    except (KafkaError, TimeoutError, OSError) as error:
        await client.close()
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka_bootstrap} does not answer ({error or type(error).__name__}); "
            "check INFERWATCH_KAFKA_BOOTSTRAP and that the broker runs"
        ) from error
    try:
        yield client
    finally:
        await client.close()


async def create_topics(settings: Settings) -> list[str]:
    """Creates the topics that are missing; the names of those created. Safe to run twice and by two at once."""
    async with admin(settings) as client:
        there = set(await client.list_topics())
        new = [
            NewTopic(settings.topic(t.name), t.partitions, settings.topic_replication, topic_configs=t.settings())
            for t in TOPICS
            if settings.topic(t.name) not in there
        ]
        if not new:
            return []
        response = await client.create_topics(new)
        created = []
        for name, code, *message in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code != TopicAlreadyExistsError.errno:  # another one was quicker
                raise for_code(code)(f"cannot create topic {name}: {message[0] if message else ''}")
        return created


async def grow(settings: Settings, topic: str, partitions: int) -> int:
    """Gives a topic (full name) so many partitions; how many it had, which may be more. Records stay where they are."""
    async with admin(settings) as client, _answering(settings):
        described = (await client.describe_topics([topic]))[0]
        if described["error_code"]:
            raise for_code(described["error_code"])(f"there is no topic {topic}: inferwatch topics create")
        there = len(described["partitions"])
        if partitions > there:
            await client.create_partitions({topic: NewPartitions(partitions)})
        return there


async def ends(settings: Settings, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
    """(first offset, next offset) of every partition of `topics` (full names); a missing topic is left out."""
    async with admin(settings) as client, _answering(settings):
        # A consumer knows the partitions of no topic that it is not subscribed to.
        described = await client.describe_topics(list(topics))
    partitions = sorted(TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"])
    if not partitions:
        return {}
    consumer = AIOKafkaConsumer(**client_options(settings))
    try:
        await asyncio.wait_for(consumer.start(), 10)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {tp: (first[tp], end[tp]) for tp in partitions}
    except (KafkaError, TimeoutError, OSError) as error:
        raise KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap} does not answer: {error!r}") from error
    finally:
        await consumer.stop()


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group as its coordinator sees it."""

    state: str  # Stable, Empty, PreparingRebalance, ...; Dead: there is none
    member_count: int


async def committed(settings: Settings, role: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a role's group has committed, without joining it."""
    async with admin(settings) as client, _answering(settings):
        found = await _coordinated(lambda: client.list_consumer_group_offsets(settings.group(role)))
        return {tp: position for tp, position in found.items() if position.offset >= 0}


async def group(settings: Settings, role: str) -> Group:
    """The state of a role's group."""
    async with admin(settings) as client, _answering(settings):
        # One group a request: aiokafka reads the second one of an answer wrongly.
        (response,) = await _coordinated(lambda: client.describe_consumer_groups([settings.group(role)]))
        described = response.to_object()["groups"][0]
        return Group(described["state"], len(described["members"]))


async def topic_settings(settings: Settings, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The broker's settings of every topic (full names); a missing topic is left out."""
    async with admin(settings) as client, _answering(settings):
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        out: dict[str, dict[str, str]] = {}
        for response in await client.describe_configs(wanted):
            for resource in response.to_object()["resources"]:
                if resource["error_code"] == 0:
                    entries = resource["config_entries"]
                    out[resource["resource_name"]] = {e["config_names"]: e["config_value"] for e in entries}
        return out


async def brokers(settings: Settings) -> list[str]:
    """host:port of every broker of the cluster."""
    async with admin(settings) as client, _answering(settings):
        return [f"{b['host']}:{b['port']}" for b in (await client.describe_cluster())["brokers"]]


async def first_since(
    settings: Settings, partitions: Sequence[TopicPartition], time_ms: int
) -> dict[TopicPartition, tuple[int, int]]:
    """(offset, broker time in ms) of the first record not older than `time_ms`; a partition without one is left out."""
    async with _consumer(settings) as consumer:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, time_ms))
        return {tp: (at.offset, at.timestamp) for tp, at in found.items() if at is not None}


async def topic_began_ms(settings: Settings, topic: str) -> int:
    """No record of the topic is older, by the broker's clock; 0 where the producers' clocks say when.

    Of a topic that was made anew this tells its records from those of its past, which had the same offsets.
    """
    if (await topic_settings(settings, [topic])).get(topic, {}).get("message.timestamp.type") != "LogAppendTime":
        return 0
    first = await first_since(settings, list(await ends(settings, [topic])), 0)
    return max(0, min((time_ms for _, time_ms in first.values()), default=0) - CLOCK_STEP_MS)


async def read(
    settings: Settings, partition: TopicPartition, start: int, end: int, timeout_s: float = 10
) -> tuple[list[ConsumerRecord], int]:
    """The records of [start, end) that the broker has, and up to where it was asked: time or memory may run out."""
    records: list[ConsumerRecord] = []
    size = 0
    if start >= end:
        return records, start
    async with _consumer(settings) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, start)
        deadline = asyncio.get_running_loop().time() + timeout_s
        at = start
        while at < end and size < READ_BYTES_MAX and asyncio.get_running_loop().time() < deadline:
            for record in (await consumer.getmany(timeout_ms=200)).get(partition, ()):
                if record.offset < end:
                    records.append(record)
                    size += len(record.value or b"")
            at = await consumer.position(partition)  # also past what holds no record for us
        return records, min(at, end)


async def commit_for_empty_group(
    settings: Settings, role: str, partition: TopicPartition, offset: int, metadata: str
) -> None:
    """Sets a group's position from outside. Raises GroupInUseError while the group has a member."""
    async with _consumer(settings, group_id=settings.group(role)) as consumer:
        consumer.assign([partition])  # by hand: the commit carries no generation
        try:
            await consumer.commit({partition: OffsetAndMetadata(offset, metadata)})
        except (CommitFailedError, UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError) as error:
            raise GroupInUseError(
                f"the consumer group {settings.group(role)} has members; stop the {role} workers first"
            ) from error


async def _coordinated(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a group's coordinator, which a broker that has just started must choose first."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await call()
            except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError):
                await asyncio.sleep(0.2)


class GroupInUseError(Exception):
    """A position that only an empty group may be given; the text says what to do."""


@asynccontextmanager
async def _answering(settings: Settings) -> AsyncIterator[None]:
    """What a broker's silence or refusal becomes."""
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as error:
        raise KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap} does not answer: {error!r}") from error


@asynccontextmanager
async def _consumer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group (unless `options` say so), without a partition."""
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False, **options)
    try:
        async with _answering(settings):
            await asyncio.wait_for(consumer.start(), 10)
            yield consumer
    finally:
        await consumer.stop()
