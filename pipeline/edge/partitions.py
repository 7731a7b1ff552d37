"""The partitions that this worker owns: fetched in batches, cut in order, named by fenced commits.

Each assigned partition has one task that runs the role's `work` from the committed name onwards; one fetcher fills
their bounded inboxes; one committer sends what they name, many names in a request. A partition object lives as long as
one assignment: after a rebalance there is a new one, with the new generation, and the old one can do no more harm.

Private names of aiokafka's coordinator are used here and nowhere else (tests/unit/test_private_names.py): its public
commit() sends whatever generation is current, so it could name a cut from before a rebalance after it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import errors as kafka_errors
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from pipeline.config import Settings
from pipeline.core.ledger import ForeignMetadataError
from pipeline.core.tables import Records
from pipeline.edge import clock, metrics
from pipeline.edge.kafka import client_options

log = structlog.get_logger()

LEAVE_S = 2.5  # for the cut under way, when partitions are revoked
POLL_RECORDS_MAX = 20_000
PARTITION_FETCH_BYTES = 1 << 20


class FencedError(Exception):
    """This member may not write for the partition any more: drop the cut."""


class GapError(Exception):
    """The log does not hold what the ledger says is next. Only an operator can accept that."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one fetch of one partition."""

    records: Records
    create_time: bool  # timestamps are the producers', not the broker's
    bytes: int

    def split(self, offset: int) -> tuple["Fetched | None", "Fetched | None"]:
        """What is before `offset`, and the rest."""
        offsets = self.records.offsets
        if offsets[-1] < offset:
            return self, None
        if offsets[0] >= offset:
            return None, self
        at = next(i for i, o in enumerate(offsets) if o >= offset)
        return self._slice(slice(None, at)), self._slice(slice(at, None))

    def _slice(self, part: slice) -> "Fetched":
        r = self.records
        values = r.values[part]
        records = Records(r.topic, r.partition, r.offsets[part], r.times_ms[part], r.keys[part], values)
        return Fetched(records, self.create_time, sum(len(v) for v in values if v is not None))


def join(parts: Sequence[Fetched]) -> Records:
    """The records of all parts, in order."""
    first = parts[0].records
    if len(parts) == 1:
        return first

    def chain(pick: Callable[[Records], Sequence[Any]]) -> list[Any]:
        return [item for part in parts for item in pick(part.records)]

    return Records(
        first.topic,
        first.partition,
        chain(lambda r: r.offsets),
        chain(lambda r: r.times_ms),
        chain(lambda r: r.keys),
        chain(lambda r: r.values),
    )


