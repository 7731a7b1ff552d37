"""Lag as the broker has it: a partition that is paused is not fetched, and what comes behind it counts all the same."""

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.clock import SystemClock
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.group import partitions
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from schemas.topics import EVENTS
from tests.integration.receivers import true
from tests.integration.seeding import publish

pytestmark = pytest.mark.integration

VALUES = [b"x" * 60_000] * 120  # more than an inbox holds


def test_the_lag_of_a_paused_partition_grows(world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "ENDS_S", 0.2)
    settings = world.model_copy(update={"buffer_mb": 8})
    topic = settings.topic(EVENTS.name)

    async def leave_alone(partition: Partition) -> None:
        """As a recorder does whose ClickHouse hangs."""
        partition.seek(0)
        while not partition.leaving:
            await asyncio.sleep(0.05)

    async def test() -> None:
        await publish(settings, topic, {3: VALUES})
        member = Partitions(settings, Kafka(settings), SystemClock(), settings.group("recorder"), {topic: leave_alone})
        running = asyncio.create_task(member.run_forever())
        try:
            await true(lambda: member.partitions)
            stuck = member.partitions[TopicPartition(topic, 3)]
            await true(lambda: stuck.is_full and stuck.restored and stuck.lag() == len(VALUES))
            await publish(settings, topic, {3: VALUES})
            await true(lambda: stuck.lag() == 2 * len(VALUES))
            assert stuck.pending_records < len(VALUES) * 2  # they are on the broker, not here
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await member.stop()

    asyncio.run(test())
