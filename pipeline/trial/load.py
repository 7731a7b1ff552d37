"""The load generator at work: draws from a workload at a pace, publishes, keeps account of every acknowledgement."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import orjson

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.publish import BatchSent, Publisher, partition_of
from pipeline.trial.sent import Account, SentRecords
from pipeline.trial.workload import DrawnRecords, Workload, daily_rhythm
from schemas import topics

TAKE_MAX = 6400  # about 800 for each of 8 partitions
TICK_S = 0.03
FLUSH_S = 30.0
HEARTBEAT_TICK_S = 0.5


class PublishError(Exception):
    """Kafka refused a batch for good; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast, and until when; whichever end comes first."""

    rate: float = 0.0  # events/s; 0: as fast as possible
    daily: bool = False  # the rate follows the hour
    event_count: int | None = None
    seconds: float | None = None
    heartbeat_s: float | None = 10.0  # every device beats this often; None: no heartbeats


class Load:
    """One run of the load generator. The counters may be read while it runs."""

    def __init__(self, settings: Settings, workload: Workload, pace: Pace, publisher: Publisher) -> None:
        self._settings = settings
        self._workload = workload
        self._pace = pace
        self._publisher = publisher
        self._topic = settings.topic(topics.EVENTS.name)
        self._keys = [stream.key for stream in workload.streams]
        self._account = Account(workload.spec.workspace, workload.streams)
        self._on_their_way: dict[BatchSent, DrawnRecords] = {}
        self._failure: str | None = None
        self._stop = asyncio.Event()
        self._give_up = asyncio.Event()
        self._started_ms = self._ended_ms = 0
        self.sent = 0  # handed to the producer
        self.heartbeat_count = 0

    @property
    def acknowledged(self) -> int:
        """Records that Kafka has."""
        return self._account.record_count

    @property
    def in_flight(self) -> int:
        """Records without an answer yet."""
        return sum(len(records) for records in self._on_their_way.values())

    def stop(self) -> None:
        """Ends the run soon and cleanly; asked a second time, without waiting for what is on its way."""
        if self._stop.is_set():
            self._give_up.set()
        self._stop.set()

    async def run(self) -> None:
        """Until the pace's end, `stop`, or a batch that Kafka refuses (PublishError); then waits for answers."""
        self._started_ms = now_ms()
        work, stopped = asyncio.create_task(self._produce()), asyncio.create_task(self._stop.wait())
        beats = [asyncio.create_task(self._beat())] if self._pace.heartbeat_s else []
        try:
            await asyncio.wait({work, stopped, *beats}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and self._stop.is_set():  # let it finish its take, unless its broker is gone
                await asyncio.wait({work}, timeout=1)
        finally:
            for task in (work, stopped, *beats):
                task.cancel()
            ends = await asyncio.gather(work, stopped, *beats, return_exceptions=True)
        await self._settle_all()
        self._ended_ms = now_ms()
        for error in ends:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error
        if self._failure:
            raise PublishError(self._failure)

    async def _settle_all(self) -> None:
        flush, given_up = asyncio.create_task(self._publisher.flush()), asyncio.create_task(self._give_up.wait())
        await asyncio.wait({flush, given_up}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (flush, given_up):
            task.cancel()
        await asyncio.gather(flush, given_up, return_exceptions=True)  # gives the last callbacks their turn, too

    def result(self) -> SentRecords:
        """What Kafka acknowledged, and what it never answered."""
        for delivery, records in self._on_their_way.items():
            self._account.unknown(delivery.partition, records)
        self._on_their_way = {}
        return self._account.sent(self._topic, self._workload.spec.seed, self._started_ms, self._ended_ms)

    async def _produce(self) -> None:
        partition_count = await self._publisher.partition_count(self._topic)
        partition = np.array([partition_of(key, partition_count) for key in self._keys])
        pace, start = self._pace, time.monotonic()
        due, last = 0.0, start
        while not self._stop.is_set():
            now = time.monotonic()
            if pace.seconds is not None and now - start >= pace.seconds:
                return
            due += (now - last) * pace.rate * (daily_rhythm(now_ms()) if pace.daily else 1)
            last = now
            count = TAKE_MAX if not pace.rate else min(TAKE_MAX, int(due))
            if pace.event_count is not None:
                count = min(count, pace.event_count - self.sent)
                if pace.event_count <= self.sent:
                    return
            due -= count
            if count:
                await self._publish(self._workload.take(count, now_ms()), partition)
            # Only as long as needed: behind its pace it does not wait at all.
            await asyncio.sleep(TICK_S if pace.rate and due < pace.rate * TICK_S else 0)

    async def _publish(self, records: DrawnRecords, partition: "np.typing.NDArray[np.int64]") -> None:
        values = self._workload.values(records)
        where = partition[records.stream]
        for target in np.unique(where).tolist():
            chosen = np.flatnonzero(where == target)
            part = records.select(chosen)
            keys = [self._keys[stream] for stream in part.stream.tolist()]
            some = [values[i] for i in chosen.tolist()]
            async for delivery in self._publisher.send_many(self._topic, target, keys, some, now_ms()):
                self._watch(delivery, part.select(np.arange(delivery.start, delivery.end)))
            await asyncio.sleep(0)  # lets the sender take this batch while the next one is made

    def _watch(self, delivery: BatchSent, records: DrawnRecords) -> None:
        self._on_their_way[delivery] = records
        self.sent += len(records)
        delivery.future.add_done_callback(lambda _: self._settle(delivery))

    def _settle(self, delivery: BatchSent) -> None:
        future = delivery.future
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:  # stays on its way: nobody knows
            self._failure = self._failure or f"Kafka did not take a batch for partition {delivery.partition}: {error!r}"
            self._stop.set()
            return
        records = self._on_their_way.pop(delivery, None)
        if records is not None:  # else `result` has called it unknown already
            self._account.acknowledged(delivery.partition, future.result().offset, records)

    async def _beat(self) -> None:
        """Every device once per interval, spread over it."""
        assert self._pace.heartbeat_s
        spec, topic = self._workload.spec, self._settings.topic(topics.HEARTBEATS.name)
        devices = sorted({stream.device_id for stream in self._workload.streams})
        interval_ms = round(self._pace.heartbeat_s * 1000)
        start, done = time.monotonic(), 0
        while True:
            rounds = (time.monotonic() - start) / self._pace.heartbeat_s + 1  # the first round at once
            until = int(rounds) * len(devices) if rounds < 2 else int(rounds * len(devices))
            for number in range(done, until):
                device = devices[number % len(devices)]
                beat = {
                    "schema": 1,
                    "device_id": device,
                    "workspace": spec.workspace,
                    "sent_at_ms": now_ms(),
                    "interval_ms": interval_ms,
                    "version": "produce",
                    "status": "up",
                }
                await self._publisher.send(topic, device.encode(), orjson.dumps(beat))
                self.heartbeat_count += 1
            done = max(done, until)
            await asyncio.sleep(min(HEARTBEAT_TICK_S, self._pace.heartbeat_s))
