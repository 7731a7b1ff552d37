"""One partition, for one assignment: its inbox, where it stands, and the names it commits."""

import asyncio
from collections import deque
from typing import Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.core.batch import Batch
from pipeline.edge.clock import Clock


class GapError(Exception):
    """The log does not hold what the ledger says is next. Only an operator can accept that."""


class Group(Protocol):
    """What a partition needs of the member that it belongs to."""

    clock: Clock
    consumer: AIOKafkaConsumer

    @property
    def partition_bytes_max(self) -> int:
        """What one inbox holds before its partition is paused."""

    async def fetch_committed(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        """The committed offset with its metadata."""

    async def log_ends(self, tp: TopicPartition) -> tuple[int, int]:
        """First and next offset of a partition."""

    async def commit(self, tp: TopicPartition, offset: OffsetAndMetadata, member: tuple[int, str]) -> None:
        """Commits for exactly this (generation, member id). Raises FencedError."""


class Partition:
    """One partition, for one assignment. `work` reads from it, names its cuts through it, and asks it whether to go."""

    def __init__(self, group: Group, tp: TopicPartition, member: tuple[int, str]) -> None:
        self.tp = tp
        self.leaving = False
        self.failure: str | None = None  # why it stands still, for an operator
        self.restored = False
        self.next_offset = 0  # to be taken from the inbox next
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

    async def ends(self) -> tuple[int, int]:
        """The first offset of the log, and the next to be written."""
        return await self._group.log_ends(self.tp)

    def check_log(self, role: str, start: int, named_to: int, ends: tuple[int, int]) -> None:
        """Whether the log still holds what is next, from `start`, and all that is named. Raises GapError."""
        first, end = ends
        accept = f"accept it: inferwatch topics accept-gap --role {role} {self.topic} {self.tp.partition}"
        where = f"{self.topic}/{self.tp.partition}"
        if start < first:
            raise GapError(f"{where}: offsets {start}..{first - 1} left the topic before they were done; {accept}")
        if max(start, named_to) > end:
            raise GapError(
                f"{where}: ends at {end}, but {max(start, named_to)} is next: the topic was made anew; {accept}"
            )

    def seek(self, offset: int) -> None:
        """Reading begins at `offset`."""
        self.next_offset = offset
        self._group.consumer.seek(self.tp, offset)
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
        """Records that were not taken from the inbox yet; as of the last fetch, or (paused) of the last question."""
        end = (self._group.consumer.highwater(self.tp) or 0) if self.restored else 0
        return max(0, max(end, self.end_asked if self._paused else 0) - self.next_offset)

    @property
    def caught_up(self) -> bool:
        """Whether the log has been read to its end; not before the broker has said where that is."""
        is_known = self.restored and self._group.consumer.highwater(self.tp) is not None
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
            self._group.consumer.pause(self.tp)

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
                if until is not None and self.next_offset < until and not taken:
                    raise GapError(f"{self.topic}/{self.tp.partition}: {self.next_offset}..{until - 1} are gone")
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
            self._group.consumer.resume(self.tp)

    # -- naming

    async def commit(self, offset: int, metadata: str) -> None:
        """Names a cut, under the generation of this assignment. Raises FencedError."""
        await self._group.commit(self.tp, OffsetAndMetadata(offset, metadata), self._member)
        self.alive()
