"""Requests and responses of inferences, by id: a bounded table of those whose other half has not come yet."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.edge.metrics import INFERENCES_UNMATCHED

HALVES_MAX = 20_000
KEEP_S = 60.0
LATE_S = 1.0  # how long a response waits for its request: KServe's logger sends both at once, from several workers

Key = tuple[str, str, str]  # workspace, source, id


@dataclass(frozen=True, slots=True)
class Half:
    """A request: when, and what is to be remembered of it (numbers only: it is small)."""

    time_ms: int
    about: Mapping[str, Any]


class Pairs:
    """The oldest is forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: OrderedDict[Key, tuple[float, Half]] = OrderedDict()
        self._awaited: dict[Key, asyncio.Future[Half]] = {}

    def request(self, key: Key, half: Half) -> None:
        """A request came."""
        if (waiting := self._awaited.get(key)) is not None:
            if not waiting.done():
                waiting.set_result(half)
            return
        now = self._clock.monotonic()
        self._requests[key] = now, half
        while self._requests:
            since, _ = next(iter(self._requests.values()))
            if len(self._requests) <= HALVES_MAX and now - since <= KEEP_S:
                return
            self._requests.popitem(last=False)
            INFERENCES_UNMATCHED.inc()

    async def response(self, key: Key) -> Half | None:
        """The request of a response that came; None: nobody knows it."""
        if (found := self._requests.pop(key, None)) is not None:
            return found[1]
        if key in self._awaited or len(self._awaited) >= HALVES_MAX:
            INFERENCES_UNMATCHED.inc()
            return None
        waiting = self._awaited[key] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(waiting, LATE_S)
        except TimeoutError:
            INFERENCES_UNMATCHED.inc()
            return None
        finally:
            del self._awaited[key]
