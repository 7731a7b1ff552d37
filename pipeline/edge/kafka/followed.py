"""A compacted topic, followed: the last value of every key, always at hand (rules, silences, acknowledgements)."""

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka.client import client_options

log = structlog.get_logger()


class FollowedTopic:
    """`values` is complete once `ready` is set; `version` grows with every change."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """`topic` as on the broker."""
        self._settings, self._topic = settings, topic
        self.values: dict[bytes, bytes] = {}
        self.version = 0
        self.ready = asyncio.Event()

    async def follow_forever(self) -> None:
        """Reads from the start and goes on; begins again when the broker was away."""
        while True:
            # A log that was cut or made anew is an error: it is then read again from the start.
            options = client_options(self._settings) | {"auto_offset_reset": "none", "enable_auto_commit": False}
            consumer = AIOKafkaConsumer(**options)
            try:
                await consumer.start()
                await self._follow(consumer)
            except (KafkaError, OSError) as error:
                log.warning("follow_retry", topic=self._topic, error=repr(error))
                await asyncio.sleep(1)
            finally:
                await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        partition = TopicPartition(self._topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        latest: dict[bytes, bytes] = {}
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for record in batches.get(partition, []):
                if record.value is None:
                    latest.pop(record.key or b"", None)
                else:
                    latest[record.key or b""] = record.value
            caught_up = await consumer.position(partition) >= end
            if caught_up and (batches or not self.ready.is_set()):
                self.values = dict(latest)
                self.version += 1
                self.ready.set()
