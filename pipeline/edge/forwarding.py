"""Bodies that are passed on to another address besides: from memory only, tried once, never in anybody's way."""

import asyncio
from collections import deque

import aiohttp
import structlog

from pipeline.edge.metrics import FORWARDED
from pipeline.edge.notification.outcome import Sent
from pipeline.edge.notification.posting import own_session, post

log = structlog.get_logger()

BYTES_MAX = 16 << 20  # what waits; more is dropped, and counted
SIDE_BY_SIDE = 4


class Forwarder:
    """Posts what it is offered to one address. Whoever sent it to us gets no answer of it."""

    def __init__(self, url: str, bytes_max: int = BYTES_MAX) -> None:
        self._url, self._bytes_max = url, bytes_max
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._offered = asyncio.Semaphore(0)

    def offer(self, body: bytes) -> None:
        """Takes it if there is room."""
        if self._bytes + len(body) > self._bytes_max:
            FORWARDED.labels("dropped").inc()
            return
        self._bytes += len(body)
        self._waiting.append(body)
        self._offered.release()

    async def work(self) -> None:
        """Passes on, for ever."""
        async with own_session() as session, asyncio.TaskGroup() as group:
            for _ in range(SIDE_BY_SIDE):
                group.create_task(self._pass_on(session))

    async def _pass_on(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._offered.acquire()
            body = self._waiting.popleft()
            try:
                outcome = await post(session, self._url, body, {})
            finally:
                self._bytes -= len(body)
            FORWARDED.labels("sent" if isinstance(outcome, Sent) else "failed").inc()
            if not isinstance(outcome, Sent):
                log.warning("not_forwarded", why=outcome.reason)
