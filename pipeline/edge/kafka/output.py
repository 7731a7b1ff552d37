"""Records on their way to Kafka that must arrive: acknowledged by all replicas, sent again for as long as it takes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from pipeline.config import Settings
from pipeline.edge.kafka.client import client_options

log = structlog.get_logger()

WAIT_S_FIRST, WAIT_S_MAX = 0.1, 10.0
METADATA_MS = 5000  # how soon we know of new partitions: before their first window is over


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record for a topic; without a partition the key decides."""

    key: bytes
    value: bytes
    partition: int | None = None


class Output:
    """A producer that does not give up. `reachable` says how the last send went."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened before the first send: the broker may not be there yet."""
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self.reachable = True

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Closes the producer."""
        await self._close()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has, as of METADATA_MS ago at most."""
        while True:
            try:
                producer = await self._open()
                return len(await producer.partitions_for(topic))
            except (KafkaError, OSError) as error:
                await self._failed(topic, error, 1.0)

    async def send(self, topic: str, records: Sequence[OutRecord], alive: Callable[[], None]) -> list[int]:
        """Sends in order and returns when all are acknowledged: their offsets, negative where the broker did not say.

        `alive` is called at every failure.
        Raises MessageSizeTooLargeError: no patience helps against that.
        """
        wait_s = WAIT_S_FIRST
        while True:
            producer: AIOKafkaProducer | None = None
            try:
                producer = await self._open()
                sent = [await producer.send(topic, r.value, key=r.key, partition=r.partition) for r in records]
                answers = await asyncio.gather(*sent, return_exceptions=True)
                failures = [answer for answer in answers if isinstance(answer, BaseException)]
                if not failures:
                    self.reachable = True
                    return [answer.offset for answer in answers if not isinstance(answer, BaseException)]
                # All go again: readers drop what they have, and order must hold within a partition.
                raise failures[0]
            except MessageSizeTooLargeError:
                raise
            except (KafkaError, OSError) as error:
                alive()
                await self._failed(topic, error, wait_s, producer)
                wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    acks="all",
                    enable_idempotence=True,
                    compression_type="zstd",
                    max_request_size=8 << 20,
                    request_timeout_ms=15_000,
                    metadata_max_age_ms=METADATA_MS,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _failed(
        self, topic: str, error: BaseException, wait_s: float, producer: AIOKafkaProducer | None = None
    ) -> None:
        self.reachable = False
        log.warning("send_retry", topic=topic, error=repr(error))
        if producer is not None and producer is self._producer:  # another sender may have a new one by now
            await self._close()  # an idempotent producer does not always get over what it met
        await asyncio.sleep(wait_s)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), 5)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("producer_stop", error=repr(error))
