"""An answer that costs something and is the same for everybody: asked once at a time, and kept for a moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """Whoever asks while it is being asked waits for the same answer; who goes away ends it for nobody else."""

    def __init__(self, keep_s: float) -> None:
        """An answer is good for `keep_s`."""
        self._keep_s = keep_s
        self._asking: asyncio.Task[T] | None = None
        self._asked_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether it is being asked."""
        return self._asking is not None and not self._asking.done()

    async def get(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, new or kept. A failure is kept for nobody."""
        now = asyncio.get_running_loop().time()
        task = self._asking
        is_good = task is not None and (
            not task.done() or (now - self._asked_at < self._keep_s and not task.cancelled() and not task.exception())
        )
        if task is None or not is_good:
            self._asked_at = now
            task = self._asking = asyncio.ensure_future(_asked(ask))
        return await asyncio.shield(task)


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()