class Partition:
    """One partition, for one assignment. `work` reads from it, names its cuts through it, and asks it whether to go."""

    def __init__(self, owner: "Partitions", tp: TopicPartition, generation: int, member_id: str) -> None:
        self.tp = tp
        self.generation, self.member_id = generation, member_id
        self.leaving = False
        self.failure: str | None = None  # why it stands still, for an operator
        self.restored = False
        self.next_offset = 0  # to be taken from the inbox next
        self.done_time_ms = 0  # broker time of what is done
        self.pending_bytes = 0
        self.pending_records = 0
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._inbox: deque[Fetched] = deque()
        self._arrived = asyncio.Event()
        self._alive_at = time.monotonic()
        self._received_at = time.monotonic()
        self._paused = True

    @property
    def topic(self) -> str:
        """Its topic, as on the broker."""
        return str(self.tp.topic)

    # -- where it stands

    async def committed(self) -> OffsetAndMetadata | None:
        """What the group has committed, with its metadata; None if nothing."""
        found = await self._owner.fetch_committed(self.tp)
        return None if found is None or found.offset < 0 else found

    async def ends(self) -> tuple[int, int]:
        """The first offset of the log, and the next to be written."""
        return await self._owner.log_ends(self.tp)

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
        self._owner.consumer.seek(self.tp, offset)
        self.restored = True
        self.alive()
        self._resume()

    def alive(self) -> None:
        """Something happened: it does not stand still."""
        self._alive_at = time.monotonic()

    @property
    def silent_s(self) -> float:
        """For how long nothing has happened."""
        return time.monotonic() - self._alive_at

    def lag(self) -> int:
        """Records on the broker that were not taken from the inbox yet, as of the last fetch."""
        end = self._owner.consumer.highwater(self.tp) if self.restored else None
        return max(0, (end or 0) - self.next_offset)

    def idle_s(self) -> float:
        """For how long the log has been read to its end without a new record; 0 while there is more to read."""
        caught_up = self._owner.consumer.highwater(self.tp) is not None and self.lag() == 0 and not self._inbox
        return time.monotonic() - self._received_at if caught_up else 0.0

    def lag_s(self) -> float:
        """Seconds from the newest record that is done to now; 0 without a lag."""
        behind = self.restored and self.done_time_ms and self.lag() + self.pending_records
        return max(0, clock.now_ms() - self.done_time_ms) / 1000 if behind else 0.0

    @property
    def is_full(self) -> bool:
        """Whether it has been paused for what waits in its inbox."""
        return self._paused

    # -- reading

    def deliver(self, fetched: Fetched) -> None:
        """From the fetcher, in order. What is behind `next_offset` was buffered before a seek, and is dropped."""
        expected = self._inbox[-1].records.offsets[-1] + 1 if self._inbox else self.next_offset
        _, new = fetched.split(expected)
        if new is None:
            return
        self._inbox.append(new)
        self.pending_bytes += new.bytes
        self.pending_records += len(new.records.offsets)
        self._received_at = time.monotonic()
        self._arrived.set()
        if self.pending_bytes > self._owner.partition_bytes_max and not self._paused:
            self._paused = True
            self._owner.consumer.pause(self.tp)

    async def take(self, records_max: int, until: int | None = None) -> list[Fetched]:
        """At most about `records_max` records that have arrived, none of offset `until` or later; maybe none."""
        taken: list[Fetched] = []
        count = 0
        while self._inbox and count < records_max:
            fetched = self._inbox.popleft()
            limit = fetched.records.offsets[0] + records_max - count
            head, rest = fetched.split(limit if until is None else min(limit, until))
            if rest is not None:
                self._inbox.appendleft(rest)
            if head is None:
                break
            taken.append(head)
            count += len(head.records.offsets)
            self.pending_bytes -= head.bytes
            self.pending_records -= len(head.records.offsets)
            self.next_offset = head.records.offsets[-1] + 1
            self.alive()
        if self.pending_bytes <= self._owner.partition_bytes_max // 2:
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
            self._owner.consumer.resume(self.tp)

    # -- naming

    async def commit(self, offset: int, metadata: str) -> None:
        """Names a cut, under the generation of this assignment. Raises FencedError."""
        await self._owner.commit(self, OffsetAndMetadata(offset, metadata))
        self.alive()


Work = Callable[[Partition], Awaitable[None]]


