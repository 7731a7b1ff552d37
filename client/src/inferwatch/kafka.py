"""Straight to Kafka, where that may be reached: url="kafka://broker:9092,other:9092", with the extra `kafka`.

Acknowledged by all replicas. What Kafka has not acknowledged is sent again: the producer is idempotent, but after a
failure of the whole batch some of it may be there twice, under the same event_id.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from inferwatch.options import Options
from inferwatch.transport import Answer

TOPICS = {"events": "inference.events", "heartbeats": "inference.heartbeats"}
SCHEME = "kafka://"


class KafkaTransport:
    """A producer in a loop of its own, which runs while something is sent. Not for several threads at once."""

    def __init__(self, options: Options) -> None:
        """Raises ImportError without aiokafka."""
        import aiokafka

        self._kafka = aiokafka
        self._bootstrap = options.url.removeprefix(SCHEME)
        self._prefix, self._timeout_s = options.topic_prefix, options.timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._producer: Any = None

    def send(self, kind: str, events: list[bytes], key: str, dropped: int) -> Answer:
        """Sends a batch once. How many were dropped is for HTTP alone to tell: Kafka has no place for it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        try:
            again = self._loop.run_until_complete(asyncio.wait_for(self._send(kind, events), self._timeout_s))
        except (TimeoutError, self._kafka.errors.KafkaError, OSError) as error:
            return Answer(whole=True, why=f"{type(error).__name__}: {error}")
        return Answer(again=again)

    def close(self) -> None:
        """Ends the producer and the loop."""
        loop, self._loop = self._loop, None
        producer, self._producer = self._producer, None
        if loop is not None:
            try:
                if producer is not None:
                    loop.run_until_complete(asyncio.wait_for(producer.stop(), self._timeout_s))
            except (TimeoutError, self._kafka.errors.KafkaError, OSError):
                pass  # nothing waits there any more
            finally:
                loop.close()

    async def _send(self, kind: str, events: list[bytes]) -> tuple[int, ...]:
        if self._producer is None:
            producer = self._kafka.AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True, compression_type="gzip"
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        topic = self._prefix + TOPICS[kind]
        waiting = [await self._producer.send(topic, event, key=_key(event)) for event in events]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        return tuple(number for number, one in enumerate(done) if isinstance(one, BaseException))


def _key(event: bytes) -> bytes:
    """What decides the partition: all of a device's in one, as at the HTTP side."""
    told = json.loads(event)
    return str(told.get("device_id") or told["event_id"]).encode()
