"""What the seed decides: how long things take, what goes wrong, and what has happened."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from tests.simulation.loop import now_s, pass_s

Answer = TypeVar("Answer")


class ViolationError(AssertionError):
    """A promise is broken."""


class Sender(Protocol):
    """Whoever sends a request: a worker, which may be frozen."""

    async def gate(self) -> None:
        """Waits while it is frozen."""


class Luck:
    """One seed's dice. `stormy` until the faults end."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.rng = random.Random(seed)
        self.stormy = True
        self.counts: Counter[str] = Counter()
        self.trace = trace

    def strikes(self, share: float, what: str) -> bool:
        """Whether a fault of this frequency happens now."""
        if not self.stormy or self.rng.random() >= share:
            return False
        self.note(what)
        return True

    def note(self, what: str, *details: object) -> None:
        """Counts what happened, and tells it to who listens."""
        self.counts[what] += 1
        self.tell(what, *details)

    def tell(self, *details: object) -> None:
        """To who listens, if anybody does."""
        if self.trace is not None:
            self.trace(f"{now_s():8.3f} " + " ".join(map(str, details)))

    async def pause(self, longest_s: float) -> None:
        """Some time, at most that."""
        await pass_s(longest_s * self.rng.random())

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Runs it beside everything else. It belongs to no worker, so it outlives them."""
        return asyncio.get_running_loop().create_task(coroutine)

    async def request(self, sender: Sender, effect: Callable[[], Answer]) -> Answer:
        """There and back. Once it is sent, the effect comes, whatever becomes of the sender."""
        await sender.gate()
        answer: Answer = await asyncio.shield(self.spawn(self._carry(effect)))
        await sender.gate()
        return answer

    async def _carry(self, effect: Callable[[], Answer]) -> Answer:
        slow = self.stormy and self.rng.random() < 0.1
        await self.pause(1.0 if slow else 0.02)
        answer = effect()
        if slow:
            await self.pause(1.0)
        return answer

    def later(self, effect: Callable[[], object]) -> None:
        """An attempt that its sender has given up, and that arrives all the same."""

        async def arrive() -> None:
            await self.pause(8.0)
            effect()

        self.spawn(arrive())
