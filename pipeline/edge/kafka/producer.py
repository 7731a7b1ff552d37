"""Records on their way to Kafka: in order, acknowledged by all replicas, never more than so many bytes at once.

There are two policies. `PATIENT`, for workers: what was taken is sent again for as long as it takes. `within(seconds)`,
for requests: it is there in time, or KafkaUnavailable says that it may not be.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from pipeline.edge.kafka.connection import Log, unavailable

log = structlog.get_logger()

WAIT_S_FIRST, WAIT_S_MAX = 0.1, 10.0
METADATA_MS = 5000  # how soon we know of new partitions: before their first window is over
REQUEST_BYTES_MAX = 8 << 20
BYTES_MAX = 64 << 20  # keys and values on their way, of one producer


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record for a topic; without a partition the key decides."""

    key: bytes
    value: bytes | None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to try, and how much may be on its way; a single larger send goes alone."""

    within_s: float | None = None  # None: for ever
    bytes_max: int = BYTES_MAX


PATIENT = Policy()


def within(seconds: float, bytes_max: int = BYTES_MAX) -> Policy:
    """For somebody who waits for an answer."""
    return Policy(seconds, bytes_max)


def _nobody() -> None:
    """Who sends is not waited for."""


class Producer:
    """One client, opened by the first send: the broker may not be there yet. `reachable`: how the last send went."""

    def __init__(self, log: Log, policy: Policy = PATIENT) -> None:
        """Nothing is opened yet."""
        self._log, self._policy = log, policy
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._held_bytes = 0
        self._freed = asyncio.Event()
        self.reachable = True

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Closes the client."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.stop(), 5)
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("producer_stop", error=repr(error))

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has, as of METADATA_MS ago at most."""
        async with self._in_time():
            while True:
                try:
                    return len(await (await self._open()).partitions_for(topic))
                except (KafkaError, OSError) as error:
                    await self._failed(topic, error, 1.0)

    async def send(self, topic: str, records: Sequence[OutRecord], alive: Callable[[], None] = _nobody) -> list[int]:
        """Sends in order and returns when all are acknowledged: their offsets, negative where the broker did not say.

        `alive` is called at every failure.
        Raises MessageSizeTooLargeError: no patience helps against that. Without patience also KafkaUnavailable: of
        what was sent then nobody knows whether it arrived.
        """
        wait_s = WAIT_S_FIRST
        async with self._in_time(), self._room(sum(len(r.key) + len(r.value or b"") for r in records)):
            while True:
                client: AIOKafkaProducer | None = None
                try:
                    client = await self._open()
                    sent = [await client.send(topic, r.value, key=r.key, partition=r.partition) for r in records]
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
                    await self._failed(topic, error, wait_s, client)
                    wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._client is None:
                client = self._log.producer(
                    max_request_size=REQUEST_BYTES_MAX, request_timeout_ms=15_000, metadata_max_age_ms=METADATA_MS
                )
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                self._client = client
            return self._client

    async def _failed(
        self, topic: str, error: BaseException, wait_s: float, client: AIOKafkaProducer | None = None
    ) -> None:
        self.reachable = False
        if client is not None and client is self._client:  # another sender may have a new one by now
            await self.stop()  # an idempotent producer does not always get over what it met
        if self._policy.within_s is not None:
            raise unavailable(self._log.where, error) from error
        log.warning("send_retry", topic=topic, error=repr(error))
        await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._policy.within_s):
                yield
        except TimeoutError as error:
            self.reachable = False
            raise unavailable(self._log.where, error) from error

    @asynccontextmanager
    async def _room(self, size: int) -> AsyncIterator[None]:
        """Waits until there is room for so many bytes, and keeps it."""
        while self._held_bytes and self._held_bytes + size > self._policy.bytes_max:
            self._freed.clear()
            await self._freed.wait()
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size
            self._freed.set()
