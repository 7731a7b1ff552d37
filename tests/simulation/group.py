"""A role's workers and what happens to them: crashes, zombies, take-overs, joins and leaves in order."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiokafka.structs import TopicPartition

from tests.simulation.loop import pass_s
from tests.simulation.worker import Place, Worker

WORKERS_MAX = 3


class Group:
    """The members of one consumer group. Rebalances are eager: everything is revoked every time."""

    def __init__(self, role: str, place: Place, tps: Callable[[], Sequence[TopicPartition]]) -> None:
        self._role, self._place, self._tps = role, place, tps
        self._luck, self.state = place.luck, place.groups[role]
        self._hired: list[Worker] = []
        self.members: list[Worker] = []
        self._lost: set[Worker] = set()
        self._rebalancing = asyncio.Lock()

    def _hire(self) -> Worker:
        self._hired.append(Worker(f"{self._role}-{len(self._hired)}", self._role, self._place, self._lose))
        return self._hired[-1]

    def check(self) -> None:
        """That none has met what it does not understand; zombies too."""
        for worker in self._hired:
            worker.check()

    def has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether its members have come so far."""
        found = {tp: one.next_offset for m in self.members for tp, one in m.partitions.partitions.items()}
        return all(found.get(tp, 0) >= end for tp, end in ends.items())

    def kill(self) -> None:
        """All at once."""
        for worker in self._hired:
            if worker.alive:
                worker.kill()
        self.members, self.state.members = [], set()

    def _lose(self, worker: Worker) -> None:
        """It stands still or is dead, and is still a member: that is noticed later."""

        async def notice() -> None:
            await self._luck.pause(4)
            if worker in self.members:
                await self._replace(worker)

        self._luck.spawn(notice())

    async def disturb(self, pace_s: float) -> None:
        """Until the storm is over, one misfortune after another."""
        rng = self._luck.rng
        freezes = (self.freeze, self.freeze) if self._place.freezes else ()
        acts = (self.crash, self.crash, *freezes, self.join, self.leave, self.shake)
        while True:
            await pass_s(rng.expovariate(1 / pace_s))
            if not self._luck.stormy:
                return
            await rng.choice(acts)()

    async def crash(self) -> None:
        """A worker is killed; the group notices later."""
        self._luck.note("crash")
        worker = self._luck.rng.choice(self.members)
        if worker.alive:
            worker.kill()
        await self._luck.pause(5)
        await self._replace(worker)

    async def freeze(self) -> None:
        """A worker stands still; perhaps the group takes it for dead, and it goes on as a zombie."""
        rng, worker = self._luck.rng, self._luck.rng.choice(self.members)
        worker.freeze(10 * rng.random())
        self._luck.note("freeze")
        if rng.random() < 0.8:
            await self._luck.pause(2)
            await self._replace(worker)

    async def join(self) -> None:
        """One more."""
        if len(self.members) < WORKERS_MAX:
            self._luck.note("join")
            await self.rebalance([*self.members, self._hire()])

    async def leave(self) -> None:
        """A worker ends in order."""
        self._luck.note("leave")
        worker = self._luck.rng.choice(self.members)
        await self.rebalance([m for m in self.members if m is not worker] or [self._hire()])

    async def shake(self) -> None:
        """A rebalance without a reason."""
        self._luck.note("rebalance")
        await self.rebalance(self.members)

    async def _replace(self, lost: Worker) -> None:
        rest = [m for m in self.members if m is not lost]
        if not rest or self._luck.rng.random() < 0.4:
            rest.append(self._hire())
        await self.rebalance(rest)

    async def rebalance(self, members: Sequence[Worker]) -> None:
        """Revokes, ends the generation, assigns. Who does not answer is a member no more."""
        async with self._rebalancing:
            before = self.members
            await asyncio.gather(*(m.revoke() for m in before if m.alive and not self._is_lost(m)))
            here = [m for m in members if m.alive and not self._is_lost(m)]
            await self._assign(here or [self._hire()])
            for worker in before:
                if worker.alive and worker not in self.members:
                    self._luck.spawn(self._go_on_as_zombie(worker))

    def _is_lost(self, worker: Worker) -> bool:
        """Whether it is no member any more; one that does not answer is none from here on."""
        if worker.is_frozen:
            self._lost.add(worker)
        if worker in self._lost:
            self.state.members.discard(worker.name)
        return worker in self._lost

    async def _assign(self, members: list[Worker]) -> None:
        state, tps = self.state, list(self._tps())
        state.generation += 1
        state.members = {m.name for m in members}
        self.members = members
        self._luck.rng.shuffle(tps)
        for i, worker in enumerate(members):
            await worker.assign((state.generation, worker.name), tps[i :: len(members)])

    async def _go_on_as_zombie(self, worker: Worker) -> None:
        if worker.is_frozen:
            self._luck.note("zombie")
        self._lost.add(worker)
        await worker.gate()
        await self._luck.pause(3)
        if worker.alive:
            await worker.find_out()
            worker.kill()

    async def stop(self) -> None:
        """All end in order."""
        async with self._rebalancing:
            await asyncio.gather(*(m.revoke() for m in self.members))
            for worker in self.members:
                if worker.alive:
                    worker.kill()
