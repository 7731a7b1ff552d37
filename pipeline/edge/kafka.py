"""How every process reaches Kafka: one place for security, topics and the ends of partitions."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from schemas.topics import TOPICS


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


async def ends(settings: Settings, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
    """(first offset, next offset) of every partition of `topics` (full names); a missing topic is left out."""
    consumer = AIOKafkaConsumer(**client_options(settings))
    try:
        await asyncio.wait_for(consumer.start(), 10)
        there = await consumer.topics()
        partitions = [
            TopicPartition(topic, p)
            for topic in topics
            if topic in there
            for p in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        if not partitions:
            return {}
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {tp: (first[tp], end[tp]) for tp in partitions}
    except (KafkaError, TimeoutError, OSError) as error:
        raise KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap} does not answer: {error!r}") from error
    finally:
        await consumer.stop()
