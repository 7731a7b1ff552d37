"""How a process connects to Kafka: addresses and security, and what a broker's silence means."""

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.config import Settings


class KafkaUnavailable(Exception):
    """No broker answered; the text says which was asked and what to do."""


class Log(Protocol):
    """What a worker reaches Kafka by: `Kafka`, or the simulator's."""

    where: str  # brokers are, as configured

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A consumer, not started; it commits nothing by itself."""

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """A producer, not started: idempotent, compressed."""

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """(first offset, next offset) of every partition of `topics` (full names); a missing topic is left out."""

    async def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The id of each topic; a missing topic is left out, "" where the broker does not say."""

    async def committed(self, role: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a role's group has committed, without joining it."""

    async def close(self) -> None:
        """Lets go of what was opened to ask."""


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


def unavailable(where: str, error: BaseException, more: str = "") -> KafkaUnavailable:
    """The one text for a broker (as configured: `where`) that is silent or refuses. `more` is said at the end."""
    return KafkaUnavailable(
        f"Kafka at {where} does not answer ({str(error) or type(error).__name__}); "
        f"check INFERWATCH_KAFKA_BOOTSTRAP and that the broker runs{more}"
    )


@contextmanager
def answering(where: str) -> Iterator[None]:
    """What a broker's silence or refusal becomes."""
    try:
        yield
    except (KafkaError, TimeoutError, OSError) as error:
        raise unavailable(where, error) from error
