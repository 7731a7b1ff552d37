"""Requests that come again (Idempotency-Key): the first answer while it is remembered, the first attempt while it runs.

One process's own memory: behind a balancer the same client should come to the same process. What another one has taken
already is taken once more, with the same event_id.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

KEEP_S = 600.0
BYTES_MAX = 16 << 20
ENTRY_BYTES = 512  # what one costs beside its answer


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    until_s: float


class Repeats:
    """Answers by key, the oldest forgotten first."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self._running: dict[str, asyncio.Task[bytes]] = {}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self._unnamed: set[asyncio.Task[bytes]] = set()

    async def once(self, key: str, work: Callable[[], Coroutine[None, None, bytes]], within_s: float) -> bytes:
        """What `work` answers, now or the last time. Raises TimeoutError; the work goes on then, for the next attempt.

        An error of the work is raised, and not remembered. Without a key ("") nothing is.
        """
        if (found := self._remembered(key)) is not None:
            return found
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._run(key, work))
            if key:
                self._running[key] = task
            else:
                self._unnamed.add(task)
            task.add_done_callback(self._unnamed.discard)
            task.add_done_callback(_heard)
        done, _ = await asyncio.wait({task}, timeout=within_s)
        if not done:
            raise TimeoutError
        return task.result()

    async def settle(self, within_s: float) -> None:
        """Waits for what is still running."""
        running = [*self._running.values(), *self._unnamed]
        if running:
            await asyncio.wait(running, timeout=within_s)

    async def _run(self, key: str, work: Callable[[], Coroutine[None, None, bytes]]) -> bytes:
        try:
            body = await work()
        finally:
            self._running.pop(key, None)
        if key:
            self._kept[key] = _Kept(body, _now() + KEEP_S)
            self._bytes += len(key) + len(body) + ENTRY_BYTES
            while self._bytes > BYTES_MAX:
                self._forget(next(iter(self._kept)))
        return body

    def _remembered(self, key: str) -> bytes | None:
        while self._kept and next(iter(self._kept.values())).until_s <= _now():
            self._forget(next(iter(self._kept)))
        found = self._kept.get(key) if key else None
        return None if found is None else found.body

    def _forget(self, key: str) -> None:
        self._bytes -= len(key) + len(self._kept.pop(key).body) + ENTRY_BYTES


def _heard(task: "asyncio.Task[bytes]") -> None:
    """An error that nobody waited for is none of the loop's business: whoever comes again meets it."""
    if not task.cancelled():
        task.exception()


def _now() -> float:
    return asyncio.get_running_loop().time()
