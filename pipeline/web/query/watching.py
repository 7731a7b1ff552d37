"""Kafka, read once for all who watch: from the first viewer on, until a little after the last one has gone."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from pipeline.config import Settings
from pipeline.core.asking.live.room import Live, Viewer
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.connection import Log
from pipeline.edge.kafka.tail import Tail
from pipeline.edge.metrics import LIVE_VIEWERS
from pipeline.web.asgi import Refused
from schemas.topics import AGGREGATES, ALERTS, EVENTS

log = structlog.get_logger()

VIEWERS_MAX = 100
READ_S = 0.2
TICK_S = 1.0
LINGER_S = 20.0  # a browser whose connection broke comes again within seconds, and finds what it missed
REST = 2.0  # times as long as records took: what else the process does goes on


class WatchRun:
    """From the first viewer to the last."""

    def __init__(self, live: Live) -> None:
        self.live, self.is_reading = live, False
        self._pulse = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def news(self, within_s: float) -> None:
        """Waits for something to happen. Raises what ended the reading."""
        if self.task is not None and self.task.done():
            self.task.result()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pulse.wait(), within_s)

    def beat(self) -> None:
        """Something has happened."""
        self._pulse.set()
        self._pulse = asyncio.Event()


class Watching:
    """All viewers of this process."""

    def __init__(self, kafka: Log, settings: Settings, clock: Clock) -> None:
        self._kafka, self._settings, self._clock = kafka, settings, clock
        self._run: WatchRun | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended = False

    def check(self) -> None:
        """Raises Refused where too many watch."""
        if self._run is not None and len(self._run.live.viewers) >= VIEWERS_MAX:
            raise Refused(503, "busy", f"{VIEWERS_MAX} viewers watch already", retry_after_s=30)

    @asynccontextmanager
    async def watch(self, viewer: Viewer, after: str) -> AsyncIterator[WatchRun]:
        """While it lasts, what the viewer wants is put before it."""
        run = self._run if self._run is not None else self._begun()
        run.live.join(viewer, after)
        LIVE_VIEWERS.set(len(run.live.viewers))
        try:
            yield run
        finally:
            run.live.leave(viewer)
            LIVE_VIEWERS.set(len(run.live.viewers))

    def end(self) -> None:
        """The process ends: everybody is told."""
        self.ended = True
        if self._run is not None:
            self._run.beat()

    async def stop(self) -> None:
        """Lets go of what it holds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begun(self) -> WatchRun:
        self._run = run = WatchRun(Live(secrets.token_hex(4), self._clock.now_ms(), self._settings.time_limits))
        run.task = asyncio.create_task(self._read(run))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        return run

    async def _read(self, run: WatchRun) -> None:
        names = [self._settings.topic(topic.name) for topic in (EVENTS, ALERTS, AGGREGATES)]
        tail = Tail(self._kafka, names)
        try:
            await tail.start()
            run.is_reading = True
            log.info("live_started")
            await self._follow(run, tail, *names)
        finally:
            self._run = None  # who comes now begins anew
            run.beat()
            await tail.stop()
            log.info("live_ended")

    async def _follow(self, run: WatchRun, tail: Tail, events: str, alerts: str, windows: str) -> None:
        live, loop = run.live, asyncio.get_running_loop()
        ticked_s = watched_s = loop.time()
        while loop.time() - watched_s < LINGER_S:
            run.beat()
            records = await tail.read(READ_S)
            began_s = loop.time()
            for record in records:
                if record.topic == events:
                    live.observe_event(record.value, record.timestamp, record.partition, record.offset)
                elif record.topic == alerts:
                    live.observe_alert(record.value)
                elif record.topic == windows:
                    live.observe_windows(record.partition, record.value)
            took_s = loop.time() - began_s
            if began_s - ticked_s >= TICK_S:
                ticked_s = began_s
                live.tick()
                if await tail.skip():
                    live.skip()
            watched_s = loop.time() if live.viewers else watched_s
            await asyncio.sleep(took_s * REST)
