"""A worker process of ours, whole but for its clients: Partitions, Committer, Aggregator or Recorder, Writer."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from agents.aggregator import Aggregator
from agents.recorder import Recorder
from pipeline.config import Settings
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.kafka.group.commits import Committer
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.group.partitions import Partitions
from pipeline.edge.store.inserts import Answer, Writer
from schemas.topics import AGGREGATES, EVENTS
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.kafka import NOBODY, CommittedOffsets, Consumer, Log, Member, Producer
from tests.simulation.loop import now_s, pass_s
from tests.simulation.luck import Luck, Sender, ViolationError


class Topic(AggregatesTopic):
    """inference.aggregates by a producer of the small world."""

    def __init__(self, settings: Settings, make: Callable[[], Producer]) -> None:
        super().__init__(settings, settings.topic(AGGREGATES.name))
        self._make = make

    async def _open(self) -> Any:
        if self._producer is None:
            self._producer = self._make()
        return self._producer


class TableWriter(Writer):
    """The writer without HTTP."""

    def __init__(self, settings: Settings, sender: Sender, clickhouse: ClickHouse) -> None:
        super().__init__(settings)
        self._sender, self._clickhouse = sender, clickhouse

    async def _post(self, params: dict[str, str], body: bytes) -> Answer:
        return await self._clickhouse.answer(self._sender, params, body)


class App:
    """As much of a Faust app as a fold needs: agents on channels."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        self._spawn = spawn

    def channel(self, **_: Any) -> "Channel":
        """A queue."""
        return Channel()

    def agent(self, channel: "Channel", name: str) -> Callable[[Callable[[AsyncIterable[Any]], Any]], object]:
        """Starts what it decorates."""
        return lambda function: self._spawn(function(channel))


class Channel:
    """A queue to send to and to iterate over."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(8)

    async def send(self, value: Any) -> None:
        """Puts it in."""
        await self._queue.put(value)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await self._queue.get()


class Worker:
    """It may be frozen, and killed, at any await that leads to the world."""

    def __init__(
        self,
        name: str,
        role: str,
        settings: Settings,
        luck: Luck,
        group: CommittedOffsets,
        logs: dict[TopicPartition, Log],
        clickhouse: ClickHouse,
    ) -> None:
        self.name, self._luck, self._group = name, luck, group
        self.alive = True
        self._frozen_until_s = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._assigned: list[Partition] = []
        self.consumer = Consumer(luck, self, group, logs)
        app: Any = App(self._spawn)
        if role == "aggregator":
            aggregator = Aggregator(settings, app)
            aggregator.topic = Topic(settings, lambda: Producer(luck, self, logs))
            work = {settings.topic(EVENTS.name): aggregator.work}
        else:
            recorder = Recorder(settings, app)
            recorder.writer = TableWriter(settings, self, clickhouse)
            work = dict.fromkeys(recorder.routes, recorder.work)
        self.partitions = Partitions(settings, settings.group(role), work)
        self.partitions.consumer = self.consumer
        self.partitions.committer = Committer(self.consumer)
        self._spawn(self.partitions.committer.commit_forever())
        self._spawn(self._fetch_forever())
        luck.tell(name, "starts")

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.append(task)
        return task

    # -- what can happen to it

    async def gate(self) -> None:
        """Waits while it is frozen."""
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
            if partition.failure is not None and self._group.is_member(partition._member):
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
            await self._luck.pause(2.0)
            await self.gate()
            self.check()
            for tp, partition in list(self.partitions.partitions.items()):
                if (found := self.consumer.fetch(tp)) is not None:
                    partition.deliver(found)
