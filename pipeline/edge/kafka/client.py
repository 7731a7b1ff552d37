"""How every process reaches Kafka: the one place that makes clients, with security, and that says what silence means.

A `Kafka` is given to whoever needs clients. What it is asked itself (ends, committed names, ...) goes through an admin
client and a consumer of no group, opened at the first question and kept; after a failure they are opened anew. Who has
one question only calls the function of the same name below, which opens and closes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
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
from pipeline.edge.kafka.connection import KafkaUnavailable as KafkaUnavailable
from pipeline.edge.kafka.connection import answering
from pipeline.edge.kafka.connection import client_options as client_options
from pipeline.edge.kafka.log_dirs import LogDir, log_dirs
from pipeline.edge.kafka.topic_ids import TopicIds
from schemas.topics import TOPICS

P = ParamSpec("P")
T = TypeVar("T")
Kind = Literal["admin", "consumer"]


CLOCK_STEP_MS = 1000  # a broker's clock may step back by this
READ_BYTES_MAX = 64 << 20
ANSWER_S = 10.0  # so long may a broker take to say that it is there


class GroupInUseError(Exception):
    """A position that only an empty group may be given; the text says what to do."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group as its coordinator sees it."""

    state: str  # Stable, Empty, PreparingRebalance, ...; Dead: there is none
    member_count: int


