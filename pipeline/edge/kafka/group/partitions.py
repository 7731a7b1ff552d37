"""A member of a consumer group: which partitions it owns, their tasks, and the fetches that feed them.

Each assigned partition has one task that runs the role's `work` from the committed name onwards; one fetcher fills
their bounded inboxes. A partition object lives as long as one assignment: after a rebalance there is a new one, with
the new generation, and the old one can do no more harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.config import Settings
from pipeline.core.batch import Batch
from pipeline.core.ledger.resume import LogSpan, Problem
from pipeline.core.ledger.standing import Standing
from pipeline.edge import metrics
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.connection import KafkaUnavailable, Log
from pipeline.edge.kafka.group.commits import Committer, FencedError
from pipeline.edge.kafka.group.fetched import fetched
from pipeline.edge.kafka.group.partition import Partition, StandsStillError
from pipeline.edge.kafka.group.stuck import stack

log = structlog.get_logger()

ENDS_S = 10.0  # between questions for the ends of paused partitions
LEAVE_S = 2.5  # for the cut under way, when partitions are revoked
POLL_RECORDS_MAX = 20_000
PARTITION_FETCH_BYTES = 1 << 20

Work = Callable[[Partition], Awaitable[None]]


class Partitions(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer group's member: assigns partitions to `work`, and ends the process when that breaks a promise."""

    def __init__(self, settings: Settings, log: Log, clock: Clock, group: str, work: Mapping[str, Work]) -> None:
        """`work` by topic (as on the broker)."""
        self._settings, self._log, self.clock = settings, log, clock
        self._group = group
        self._work = work
        self.consumer: AIOKafkaConsumer = None
        self.partitions: dict[TopicPartition, Partition] = {}
        self.assigned = False
        self.error: BaseException | None = None
        self.fetched_at = self.clock.monotonic()
        self.committer: Committer | None = None
        self._stopping = False

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
            self.consumer = self._log.consumer(
                group_id=self._group,
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
        self.committer = Committer(self.consumer)  # it has a coordinator only now

    async def stop(self) -> None:
        """Finishes what is under way, says what is done, leaves the group."""
        self._stopping = True
        await self._drain()
        if self.consumer is not None:
            await self.consumer.stop()

    async def run_forever(self) -> None:
        """Joins, then fetches and commits until it is cancelled or the role fails."""
        await self.start()
        assert self.committer is not None
        await asyncio.gather(self.fetch_forever(), self.committer.commit_forever(), self._ask_ends_forever())

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
        if self._stopping:  # a rebalance that ends while we leave: the outputs are about to be closed
            return
        assert self.committer is not None
        member = self.committer.member
        partitions = {tp: Partition(self, tp, member) for tp in sorted(assigned)}
        self.assigned = True
        metrics.REBALANCES.inc()
        log.info("assigned", generation=member[0], partitions=[f"{tp.topic}/{tp.partition}" for tp in partitions])
        if partitions:
            self.consumer.pause(*partitions)
            for tp in partitions:
                self.consumer.seek(tp, 0)  # without a position the client asks for a commit, and raises where none is
        self.partitions = partitions
        for partition in partitions.values():
            partition.task = asyncio.create_task(self._run(partition))
        self._measure()

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
        self._measure()

    async def _run(self, partition: Partition) -> None:
        try:
            await self._work[partition.topic](partition)
        except FencedError as error:
            metrics.CUTS_FENCED.labels(partition.topic).inc()
            log.warning("fenced", topic=partition.topic, partition=partition.tp.partition, reason=str(error))
        except StandsStillError as error:
            self._stand_still(partition, str(error))
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
                batches = await self.consumer.getmany(timeout_ms=self._settings.poll_ms, max_records=POLL_RECORDS_MAX)
            except kafka_errors.ConsumerStoppedError:
                return
            except kafka_errors.OffsetOutOfRangeError as error:
                if not await self._find_other_logs():
                    self.fail(error)  # the log was cut under us; after a restart the ledger says what is missing
                continue
            except (kafka_errors.IllegalStateError, kafka_errors.KafkaError) as error:  # the client tries on
                log.debug("fetch_failed", error=repr(error))
                await asyncio.sleep(poll_s)
                continue
            self.fetched_at = self.clock.monotonic()
            count = sum(map(len, batches.values()))
            await self.take_in({tp: fetched(tp, records) for tp, records in batches.items() if records})
            self._measure()
            if count < POLL_RECORDS_MAX // 4:
                await asyncio.sleep(poll_s)
            else:
                await asyncio.sleep(0)

    async def take_in(self, batches: Mapping[TopicPartition, Batch]) -> None:
        """What one fetch brought goes to the partitions of this moment, with where the consumer has come to.

        Records are believed only if, once they are here, their topic still is the one that was restored: a topic made
        anew goes on giving records at the old offsets.
        """
        try:
            reading = [(p, await self.consumer.position(p.tp)) for p in self.partitions.values() if p.restored]
        except kafka_errors.IllegalStateError:
            return  # all are given up, and nobody has told us yet: what came is nobody's
        if batches:
            await self._find_other_logs()
        for partition, position in reading:
            if partition.failure is not None:
                continue
            if (batch := batches.get(partition.tp)) is not None:
                metrics.RECORDS.labels(partition.topic).inc(len(batch))
                metrics.BYTES.labels(partition.topic).inc(batch.bytes)
                partition.deliver(batch)
            partition.come_to(position)

    async def _find_other_logs(self) -> bool:
        """Stops what reads a topic that was made anew; whether any was."""
        reading = [partition for partition in self.partitions.values() if partition.topic_id and not partition.failure]
        ids = await self._ids({partition.topic for partition in reading})
        others = [partition for partition in reading if ids[partition.topic] != partition.topic_id]
        for partition in others:
            if partition.role:
                span = LogSpan(0, 0, ids[partition.topic])
                stands = Standing(partition.role, partition.topic, partition.tp.partition, span, None, Problem.ANEW)
                self._stand_still(partition, stands.trouble())
            else:  # it keeps no name: after a restart it reads the new one from its start
                self.fail(RuntimeError(f"{partition.topic} was made anew"))
        return bool(others)

    def _stand_still(self, partition: Partition, why: str) -> None:
        partition.stand_still(why)
        log.error("partition_stands_still", topic=partition.topic, partition=partition.tp.partition, why=why)

    async def _ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The ids of all of these topics; asks until the broker knows them."""
        wanted = set(topics)
        while True:
            try:
                ids = await self._log.topic_ids(wanted) if wanted else {}
                if len(ids) == len(wanted):
                    return ids
                log.warning("topics_missing", topics=sorted(wanted - ids.keys()))
            except KafkaUnavailable as error:
                log.warning("broker_unreachable", error=str(error))
            await asyncio.sleep(0.5)

    async def _ask_ends_forever(self) -> None:
        """What comes behind a paused partition is not fetched: without asking, its lag would stand still."""
        while True:
            await asyncio.sleep(ENDS_S)
            paused = [partition for partition in self.partitions.values() if partition.restored and partition.is_full]
            if not paused:
                continue
            try:
                ends = await self.consumer.end_offsets([partition.tp for partition in paused])
            except kafka_errors.KafkaError as error:
                log.debug("ends_unknown", error=repr(error))
                continue
            for partition in paused:
                partition.end_asked = ends[partition.tp]

    def _measure(self) -> None:
        for partition in self.partitions.values():
            lag = partition.lag()
            labels = partition.topic, partition.tp.partition
            metrics.LAG_RECORDS.labels(*labels).set(lag)
            metrics.LAG_SECONDS.labels(*labels).set(partition.lag_s())
            if lag and partition.failure is None and partition.silent_s > self._settings.stall_s:
                where = f"{partition.topic}/{partition.tp.partition}"
                log.error("stuck", partition=where, at=stack(partition.task))
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
        assert self.committer is not None
        return await self.committer.fetch(tp)

    async def commit(self, tp: TopicPartition, offset: OffsetAndMetadata, member: tuple[int, str]) -> None:
        """Commits for exactly this member. Raises FencedError."""
        assert self.committer is not None
        await self.committer.commit(tp, offset, member)

    async def log_span(self, tp: TopicPartition) -> LogSpan:
        """The offsets of a partition that a reader can come to, of one topic; asks until the broker answers."""
        while True:
            before = (await self._ids([tp.topic]))[tp.topic]
            try:
                first = await self.consumer.beginning_offsets([tp])
                end = await self.consumer.end_offsets([tp])
                if (await self._ids([tp.topic]))[tp.topic] == before:
                    return LogSpan(first[tp], end[tp], before)
            except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError) as error:
                log.warning("broker_unreachable", error=repr(error))
                await asyncio.sleep(0.5)