class Partitions(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer group's member: assigns partitions to `work`, and ends the process when that breaks a promise."""

    def __init__(self, settings: Settings, group: str, work: Mapping[str, Work]) -> None:
        """`work` by topic (as on the broker)."""
        self._settings = settings
        self._group = group
        self._work = work
        self.consumer: AIOKafkaConsumer = None
        self.partitions: dict[TopicPartition, Partition] = {}
        self.assigned = False
        self.error: BaseException | None = None
        self.fetched_at = time.monotonic()
        self._named: list[tuple[Partition, OffsetAndMetadata, asyncio.Future[None]]] = []
        self._wake_committer = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def partition_bytes_max(self) -> int:
        """What one inbox holds before its partition is paused."""
        return max(1 << 20, (self._settings.buffer_mb << 20) // max(1, len(self.partitions)))

    # -- life

    async def start(self) -> None:
        """Joins the group; waits for the broker as long as that takes."""
        for topic in self._work:
            metrics.watch_topic(topic)
        session_ms = self._settings.session_timeout_ms
        wait_s = 0.5
        while True:
            self.consumer = AIOKafkaConsumer(
                **client_options(self._settings),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="none",
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=session_ms // 6,
                rebalance_timeout_ms=max(session_ms, 15_000),
                request_timeout_ms=session_ms + 5000,
                max_poll_interval_ms=600_000,
                fetch_max_wait_ms=500,
                max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
                metadata_max_age_ms=30_000,
            )
            try:
                await self.consumer.start()
                break
            except (kafka_errors.KafkaError, OSError) as error:
                await self.consumer.stop()
                log.warning("broker_unreachable", bootstrap=self._settings.kafka_bootstrap, error=repr(error))
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, 10)
        self.consumer.subscribe(list(self._work), listener=self)

    async def stop(self) -> None:
        """Finishes what is under way, says what is done, leaves the group."""
        await self._drain()
        if self.consumer is not None:
            await self.consumer.stop()

    def fail(self, error: BaseException) -> None:
        """Ends the process: an error that nobody knows must never leave a partition quietly stuck."""
        if self.error is None:
            self.error = error
            log.error("worker_fails", error=repr(error), exc_info=error)

    # -- rebalance. aiokafka is eager: everything is revoked every time.

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Heartbeats go on meanwhile, and commits of the old generation are still taken."""
        await self._drain()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Must not wait: heartbeats begin only when it returns."""
        coordinator = self.consumer._coordinator
        generation, member_id = coordinator.generation, coordinator.member_id
        partitions = {tp: Partition(self, tp, generation, member_id) for tp in sorted(assigned)}
        self.assigned = True
        metrics.REBALANCES.inc()
        log.info("assigned", generation=generation, partitions=[f"{tp.topic}/{tp.partition}" for tp in partitions])
        if partitions:
            self.consumer.pause(*partitions)
        self.partitions = partitions
        for partition in partitions.values():
            partition.task = asyncio.create_task(self._run(partition))

    async def _drain(self) -> None:
        partitions, self.partitions = list(self.partitions.values()), {}
        for partition in partitions:
            partition.leave()
            metrics.LAG_RECORDS.labels(partition.topic, partition.tp.partition).set(0)
            metrics.LAG_SECONDS.labels(partition.topic, partition.tp.partition).set(0)
        tasks = [p.task for p in partitions if p.task is not None and not p.task.done()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LEAVE_S)
            for task in late:
                task.cancel()  # its name stays: the next owner makes exactly this cut again
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, partition: Partition) -> None:
        try:
            await self._work[partition.topic](partition)
        except FencedError as error:
            metrics.CUTS_FENCED.labels(partition.topic).inc()
            log.warning("fenced", topic=partition.topic, partition=partition.tp.partition, reason=str(error))
        except (GapError, ForeignMetadataError) as error:
            partition.failure = str(error)
            log.error("partition_stands_still", topic=partition.topic, partition=partition.tp.partition, why=str(error))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(error)

    # -- fetching

    async def fetch_forever(self) -> None:
        """Fills the inboxes. Pauses between polls unless there is a backlog: fetches in Python are dear."""
        poll_s = self._settings.poll_ms / 1000
        while True:
            if self.error is not None:
                raise self.error
            try:
                fetched = await self.consumer.getmany(timeout_ms=self._settings.poll_ms, max_records=POLL_RECORDS_MAX)
            except kafka_errors.ConsumerStoppedError:
                return
            except (kafka_errors.IllegalStateError, kafka_errors.KafkaError) as error:
                # NoOffsetForPartition: fetched before our seek. Others: the broker is away, and the client tries on.
                log.debug("fetch_failed", error=repr(error))
                await asyncio.sleep(poll_s)
                continue
            self.fetched_at = time.monotonic()
            count = 0
            for tp, records in fetched.items():
                count += len(records)
                partition = self.partitions.get(tp)
                if partition is not None and partition.restored and records:
                    partition.deliver(_fetched(tp, records))
            self._measure()
            if count < POLL_RECORDS_MAX // 4:
                await asyncio.sleep(poll_s)
            else:
                await asyncio.sleep(0)

    def _measure(self) -> None:
        for partition in self.partitions.values():
            lag = partition.lag() + partition.pending_records if partition.restored else 0
            labels = partition.topic, partition.tp.partition
            metrics.LAG_RECORDS.labels(*labels).set(lag)
            metrics.LAG_SECONDS.labels(*labels).set(partition.lag_s())
            if lag and partition.failure is None and partition.silent_s > self._settings.stall_s:
                where = f"{partition.topic}/{partition.tp.partition}"
                self.fail(
                    RuntimeError(f"no progress on {where} for {partition.silent_s:.0f} s with {lag} records waiting")
                )
        metrics.BUFFERED_BYTES.set(sum(p.pending_bytes for p in self.partitions.values()))
        metrics.PARTITIONS.labels("assigned").set(len(self.partitions))
        metrics.PARTITIONS.labels("restoring").set(
            sum(not p.restored and not p.failure for p in self.partitions.values())
        )
        metrics.PARTITIONS.labels("failed").set(sum(p.failure is not None for p in self.partitions.values()))

    # -- what the group knows

    async def fetch_committed(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        """The committed offset with its metadata, which the public call leaves out."""
        return (await self.consumer._coordinator.fetch_committed_offsets([tp])).get(tp)

    async def log_ends(self, tp: TopicPartition) -> tuple[int, int]:
        """First and next offset of a partition; asks until the broker answers."""
        while True:
            try:
                first = await self.consumer.beginning_offsets([tp])
                end = await self.consumer.end_offsets([tp])
                return first[tp], end[tp]
            except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError) as error:
                log.warning("broker_unreachable", error=repr(error))
                await asyncio.sleep(0.5)

    async def commit(self, partition: Partition, offset: OffsetAndMetadata) -> None:
        """Sent with the other names that wait; returns when the broker has it. Raises FencedError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._named.append((partition, offset, done))
        self._wake_committer.set()
        await done

    async def commit_forever(self) -> None:
        """One OffsetCommit for all names that wait; while it is under way the next ones gather."""
        while True:
            await self._wake_committer.wait()
            self._wake_committer.clear()
            named, self._named = self._named, []
            by_generation: dict[tuple[int, str], list[tuple[Partition, OffsetAndMetadata, asyncio.Future[None]]]] = {}
            for item in named:
                by_generation.setdefault((item[0].generation, item[0].member_id), []).append(item)
            for (generation, member_id), items in by_generation.items():
                error: Exception | None = None
                try:
                    await self._commit({p.tp: offset for p, offset, _ in items}, generation, member_id)
                except (FencedError, kafka_errors.KafkaError) as failed:
                    error = failed
                for _, _, done in items:
                    if not done.done():
                        if error is None:
                            done.set_result(None)
                        else:
                            done.set_exception(error)

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata], generation: int, member_id: str) -> None:
        coordinator = self.consumer._coordinator
        wait_s = 0.1
        while True:
            await coordinator.ensure_coordinator_known()
            async with coordinator._commit_lock:
                if (coordinator.generation, coordinator.member_id) != (generation, member_id):
                    raise FencedError("a rebalance came first")
                started = time.monotonic()
                try:
                    # Builds its request, with the generation just compared, before it first waits.
                    await coordinator._do_commit_offsets(None, offsets)
                    metrics.COMMITS.inc()
                    metrics.COMMIT_SECONDS.observe(time.monotonic() - started)
                    return
                except (
                    kafka_errors.UnknownMemberIdError,
                    kafka_errors.IllegalGenerationError,
                    kafka_errors.RebalanceInProgressError,
                ) as error:
                    raise FencedError(type(error).__name__) from error
                except kafka_errors.KafkaError as error:
                    if not error.retriable:
                        raise
                    log.warning("commit_retry", error=repr(error))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 2)


def _fetched(tp: TopicPartition, records: Sequence[ConsumerRecord]) -> Fetched:
    values = [r.value for r in records]
    size = sum(len(v) for v in values if v is not None)
    metrics.RECORDS.labels(tp.topic).inc(len(records))
    metrics.BYTES.labels(tp.topic).inc(size)
    batch = Records(
        tp.topic,
        tp.partition,
        [r.offset for r in records],
        [r.timestamp for r in records],
        [r.key for r in records],
        values,
    )
    return Fetched(batch, records[0].timestamp_type == 0, size)