class Kafka:
    """The clients of one process. Closed by `close`, or as a context."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before the first question."""
        self.settings, self.where = settings, settings.kafka_bootstrap
        self._options = client_options(settings)
        self._clients: dict[Kind, Any] = {}  # that are asked
        self._topic_ids = TopicIds(self._options)
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of what was opened to ask."""
        clients, self._clients = self._clients, {}
        await self._topic_ids.stop()
        for client in clients.values():
            await (client.stop if isinstance(client, AIOKafkaConsumer) else client.close)()

    # -- clients for others

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A consumer, not started; it commits nothing by itself."""
        # What a transaction has not committed was never published.
        own = {"enable_auto_commit": False, "isolation_level": "read_committed"}
        return AIOKafkaConsumer(**self._options, **own, **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """A producer, not started: idempotent, and zstd: aiokafka's lz4 is level 9, eight times the CPU (measured)."""
        return AIOKafkaProducer(**self._options, enable_idempotence=True, compression_type="zstd", **options)

    # -- questions

    async def create_topics(self) -> list[str]:
        """Creates the topics that are missing; the names of those created. Safe to run twice and by two at once."""
        settings = self.settings
        there = set(await self._ask(lambda client: client.list_topics()))
        new = [
            NewTopic(settings.topic(t.name), t.partitions, settings.topic_replication, topic_configs=t.settings())
            for t in TOPICS
            if settings.topic(t.name) not in there
        ]
        if not new:
            return []
        response = await self._ask(lambda client: client.create_topics(new))
        created = []
        for name, code, *message in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code != TopicAlreadyExistsError.errno:  # another one was quicker
                raise for_code(code)(f"cannot create topic {name}: {message[0] if message else ''}")
        return created

    async def grow(self, topic: str, partitions: int) -> int:
        """Gives a topic (full name) so many partitions; how many it had, maybe more. Records stay where they are."""
        described = (await self._ask(lambda client: client.describe_topics([topic])))[0]
        if described["error_code"]:
            raise KafkaUnavailable(f"there is no topic {topic}; inferwatch topics create makes it")
        there = len(described["partitions"])
        if partitions > there:
            await self._ask(lambda client: client.create_partitions({topic: NewPartitions(partitions)}))
        return there

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """(first offset, next offset) of every partition of `topics` (full names); a missing topic is left out."""
        # A consumer knows the partitions of no topic that it is not subscribed to.
        described = await self._ask(lambda client: client.describe_topics(list(topics)))
        partitions = sorted(TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"])
        if not partitions:
            return {}
        first = await self._look(lambda consumer: consumer.beginning_offsets(partitions))
        end = await self._look(lambda consumer: consumer.end_offsets(partitions))
        return {tp: (first[tp], end[tp]) for tp in partitions}

    async def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The id of each topic (full names); a missing topic is left out, "" where the broker does not say."""
        with answering(self.where):
            return await self._topic_ids.of(topics)

    async def committed(self, role: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a role's group has committed, without joining it."""
        group = self.settings.group(role)
        found = await self._ask(lambda client: _coordinated(lambda: client.list_consumer_group_offsets(group)))
        return {tp: position for tp, position in found.items() if position.offset >= 0}

    async def group(self, role: str) -> GroupState:
        """The state of a role's group."""
        group = self.settings.group(role)
        # One group a request: aiokafka reads the second one of an answer wrongly.
        (response,) = await self._ask(lambda client: _coordinated(lambda: client.describe_consumer_groups([group])))
        described = response.to_object()["groups"][0]
        return GroupState(described["state"], len(described["members"]))

    async def topic_settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """The broker's settings of every topic (full names); a missing topic is left out."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        out: dict[str, dict[str, str]] = {}
        for response in await self._ask(lambda client: client.describe_configs(wanted)):
            for resource in response.to_object()["resources"]:
                if resource["error_code"] == 0:
                    entries = resource["config_entries"]
                    out[resource["resource_name"]] = {e["config_names"]: e["config_value"] for e in entries}
        return out

    async def brokers(self) -> list[str]:
        """host:port of every broker of the cluster."""
        cluster = await self._ask(lambda client: client.describe_cluster())
        return [f"{b['host']}:{b['port']}" for b in cluster["brokers"]]

    async def log_dirs(self) -> list[LogDir]:
        """Of every broker, with the disk that each is on; brokers before 3.3 do not tell."""
        return await self._ask(log_dirs)

    async def first_since(
        self, partitions: Sequence[TopicPartition], time_ms: int
    ) -> dict[TopicPartition, tuple[int, int]]:
        """(offset, broker time in ms) of the first record not older than that; a partition without one is left out."""
        found = await self._look(lambda consumer: consumer.offsets_for_times(dict.fromkeys(partitions, time_ms)))
        return {tp: (at.offset, at.timestamp) for tp, at in found.items() if at is not None}

    async def topic_began_ms(self, topic: str) -> int:
        """No record of the topic is older, by the broker's clock; 0 where the producers' clocks say when.

        Of a topic that was made anew this tells its records from those of its past, which had the same offsets.
        """
        if (await self.topic_settings([topic])).get(topic, {}).get("message.timestamp.type") != "LogAppendTime":
            return 0
        first = await self.first_since(list(await self.ends([topic])), 0)
        return max(0, min((time_ms for _, time_ms in first.values()), default=0) - CLOCK_STEP_MS)

    async def read(
        self, partition: TopicPartition, start: int, end: int, timeout_s: float = 10
    ) -> tuple[list[ConsumerRecord], int]:
        """The records of [start, end) that the broker has, and up to where it was asked: time or memory may run out."""
        records: list[ConsumerRecord] = []
        size = 0
        if start >= end:
            return records, start
        async with self._opened() as consumer:  # its own: where a consumer reads is its state
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

    async def commit_for_empty_group(self, role: str, partition: TopicPartition, offset: int, metadata: str) -> None:
        """Sets a role's position from outside. Raises GroupInUseError while its group has a member."""
        group = self.settings.group(role)
        async with self._opened(group_id=group) as consumer:
            consumer.assign([partition])  # by hand: the commit carries no generation
            try:
                await consumer.commit({partition: OffsetAndMetadata(offset, metadata)})
            except (CommitFailedError, UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError) as error:
                raise GroupInUseError(
                    f"the consumer group {group} has members; stop the {role} workers first"
                ) from error

    # -- the clients that are asked

    def _ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> Awaitable[T]:
        return self._answer("admin", question)

    def _look(self, question: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> Awaitable[T]:
        return self._answer("consumer", question)

    async def _answer(self, kind: Kind, question: Callable[[Any], Awaitable[T]]) -> T:
        """Asks; and once more, of a new client, if one that was open failed: its broker may have gone since."""
        with answering(self.where):
            while True:
                is_new = True
                try:
                    client, is_new = await self._kept(kind)
                    return await question(client)
                except (KafkaError, TimeoutError, OSError):
                    await self.close()
                    if is_new:
                        raise

    async def _kept(self, kind: Kind) -> tuple[Any, bool]:
        """The client of that kind, and whether it is new."""
        async with self._opening:
            if kind in self._clients:
                return self._clients[kind], False
            client = self.consumer() if kind == "consumer" else AIOKafkaAdminClient(**self._options)
            self._clients[kind] = client
            await asyncio.wait_for(client.start(), ANSWER_S)
            return client, True

    @asynccontextmanager
    async def _opened(self, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer for one question."""
        consumer = self.consumer(**options)
        try:
            with answering(self.where):
                await asyncio.wait_for(consumer.start(), ANSWER_S)
                yield consumer
        finally:
            await consumer.stop()


async def _coordinated(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a group's coordinator, which a broker that has just started must choose first."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await call()
            except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError):
                await asyncio.sleep(0.2)


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises KafkaUnavailable when no broker answers in time."""
    async with Kafka(settings) as kafka:
        with answering(kafka.where):
            client, _ = await kafka._kept("admin")
        yield client
