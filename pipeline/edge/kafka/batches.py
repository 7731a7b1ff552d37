"""Records of many requests on their way to Kafka: what waits for a partition goes as one batch, one batch at a time.

So the load itself makes the batches large, and no record costs a future of its own. A batch is acknowledged by all
replicas or it is not believed. The producer is idempotent: the broker keeps a batch once, however often it is sent.

Memory: whoever calls `send` bounds it. What was handed in stays until Kafka has answered, also when nobody waits for it
any more: of a batch on its way nobody can say that it will not arrive.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.edge.kafka.connection import Log, unavailable
from pipeline.edge.kafka.producer import METADATA_MS, REQUEST_BYTES_MAX

log = structlog.get_logger()

BATCH_BYTES_MAX = 1_000_000  # before compression; a single larger record still goes, alone
BATCH_RECORDS_MAX = 5000
REQUEST_MS = 10_000
FAILED_S = 10.0  # so long a failure tells: whoever is sent nothing any more must not stay unready for ever


@dataclass(slots=True)
class KeyedRecords:
    """The records of one request for one partition."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    part: KeyedRecords
    now_ms: int
    done: "asyncio.Future[bool]"  # whether all of it was acknowledged
    sent: int = 0  # records that are in a batch already
    failed: bool = False


class _Lane:
    """One partition."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.task: asyncio.Task[None] | None = None
        self.since: float | None = None  # when the batch that is on its way was handed over


class Batches:
    """The way of one process to its topics."""

    def __init__(self, log: Log, stuck_s: float) -> None:
        """A partition whose batch has been on its way for longer than `stuck_s` takes nothing more."""
        self._log, self._stuck_s = log, stuck_s
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._failed_at: float | None = None

    @property
    def reachable(self) -> bool:
        """Does Kafka take what it is sent, as far as we know?"""
        failed_now = self._failed_at is not None and _now() - self._failed_at < FAILED_S
        return not failed_now and not any(self._is_stuck(lane) for lane in self._lanes.values())

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has, as of METADATA_MS ago at most. Raises KafkaUnavailable."""
        try:
            return len(await (await self._open()).partitions_for(topic))
        except (KafkaError, OSError) as error:
            self._failed_at = _now()
            raise unavailable(self._log.where, error) from error

    async def send(self, topic: str, parts: Mapping[int, KeyedRecords], now_ms: int) -> set[int]:
        """Returns when Kafka has answered for all of them: the partitions of which something was not acknowledged.

        Those may have arrived in part. Cancelling it takes nothing back.
        """
        waits: dict[int, asyncio.Future[bool]] = {}
        loop = asyncio.get_running_loop()
        for number, part in parts.items():
            lane = self._lanes.setdefault((topic, number), _Lane())
            waits[number] = loop.create_future()
            if self._is_stuck(lane):
                waits[number].set_result(False)
                continue
            lane.waiting.append(_Waiting(part, now_ms, waits[number]))
            if lane.task is None:
                lane.task = loop.create_task(self._run(topic, number, lane))
        return {number for number, wait in waits.items() if not await wait}

    async def close(self) -> None:
        """Lets go, without waiting long for answers."""
        await self._drop(self._client)
        for lane in self._lanes.values():
            if lane.task is not None:
                lane.task.cancel()

    def _is_stuck(self, lane: _Lane) -> bool:
        return lane.since is not None and _now() - lane.since > self._stuck_s

    async def _run(self, topic: str, number: int, lane: _Lane) -> None:
        """Sends what waits, a batch at a time, until nothing does."""
        try:
            while lane.waiting:
                client: AIOKafkaProducer | None = None
                taken: list[_Waiting] = []
                lane.since = _now()
                try:
                    client = await self._open()
                    batch = client.create_batch()
                    taken = _fill(batch, lane.waiting)
                    await (await client.send_batch(batch, topic, partition=number))
                    self._failed_at = None
                    _tell(taken)
                except BaseException as error:
                    self._failed(lane, taken)  # whatever it is: nobody waits for ever
                    if not isinstance(error, KafkaError | OSError):
                        raise
                    log.warning("batch_failed", topic=topic, partition=number, error=repr(error))
                    await self._drop(client)  # an idempotent producer does not always get over what it met
                finally:
                    lane.since = None
        finally:
            lane.task = None

    def _failed(self, lane: _Lane, taken: list[_Waiting]) -> None:
        self._failed_at = _now()
        failed = [*taken, *lane.waiting]  # what waits would meet the same; who sent it sends it again
        lane.waiting.clear()
        for waiting in failed:
            waiting.failed = True
            waiting.sent = len(waiting.part.values)
        _tell(failed)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._client is None:
                client = self._log.producer(
                    max_batch_size=BATCH_BYTES_MAX,
                    max_request_size=REQUEST_BYTES_MAX,
                    request_timeout_ms=REQUEST_MS,
                    metadata_max_age_ms=METADATA_MS,
                )
                try:
                    await client.start()
                except BaseException:
                    await client.stop()
                    raise
                # It would give a batch up once nobody has led its partition for REQUEST_MS, also one that is written
                # already and only its acknowledgement lost: sent again by another producer it would be there twice.
                client._message_accumulator._batch_ttl = float("inf")
                self._client = client
            return self._client

    async def _drop(self, client: Any) -> None:
        if client is not self._client or client is None:
            return
        self._client = None
        try:
            await asyncio.wait_for(client.stop(), 2)
        except (KafkaError, OSError, TimeoutError) as error:
            log.debug("producer_stop", error=repr(error))


def _fill(batch: Any, waiting: "deque[_Waiting]") -> list[_Waiting]:
    """Puts into a batch what fits; those of which something is in it. Who is wholly in it waits no more."""
    append = batch.append
    room, taken = BATCH_RECORDS_MAX, []
    while waiting and room:
        one = waiting[0]
        keys, values = one.part.keys, one.part.values
        start, end = one.sent, min(len(values), one.sent + room)
        at = start
        while at < end and append(timestamp=one.now_ms, key=keys[at], value=values[at]) is not None:
            at += 1
        one.sent = at
        room -= at - start
        if at > start or not values:
            taken.append(one)
        if at < len(values):
            break
        waiting.popleft()
    batch.close()
    return taken


def _tell(answered: list[_Waiting]) -> None:
    for one in answered:
        if one.sent == len(one.part.values) and not one.done.done():
            one.done.set_result(not one.failed)


def _now() -> float:
    return asyncio.get_running_loop().time()
