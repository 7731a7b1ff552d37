"""What happens to a consumer group and a log behind a worker's back: commits lost, turned back, records gone."""

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka.client import admin

Commits = Mapping[TopicPartition, OffsetAndMetadata]


def committed(settings: Settings, role: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a role's group has committed."""

    async def ask() -> dict[TopicPartition, OffsetAndMetadata]:
        async with admin(settings) as client:
            found = await client.list_consumer_group_offsets(settings.group(role))
            return {tp: at for tp, at in found.items() if at.offset >= 0}

    return asyncio.run(ask())


def commit(settings: Settings, role: str, commits: Commits) -> None:
    """Sets positions of a group without members: as after a failover of Kafka that lost the newest ones."""

    async def send() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap, group_id=settings.group(role), enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign(list(commits))
            await consumer.commit(dict(commits))
        finally:
            await consumer.stop()

    asyncio.run(send())


def delete_group(settings: Settings, role: str) -> None:
    """As after a week without members. One DeleteGroups request, version 0: aiokafka has none."""

    async def coordinator() -> None:  # the group is known there before it is deleted
        async with admin(settings) as client:
            await client.find_coordinator(settings.group(role))

    asyncio.run(coordinator())
    host, port = settings.kafka_bootstrap.split(":")
    client, group = b"test", settings.group(role).encode()
    request = struct.pack(">hhih", 42, 0, 1, len(client)) + client
    request += struct.pack(">ih", 1, len(group)) + group
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb")
        size, _, _, count, length = struct.unpack(">iiiih", answer.read(18))
        rest = answer.read(size - 14)
    assert (count, rest[length:]) == (1, b"\0\0"), rest


def delete_records(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Retention: what lies before an offset leaves the log."""

    async def send() -> None:
        async with admin(settings) as client:
            await client.delete_records({TopicPartition(settings.topic(topic), partition): RecordsToDelete(before)})

    asyncio.run(send())
