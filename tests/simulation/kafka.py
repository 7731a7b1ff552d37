"""Kafka as the workers see it: logs, consumer groups that fence, and a producer whose answers get lost.

A commit is taken from a member of the current generation only, or from nobody in particular when the group is empty.
Its answer may be lost. One that arrives late is dropped if a newer one is there: between two connections of one client
Kafka does not promise that, and the ledger assumes it. A producer's records of a partition arrive in order.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from aiokafka import errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.core.batch import Batch
from pipeline.edge.kafka.publish import partition_of
from tests.builders import LogRecord
from tests.simulation.loop import Clock
from tests.simulation.luck import Luck, Sender, ViolationError

T = TypeVar("T")
Member = tuple[int, str]  # generation, member id
NOBODY: Member = (-1, "")


class Log:
    """The records of one partition, and the offsets that hold none: markers, aborted batches, what was compacted."""

    def __init__(self, clock: Clock, came_later: bool = False, before: "Log | None" = None) -> None:
        """`came_later`: a partition that its topic got when others were in use. `before`: what it is in place of."""
        self.before = before
        self.records: list[LogRecord] = []
        self.keys: list[bytes] = []
        self.offsets: list[int] = []
        self.end = 0  # the next offset
        self.came_later = came_later
        self._clock = clock
        self._waiting: list[asyncio.Future[None]] = []

    def made_anew(self) -> "Log":
        """That of another topic of this name."""
        return Log(self._clock, before=self)

    def topic_id(self, topic: str) -> str:
        """Which topic of this name it belongs to."""
        return f"id-of-{topic}" if self.before is None else self.before.topic_id(topic) + "-again"

    @property
    def all_records(self) -> list[LogRecord]:
        """Also of the logs before it."""
        return self.records if self.before is None else self.before.all_records + self.records

    def append(self, value: bytes | None, key: bytes = b"key") -> None:
        """The broker gives offset and time."""
        time_ms = max(self._clock.now_ms(), self.records[-1].time_ms if self.records else 0)
        self.offsets.append(self.end)
        self.records.append(LogRecord(self.end, time_ms, value))
        self.keys.append(key)
        self.end += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def grows(self) -> "asyncio.Future[None]":
        """Done when the next record is there."""
        self._waiting.append(asyncio.get_running_loop().create_future())
        return self._waiting[-1]

    def slice(self, offset: int, count: int) -> slice:
        """Where some records from `offset` on are."""
        at = bisect_left(self.offsets, offset)
        return slice(at, at + count)

    def skip(self, count: int) -> None:
        """Offsets without a record for us."""
        self.end += count

    def position(self, offset: int, count: int) -> int:
        """Where a consumer is that has read some records from `offset` on: behind all that holds none."""
        after = bisect_left(self.offsets, offset) + count
        return self.offsets[after] if after < len(self.offsets) else self.end

    def read(self, tp: TopicPartition, offset: int, count: int) -> Batch | None:
        """Some records from `offset` on."""
        there = self.slice(offset, count)
        found = self.records[there]
        if not found:
            return None
        offsets, times_ms, values = [r.offset for r in found], [r.time_ms for r in found], [r.value for r in found]
        return Batch(tp.topic, tp.partition, offsets, times_ms, self.keys[there], values)


class CommittedOffsets:
    """What the brokers know of one consumer group."""

    def __init__(self, fencing: bool = True) -> None:
        """`fencing` is turned off to see that it is needed."""
        self.fencing = fencing
        self.generation = 0
        self.members: set[str] = set()
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self._history: dict[TopicPartition, list[OffsetAndMetadata]] = {}
        self._order: dict[tuple[TopicPartition, Member, OffsetAndMetadata], int] = {}
        self._newest: dict[TopicPartition, int] = {}

    def is_member(self, member: Member) -> bool:
        """Whether it is one now."""
        return member[0] == self.generation and member[1] in self.members

    def first_seen(self, member: Member, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """When a name was sent first: repeats keep their place."""
        for tp, offset in offsets.items():
            self._order.setdefault((tp, member, offset), len(self._order))

    def commit(self, member: Member, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> type[Exception] | None:
        """Takes the names, or says why not."""
        refused: type[Exception] | None = None
        generation, member_id = member
        if self.fencing and not (member == NOBODY and not self.members):
            if member_id not in self.members:
                refused = errors.UnknownMemberIdError
            elif generation != self.generation:
                refused = errors.IllegalGenerationError
        if refused is not None:
            return refused
        for tp, offset in offsets.items():
            place = self._order[tp, member, offset]
            if place >= self._newest.get(tp, -1):
                self.offsets[tp], self._newest[tp] = offset, place
                self._history.setdefault(tp, []).append(offset)
        return None

    def forget(self, tp: TopicPartition) -> None:
        """As it goes with a topic that is deleted."""
        self.offsets.pop(tp, None)

    def turn_back(self, how_far: Callable[[int], int]) -> None:
        """Older names are the newest again. `how_far`: of so many, how many are forgotten."""
        for tp, names in self._history.items():
            del names[max(1, len(names) - how_far(len(names))) :]
            self.offsets[tp] = names[-1]


class Coordinator:
    """The part of aiokafka's coordinator that pipeline.edge.kafka.group.commits uses."""

    def __init__(self, luck: Luck, sender: Sender, group: CommittedOffsets) -> None:
        self._luck, self._sender, self._group = luck, sender, group
        self._commit_lock = asyncio.Lock()
        self.generation, self.member_id = NOBODY

    async def ensure_coordinator_known(self) -> None:
        """It is."""
        await self._sender.gate()

    async def _do_commit_offsets(self, _: object, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        member = self.generation, self.member_id  # before the first wait, as aiokafka does
        group, luck = self._group, self._luck
        group.first_seen(member, offsets)
        if luck.strikes(0.03, "commit_refused"):
            await luck.request(self._sender, lambda: None)
            raise errors.KafkaConnectionError
        if luck.strikes(0.03, "commit_late"):
            luck.later(lambda: group.commit(member, offsets))
            await luck.request(self._sender, lambda: None)
            raise errors.RequestTimedOutError
        refused = await luck.request(self._sender, lambda: group.commit(member, offsets))
        luck.tell("commit", member, *((*tp, *offset) for tp, offset in offsets.items()), refused or "")
        if luck.strikes(0.05, "commit_answer_lost"):
            raise errors.RequestTimedOutError
        if refused is not None:
            raise refused

    async def fetch_committed_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """The committed offsets with their metadata."""
        group = self._group
        return await self._luck.request(
            self._sender, lambda: {tp: group.offsets.get(tp, OffsetAndMetadata(-1, "")) for tp in tps}
        )


class Consumer:
    """The part of aiokafka's consumer that a partition uses."""

    def __init__(
        self, luck: Luck, clock: Clock, sender: Sender, group: CommittedOffsets, logs: dict[TopicPartition, Log]
    ) -> None:
        self._luck, self._clock, self._sender, self._logs = luck, clock, sender, logs
        self._coordinator = Coordinator(luck, sender, group)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._highwaters: dict[TopicPartition, int] = {}
        self._asked_ms: dict[TopicPartition, int] = {}

    def join(self, member: Member) -> None:
        """A new generation: nothing is known of the partitions."""
        self._coordinator.generation, self._coordinator.member_id = member
        self._positions, self._paused, self._highwaters, self._asked_ms = {}, set(), {}, {}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Fetches go on from there."""
        self._positions[tp] = offset

    def pause(self, *tps: TopicPartition) -> None:
        """No fetches of these."""
        self._paused.update(tps)

    def resume(self, *tps: TopicPartition) -> None:
        """Fetches of these again."""
        self._paused.difference_update(tps)

    def highwater(self, tp: TopicPartition) -> int | None:
        """The end of the log at the last fetch."""
        return self._highwaters.get(tp)

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        """The same: no transaction stays open here."""
        return self._highwaters.get(tp)

    async def position(self, tp: TopicPartition) -> int:
        """Where it has come to."""
        return self._positions[tp]

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        """When that was."""
        return self._asked_ms.get(tp)

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offsets."""
        return await self._luck.request(self._sender, lambda: dict.fromkeys(tps, 0))

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offsets."""
        return await self._luck.request(self._sender, lambda: {tp: self._logs[tp].end for tp in tps})

    def fetch(self, tp: TopicPartition) -> Batch | None:
        """What getmany() has of one partition."""
        if tp not in self._positions:
            raise ViolationError(f"{tp} has no position: the client would look for a committed one before all else")
        if tp in self._paused:
            return None
        self._highwaters[tp], self._asked_ms[tp] = self._logs[tp].end, self._clock.now_ms()
        log, at, count = self._logs[tp], self._positions[tp], self._luck.rng.choice((1, 3, 20))
        self._positions[tp] = log.position(at, count)
        return log.read(tp, at, count)


class Acknowledged(NamedTuple):
    """What a producer is told of a record that arrived."""

    offset: int


class Producer:
    """An idempotent producer: what it sends to a partition arrives once, in order, up to where it breaks."""

    def __init__(self, luck: Luck, sender: Sender, logs: dict[TopicPartition, Log]) -> None:
        self._luck, self._sender, self._logs = luck, sender, logs
        self._queues: dict[TopicPartition, list[tuple[bytes, bytes | None, asyncio.Future[Acknowledged]]]] = {}
        self._broken: set[TopicPartition] = set()

    async def start(self) -> None:
        """Nothing is to be opened."""

    async def stop(self) -> None:
        """Nothing is open."""

    async def partitions_for(self, topic: str) -> set[int]:
        """The partitions that the topic has now."""
        return await self._luck.request(self._sender, lambda: self._partitions(topic))

    def _partitions(self, topic: str) -> set[int]:
        return {tp.partition for tp in self._logs if tp.topic == topic}

    async def send(
        self, topic: str, value: bytes | None, key: bytes, partition: int | None = None
    ) -> "asyncio.Future[Acknowledged]":
        """Queues a record; the future says what came of it."""
        await self._sender.gate()
        if partition is None:
            partition = partition_of(key, len(self._partitions(topic)))
        tp, sent = TopicPartition(topic, partition), asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(tp, [])
        queue.append((key, value, sent))
        if len(queue) == 1:
            self._luck.spawn(self._flush(tp))
        return sent

    async def _flush(self, tp: TopicPartition) -> None:
        luck = self._luck
        await luck.pause(0.05)
        batch = self._queues.pop(tp)
        arrived, late, failed = self._fate(tp, len(batch))
        append, first = self._logs[tp].append, self._logs[tp].end
        for key, value, _ in batch[:arrived]:
            append(value, key)
        luck.tell("sent", *tp, arrived, "of", len(batch), "late" if late else "", "failed" if failed else "")
        if late:
            luck.later(lambda: [append(value, key) for key, value, _ in batch])
        await luck.pause(0.05)
        await self._sender.gate()
        for offset, (_, _, sent) in enumerate(batch, first):
            if not sent.done():
                if failed:
                    sent.set_exception(errors.RequestTimedOutError())
                else:
                    sent.set_result(Acknowledged(offset))

    def _fate(self, tp: TopicPartition, count: int) -> tuple[int, bool, bool]:
        """How many records arrive now, whether all of them arrive late, whether the sender hears of a failure."""
        luck = self._luck
        if tp in self._broken or luck.strikes(0.05, "send_refused"):
            fate: tuple[int, bool, bool] = 0, False, True
        elif luck.strikes(0.05, "send_late"):
            fate = 0, True, True
        elif luck.strikes(0.03, "send_cut_short"):
            fate = luck.rng.randint(0, count), False, True
        elif luck.strikes(0.05, "send_answer_lost"):
            fate = count, False, True
        else:
            fate = count, False, False
        if fate[2]:
            self._broken.add(tp)
        return fate
