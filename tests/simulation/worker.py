"""A worker process of ours, whole but for its clients: its role, Partitions, Committer, Producer, Writer, Delivery."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from aiokafka.structs import TopicPartition

from agents.aggregator import Aggregator
from agents.detector import Detector
from agents.notifier import NotifierWork
from agents.recorder import Recorder
from agents.world import World
from pipeline.config import Settings
from pipeline.core.ledger.resume import Problem
from pipeline.core.windows.aggregation import Bounds
from pipeline.edge.kafka.group.commits import Committer
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions, Work
from pipeline.edge.store.inserts import Writer
from schemas.topics import AGGREGATES, EVENTS, HEARTBEATS, SILENCES
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.clients import Client
from tests.simulation.counts import Counts
from tests.simulation.kafka import NOBODY, CommittedOffsets, Consumer, Log, Member
from tests.simulation.loop import Clock, now_s, pass_s
from tests.simulation.luck import Luck, ViolationError
from tests.simulation.people import People

T = TypeVar("T")

# Limits so small that they are met; and waits so long that a run costs few turns of the loop.
BOUNDS = Bounds(pending=3, names=6)
PART_BYTES = 2000
IDLE_S = 4.0
TURN_S = 2.5


async def directly(batch: Callable[[], T], /) -> T:
    """Folds by a plain call: there is no Faust here."""
    return batch()


@dataclass(frozen=True, slots=True)
class Job:
    """What a role does: on the partitions of some topics, and all the while."""

    work: Mapping[str, Work]
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()


Employ = Callable[[Settings, World], Job]


def aggregator(settings: Settings, world: World) -> Job:
    """As agents.aggregator.make has it."""
    return Job({settings.topic(EVENTS.name): Aggregator(settings, world, directly, BOUNDS, PART_BYTES).work})


def recorder(settings: Settings, world: World) -> Job:
    """As agents.recorder.make has it."""
    role = Recorder(settings, world, directly, IDLE_S)
    return Job(dict.fromkeys(role.routes, role.work))


def detector(settings: Settings, world: World) -> Job:
    """As agents.detector.make has it."""
    return watching(settings, Detector(settings, world, directly))


def watching(settings: Settings, role: Detector) -> Job:
    """What a detector does."""
    work = {settings.topic(AGGREGATES.name): role.watch_models, settings.topic(HEARTBEATS.name): role.watch_devices}
    return Job(work, (role.rules.follow_forever, role.silences.follow_forever))


def notifier(settings: Settings, world: World) -> Job:
    """As agents.notifier.make has it."""
    return notifying(settings, NotifierWork(settings, world, TURN_S))


def notifying(settings: Settings, role: NotifierWork) -> Job:
    """What a notifier does."""
    return Job({settings.topic(SILENCES.name): role.work}, (role.rules.follow_forever,))


ROLES: Mapping[str, Employ] = {
    "aggregator": aggregator,
    "recorder": recorder,
    "detector": detector,
    "notifier": notifier,
}


@dataclass(frozen=True, slots=True)
class Bug:
    """A rule that is broken on purpose; without anything, none is."""

    roles: Mapping[str, Employ] = field(default_factory=lambda: ROLES)
    fencing: bool = True  # whether the brokers look at the generation of who commits
    committer: Callable[[Any], Committer] = Committer


@dataclass(frozen=True)
class Place:
    """What the workers of a small world share."""

    settings: Settings
    luck: Luck
    clock: Clock
    logs: dict[TopicPartition, Log]
    groups: dict[str, CommittedOffsets]
    clickhouse: ClickHouse
    people: People
    bug: Bug
    freezes: bool = True  # whether workers do
    here: float = 0.002  # this share of all requests is where a worker crashes, or freezes
    fetch_s: float = 2.0  # at most between two fetches of a worker


class Worker:
    """It may be frozen, and killed, at any await that leads to the world."""

    def __init__(self, name: str, role: str, place: Place, lost: "Callable[[Worker], None]") -> None:
        """`lost` is told when it ends or freezes in the middle of something."""
        luck, settings = place.luck, place.settings
        self.name, self._luck, self._group = name, luck, place.groups[role]
        self.alive, self._fetch_s = True, place.fetch_s
        self._freezes, self._here, self._lost = place.freezes, place.here, lost
        self._frozen_until_s = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._assigned: list[Partition] = []
        client = Client(luck, self, place.logs, place.groups)
        world = World(
            place.clock,
            client,
            Writer(settings, partial(place.clickhouse.answer, self), place.clock),
            partial(place.people.senders, name, self),
            cast(Any, Counts(luck)),
        )
        job = place.bug.roles[role](settings, world)
        self.consumer = Consumer(luck, place.clock, self, self._group, place.logs)
        self.partitions = Partitions(settings, client, place.clock, settings.group(role), job.work)
        self.partitions.consumer = self.consumer
        self.partitions.committer = place.bug.committer(self.consumer)
        for background in (self.partitions.committer.commit_forever, self._fetch_forever, *job.background):
            self._spawn(background())
        luck.tell(name, "starts")

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.append(task)
        return task

    # -- what can happen to it

    async def gate(self) -> None:
        """Before and after each request. Waits while it is frozen, which may begin here; so may its end."""
        if self._luck.strikes(self._here, "crash_here"):
            self.kill()
            self._lost(self)
        elif self._freezes and not self.is_frozen and self._luck.strikes(self._here, "freeze_here"):
            self.freeze(10 * self._luck.rng.random())
            self._lost(self)
        while (left_s := self._frozen_until_s - now_s()) > 0:
            await pass_s(left_s)

    def freeze(self, seconds: float) -> None:
        """It goes on later, as if nothing had been."""
        self._frozen_until_s = now_s() + seconds
        self._luck.tell(self.name, "freezes for", round(seconds, 3))

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self._frozen_until_s > now_s()

    def kill(self) -> None:
        """It does nothing any more; what it has sent is on its way."""
        self.check()
        self._luck.tell(self.name, "ends")
        self.alive = False
        for task in [*self._tasks, *(partition.task for partition in self._assigned)]:
            if task is not None:
                task.cancel()

    def check(self) -> None:
        """That it has met nothing that it does not understand."""
        if self.partitions.error is not None:
            raise ViolationError(f"{self.name} fails: {self.partitions.error!r}") from self.partitions.error
        for partition in self._assigned:
            # A zombie may compare what it learned before it froze with what others have done since.
            failure = partition.failure
            # A topic that was made anew waits for its operator.
            if failure and Problem.ANEW.value not in failure and self._group.is_member(partition._member):
                raise ViolationError(f"{self.name} stands still: {partition.failure}")

    # -- its group

    async def revoke(self) -> None:
        """The group asks for all partitions back."""
        await self._call(self.partitions.on_partitions_revoked([]))

    async def assign(self, member: Member, tps: Sequence[TopicPartition]) -> None:
        """A new generation."""
        self._luck.tell(self.name, "is", member, "of", *(f"{tp.topic}/{tp.partition}" for tp in tps))
        self.consumer.join(member)
        await self._call(self.partitions.on_partitions_assigned(tps))
        self._assigned += self.partitions.partitions.values()

    async def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Waits for it, or for the worker's end."""
        task = self._spawn(coroutine)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def find_out(self) -> None:
        """Its heartbeat is refused: it is no member any more."""
        await self.gate()
        self.consumer._coordinator.generation, self.consumer._coordinator.member_id = NOBODY
        await self.revoke()

    async def _fetch_forever(self) -> None:
        while True:
            await self._luck.pause(self._fetch_s)
            await self.gate()
            self.check()
            found = {tp: self.consumer.fetch(tp) for tp in self.partitions.partitions}
            await self.partitions.take_in({tp: batch for tp, batch in found.items() if batch is not None})
