"""The ids of topics: a topic that is deleted and created again has its name, and another id.

aiokafka 0.14 asks for metadata in versions that know no ids (0 to 5); the broker gives them since version 10 (Kafka
2.8). So the request is our own, over aiokafka's public client.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError, KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA = 3


class _Uuid(AbstractType[str]):  # type: ignore[misc]
    """16 bytes, as Kafka itself writes them in text."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return base64.urlsafe_b64decode(value + "==") if value else bytes(16)

    @classmethod
    def decode(cls, data: Any) -> str:
        raw = data.read(16)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=") if any(raw) else ""

    @classmethod
    def repr(cls, value: str) -> str:
        return value


class _ResponseV10(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _RequestV10(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = 10
    RESPONSE_TYPE = _ResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_RequestV10]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[str, str, dict[int, bytes]]] = [("", name, {}) for name in topics]

    def build(self, request_struct_class: type[_RequestV10]) -> _RequestV10:
        return request_struct_class(self._topics, False, False, False, {})


async def topic_ids(client: AIOKafkaClient, topics: Iterable[str]) -> Mapping[str, str]:
    """The id of each topic; a missing topic is left out, "" where the broker is too old to say. Raises KafkaError."""
    names = sorted(set(topics))
    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        response = await client.send(node, _MetadataRequest(names))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return dict.fromkeys(names, "")
    return {name: topic_id for error, name, topic_id, *_ in response.topics if not error}


class TopicIds:
    """Asked again and again by one worker, over a connection of its own."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """`options`: what every aiokafka client is made with."""
        self._options = dict(options)
        self._client: AIOKafkaClient | None = None

    async def of(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The ids, now. Raises KafkaError when no broker says."""
        if self._client is None:
            client = AIOKafkaClient(**self._options)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        try:
            return await topic_ids(self._client, topics)
        except (KafkaError, OSError):
            await self.stop()  # the next question finds the brokers anew
            raise

    async def stop(self) -> None:
        """Closes the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
