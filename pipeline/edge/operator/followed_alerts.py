"""The newest step of every alert, always at hand: inference.alerts read from its start, and followed.

Whoever shows alerts to many asks here: no viewer costs a question to Kafka or ClickHouse.
"""

import asyncio

import structlog
from aiokafka.errors import OffsetOutOfRangeError

from pipeline.core.alerting.told import Alerts
from pipeline.edge.kafka.connection import KafkaUnavailable, Log
from pipeline.edge.kafka.reader import Reader
from schemas.alert import AlertEvent

log = structlog.get_logger()

STEPS_MAX = 50_000  # alerts in memory, some 3 KB each
RETRY_S = 1.0


class FollowedAlerts:
    """`alerts` is whole once `ready` is set."""

    def __init__(self, log: Log, topic: str) -> None:
        """`topic` as on the broker."""
        self._log, self._topic = log, topic
        self.alerts = Alerts(steps_max=STEPS_MAX)
        self.ready = asyncio.Event()
        self._listeners: set[asyncio.Queue[AlertEvent]] = set()

    def listen(self, queue: "asyncio.Queue[AlertEvent]") -> None:
        """Every step from now on goes into the queue; one that is full misses it."""
        self._listeners.add(queue)

    def leave(self, queue: "asyncio.Queue[AlertEvent]") -> None:
        """Nothing goes into it any more."""
        self._listeners.discard(queue)

    async def follow_forever(self) -> None:
        """Reads from the start and goes on; begins again when the log was made anew."""
        while True:
            try:
                partitions = await self._log.ends([self._topic])
            except KafkaUnavailable:
                partitions = {}
            if not partitions:
                await asyncio.sleep(RETRY_S)
                continue
            reader = Reader(self._log, dict.fromkeys(partitions), whole=True)
            try:
                await reader.start()
                await self._follow(reader)
            except OffsetOutOfRangeError as error:
                log.warning("follow_again", topic=self._topic, error=repr(error))
                await asyncio.sleep(RETRY_S)
            finally:
                await reader.stop()

    async def _follow(self, reader: Reader) -> None:
        alerts = Alerts(steps_max=STEPS_MAX)
        while True:
            is_news = reader.caught_up
            for record in await reader.read(1.0):
                step = alerts.observe(record.value)
                if step is not None and is_news:
                    self._tell(step)
            if reader.caught_up:
                self.alerts = alerts
                self.ready.set()

    def _tell(self, step: AlertEvent) -> None:
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(step)
