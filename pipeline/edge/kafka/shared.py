"""A compacted topic that many people write: whoever changes a record says what it was when they looked.

Kafka compares nothing. In one process a change waits for the one before; between processes the log's order decides:
whoever finds that somebody else came first puts theirs back. (Three within the same moment may still lose one.)
One producer serves all changes; a change that is not there in time may or may not come to be.
"""

import asyncio

from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.edge.kafka.connection import KafkaUnavailable, Log
from pipeline.edge.kafka.producer import OutRecord, Producer

SEEN_S = 5.0  # within which a change comes back from the log
WAIT_S = 10.0  # for the changes before


class ChangedMeanwhile(Exception):
    """Somebody else has changed the record since it was looked at."""


class NotReadYet(Exception):
    """The topic has not been read to its end yet."""


class SharedTopic:
    """What is on the topic, and how it changes."""

    def __init__(self, log: Log, topic: str, producer: Producer) -> None:
        """`topic` as on the broker. `producer` gives up in time."""
        self.followed = FollowedTopic(log, topic)
        self._where, self._producer = log.where, producer
        self._changing = asyncio.Lock()

    async def put(self, key: bytes, value: bytes | None, seen: bytes | None) -> None:
        """Takes it in (None: out) if the record is still what was `seen`; returns when `values` hold it.

        Raises ChangedMeanwhile, NotReadYet, KafkaUnavailable.
        """
        if not self.followed.ready.is_set():
            raise NotReadYet(f"{self.followed.name} is not read yet")
        try:
            async with asyncio.timeout(WAIT_S):
                await self._changing.acquire()
        except TimeoutError as error:
            raise KafkaUnavailable(f"Kafka at {self._where} has yet to take earlier changes") from error
        # Who asked may go away: what was begun is looked after to its end.
        work = asyncio.ensure_future(self._put(key, value, seen))
        work.add_done_callback(self._done)
        await asyncio.shield(work)

    def _done(self, work: "asyncio.Future[None]") -> None:
        self._changing.release()
        if not work.cancelled():
            work.exception()  # looked at: who asked may not be there to hear of it

    async def _put(self, key: bytes, value: bytes | None, seen: bytes | None) -> None:
        if self.followed.values.get(key) != seen:
            raise ChangedMeanwhile
        if value == seen:
            return
        before = await self._write(key, value, seen)
        if before != seen:
            if self.followed.values.get(key) == value:
                await self._write(key, before, value)
            raise ChangedMeanwhile

    async def _write(self, key: bytes, value: bytes | None, seen: bytes | None) -> bytes | None:
        """What the record took the place of; `seen` where nobody knows."""
        [offset] = await self._producer.send(self.followed.name, [OutRecord(key, value)])
        try:
            async with asyncio.timeout(SEEN_S):
                return await self.followed.before(offset, seen)
        except TimeoutError as error:
            raise KafkaUnavailable(f"Kafka at {self._where} took the change, and does not show it yet") from error
