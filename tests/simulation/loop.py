"""An event loop without a world: time jumps to the next timer, and everything happens the same way every time."""

import asyncio
from collections.abc import Callable
from typing import Any

TURN_S = 1e-6  # that a turn of the loop takes: time never stands still


class StuckError(AssertionError):
    """Nothing can happen any more, and the run is not over."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Hours pass in milliseconds. Threads, sockets and signals have no place here."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = self
        self.set_exception_handler(lambda loop, context: None)  # what a killed worker leaves behind

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Waits for nothing: the next timer is the next event."""
        if timeout is None:
            raise StuckError("nothing is left to happen")
        self._now_s += timeout + TURN_S
        return []

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """There are no threads: it is done at once, and known a turn later."""
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def end(self) -> None:
        """Ends all tasks, and closes."""
        for task in (tasks := asyncio.all_tasks(self)):
            task.cancel()

        async def wait() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run_until_complete(wait())
        self.close()


def now_s() -> float:
    """The time of the loop that runs."""
    return asyncio.get_running_loop().time()


async def pass_s(seconds: float) -> None:
    """Lets this much of the loop's time go by, which costs nothing: nobody waits for it."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()


class Clock:
    """The wall clock of a small world, and the loop's time as what never goes back."""

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._start_ms + int(now_s() * 1000)

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return now_s()
