"""One partition, for one assignment: its inbox, where it stands, and the names it commits."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.core.batch import Batch
from pipeline.core.ledger.resume import Answer, GoOn, LogSpan, Redo, StandStill
from pipeline.core.ledger.standing import Standing
from pipeline.edge.clock import Clock


class StandsStillError(Exception):
    """Only an operator can say how this partition goes on; the text says what to do."""


class Group(Protocol):
    """What a partition needs of the member that it belongs to."""

    clock: Clock
    consumer: AIOKafkaConsumer

    @property
    def partition_bytes_max(self) -> int:
        """What one inbox holds before its partition is paused."""

    async def fetch_committed(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        """The committed offset with its metadata."""

    async def log_span(self, tp: TopicPartition) -> LogSpan:
        """The offsets of a partition that a reader can come to, and its topic's id."""

    async def commit(self, tp: TopicPartition, offset: OffsetAndMetadata, member: tuple[int, str]) -> None:
        """Commits for exactly this (generation, member id). Raises FencedError."""


class Partition:
    """One partition, for one assignment. `work` reads from it, names its cuts through it, and asks it whether to go."""

    def __init__(self, group: Group, tp: TopicPartition, member: tuple[int, str]) -> None:
        self.tp = tp
        self.leaving = False
        self.failure: str | None = None  # why it stands still, for an operator
        self.restored = False
        self.role = ""  # that keeps names here
        self.topic_id = ""  # of the log that is read; "" while nothing is known of it
        self.next_offset = 0  # everything before was taken from the inbox, or holds no record for us
        self.done_time_ms = 0  # broker time of what is done
        self.pending_bytes = 0
        self.pending_records = 0
        self.end_asked = 0  # of the log, as the broker said when it was last asked
        self.task: asyncio.Task[None] | None = None
        self._group, self._clock = group, group.clock
        self._member = member
        self._inbox: deque[Batch] = deque()
        self._arrived = asyncio.Event()
        self._alive_at = self._clock.monotonic()
        self._received_ms = self._clock.now_ms()
        self._paused = True

    @property
    def topic(self) -> str:
        """Its topic, as on the broker."""
        return str(self.tp.topic)

    # -- where it stands

    async def committed(self) -> OffsetAndMetadata | None:
        """What the group has committed, with its metadata; None if nothing."""
        return await self._group.fetch_committed(self.tp)

    async def committed_name(self) -> tuple[int, str] | None:
        """The same, as the ledger takes it."""
        at = await self.committed()
        return None if at is None else (at.offset, at.metadata)

    def go_on(self, role: str, span: LogSpan, answer: Answer) -> Redo | GoOn:
        """The answer, if it is one to work with. Raises StandsStillError."""
        if isinstance(answer, StandStill):
            stands = Standing(role, self.topic, self.tp.partition, span, answer.name, answer.problem)
            raise StandsStillError(stands.trouble())
        self.role = role
        return answer

    async def log_span(self) -> LogSpan:
        """What the broker holds. What is read from here on must come from this log."""
        span = await self._group.log_span(self.tp)
        self.topic_id = span.topic_id
        return span

    def stand_still(self, why: str) -> None:
        """Nothing of it is taken any more until an operator has acted. Other partitions go on."""
        self.failure = why
        self._paused = True
        self._tell(self._group.consumer.pause)
        self.leave()
        if self.task is not None:
            self.task.cancel()

    def seek(self, offset: int) -> None:
        """Reading begins at `offset`."""
        self.next_offset = offset
        self._tell(lambda tp: self._group.consumer.seek(tp, offset))
        self.restored = True
        self.alive()
        self._resume()

    def alive(self) -> None:
        """Something happened: it does not stand still."""
        self._alive_at = self._clock.monotonic()

    @property
    def silent_s(self) -> float:
        """For how long nothing has happened."""
        return self._clock.monotonic() - self._alive_at

    def lag(self) -> int:
        """Offsets that were not come to yet; as of the last fetch, or (paused) of the last question."""
        end = (self._end() or 0) if self.restored else 0
        return max(0, max(end, self.end_asked if self._paused else 0) - self.next_offset)

    def _end(self) -> int | None:
        """Up to where there is something to read: what lies behind belongs to transactions that are open."""
        stable: int | None = self._group.consumer.last_stable_offset(self.tp)
        end: int | None = self._group.consumer.highwater(self.tp)
        return end if stable is None or stable < 0 else stable

    @property
    def caught_up(self) -> bool:
        """Whether the log has been read to its end; not before the broker has said where that is."""
        is_known = self.restored and self._end() is not None
        return is_known and self.lag() == 0 and not self._inbox

    def idle(self) -> tuple[int, int]:
        """(when the broker last said what there is, for how long it had had nothing new by then), in milliseconds.

        (0, 0) while there is more to read. A broker that does not answer says nothing about its log, so no time passes.
        """
        asked_ms = self._group.consumer.last_poll_timestamp(self.tp) if self.caught_up else None
        return (asked_ms, max(0, asked_ms - self._received_ms)) if asked_ms else (0, 0)

    def lag_s(self) -> float:
        """Age of the oldest record that waits here; if it waits on the broker, of the newest that is done. 0: none."""
        behind = self.restored and self.done_time_ms and self.lag()
        since_ms = max(self.done_time_ms, self._inbox[0].oldest_ms if self._inbox else 0)
        return max(0, self._clock.now_ms() - since_ms) / 1000 if behind else 0.0

    @property
    def is_full(self) -> bool:
        """Whether it has been paused for what waits in its inbox."""
        return self._paused

    # -- reading

    def deliver(self, batch: Batch) -> None:
        """From the fetcher, in order. What is behind `next_offset` was buffered before a seek, and is dropped."""
        expected = self._inbox[-1].next_offset if self._inbox else self.next_offset
        _, new = batch.split(expected)
        if new is None:
            return
        if not self._inbox:
            self.alive()  # it had nothing to do, which is not standing still
        self._inbox.append(new)
        self.pending_bytes += new.bytes
        self.pending_records += len(new)
        self._received_ms = self._clock.now_ms()
        self._arrived.set()
        if self.pending_bytes > self._group.partition_bytes_max and not self._paused:
            self._paused = True
            self._tell(self._group.consumer.pause)

    def come_to(self, position: int) -> None:
        """From the fetcher, after `deliver`: where the consumer is. An offset is not a record.

        Markers of transactions, aborted batches and what was compacted away take offsets too: the consumer steps over
        them, and where nothing waits here, so do we.
        """
        if not self._inbox and position > self.next_offset:
            self.next_offset = position
            self.alive()

    async def take(self, records_max: int, until: int | None = None) -> list[Batch]:
        """At most about `records_max` records that have arrived, none of offset `until` or later; maybe none."""
        taken: list[Batch] = []
        count = 0
        while self._inbox and count < records_max:
            batch = self._inbox.popleft()
            limit = batch.first_offset + records_max - count
            head, rest = batch.split(limit if until is None else min(limit, until))
            if rest is not None:
                self._inbox.appendleft(rest)
            if head is None:
                assert until is not None
                self.next_offset = max(self.next_offset, until)  # no record for us lies before it
                break
            taken.append(head)
            count += len(head)
            self.pending_bytes -= head.bytes
            self.pending_records -= len(head)
            self.next_offset = head.next_offset
            self.alive()
        if self.pending_bytes <= self._group.partition_bytes_max // 2:
            self._resume()
        return taken

    async def wait(self, timeout_s: float) -> bool:
        """Waits for records to arrive, or to leave; whether there are any."""
        if not self._inbox and not self.leaving:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), timeout_s)
            except TimeoutError:
                return False
        return bool(self._inbox)

    def leave(self) -> None:
        """The partition is revoked: finish what is under way, and go."""
        self.leaving = True
        self._arrived.set()

    def _resume(self) -> None:
        if self._paused and not self.leaving and self.failure is None:
            self._paused = False
            self._tell(self._group.consumer.resume)

    def _tell(self, client: Callable[[TopicPartition], object]) -> None:
        """The client gives an assignment up a moment before it says so: then there is nobody to tell, and we leave."""
        try:
            client(self.tp)
        except IllegalStateError:
            self.leave()

    # -- naming

    async def commit(self, offset: int, metadata: str) -> None:
        """Names a cut, under the generation of this assignment. Raises FencedError."""
        await self._group.commit(self.tp, OffsetAndMetadata(offset, metadata), self._member)
        self.alive()
