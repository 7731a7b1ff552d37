"""Fenced commits: a name is committed under the generation it was given for, or not at all.

Private names of aiokafka's coordinator are used here and nowhere else (tests/unit/test_private_names.py): its public
commit() sends whatever generation is current, so it could name a cut from before a rebalance after it; and its public
committed() leaves the metadata out.
"""

import asyncio
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.edge import metrics

log = structlog.get_logger()

Member = tuple[int, str]  # generation, member id


class FencedError(Exception):
    """This member may not write for the partition any more: drop the cut."""


@dataclass(frozen=True, slots=True)
class _Named:
    tp: TopicPartition
    offset: OffsetAndMetadata
    member: Member
    done: asyncio.Future[None]


class Committer:
    """Commits names, many in a request: the cost is per request, not per partition."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """`consumer` has joined its group."""
        self._coordinator = consumer._coordinator
        self._waiting: list[_Named] = []
        self._wake = asyncio.Event()

    @property
    def member(self) -> Member:
        """Who we are in the group, at this moment."""
        return self._coordinator.generation, self._coordinator.member_id

    async def fetch(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        """What the group has committed, with its metadata; None if nothing."""
        found = (await self._coordinator.fetch_committed_offsets([tp])).get(tp)
        return None if found is None or found.offset < 0 else found

    async def commit(self, tp: TopicPartition, offset: OffsetAndMetadata, member: Member) -> None:
        """Sent with the other names that wait; returns when the broker has it. Raises FencedError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Named(tp, offset, member, done))
        self._wake.set()
        await done

    async def commit_forever(self) -> None:
        """One OffsetCommit for all names that wait; while it is under way the next ones gather."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, []
            for member in dict.fromkeys(named.member for named in waiting):
                await self._commit_all([named for named in waiting if named.member == member], member)

    async def _commit_all(self, waiting: list[_Named], member: Member) -> None:
        error: Exception | None = None
        try:
            await self._send({named.tp: named.offset for named in waiting}, member)
        except (FencedError, kafka_errors.KafkaError) as failed:
            error = failed
        for named in waiting:
            if not named.done.done():
                if error is None:
                    named.done.set_result(None)
                else:
                    named.done.set_exception(error)

    async def _send(self, offsets: dict[TopicPartition, OffsetAndMetadata], member: Member) -> None:
        wait_s = 0.1
        while True:
            await self._coordinator.ensure_coordinator_known()
            async with self._coordinator._commit_lock:
                if self.member != member:
                    raise FencedError("a rebalance came first")
                started = asyncio.get_running_loop().time()
                try:
                    # Builds its request, with the generation just compared, before it first waits.
                    await self._coordinator._do_commit_offsets(None, offsets)
                    metrics.COMMITS.inc()
                    metrics.COMMIT_SECONDS.observe(asyncio.get_running_loop().time() - started)
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
