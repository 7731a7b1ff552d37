"""A TCP proxy between a worker and ClickHouse that loses what it is told to lose. Seeded."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from urllib.parse import urlsplit

from pipeline.edge.local.ports import HOST, free_port

_CHUNK = 1 << 16


class Mode(StrEnum):
    """What happens to the traffic."""

    PASS = "pass"
    RESET = "reset"  # the connection breaks before the server has seen all, after any byte
    DROP = "drop"  # the server has done it; the answer is lost, the connection breaks
    HOLE = "hole"  # the answer is swallowed, the connection stays
    TORN = "torn"  # the answer ends after any byte, the connection breaks
    LATE = "late"  # the answer takes its time
    CUT = "cut"  # nobody comes through


class Proxy:
    """Listens at `url` while it is open."""

    def __init__(self, target: str, seed: int, probability: float = 0.5) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._random = random.Random(seed)
        self._probability = probability
        self._port = free_port()
        self.mode = Mode.PASS
        self.hits: Counter[Mode] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._listening = threading.Event()

    @property
    def url(self) -> str:
        """Where a worker finds it."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @contextmanager
    def doing(self, mode: Mode) -> Iterator[None]:
        """This mode, for a while."""
        self.mode = mode
        try:
            yield
        finally:
            self.mode = Mode.PASS

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, self._port))
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _strikes(self, *modes: Mode) -> bool:
        hit = self.mode in modes and (self.mode is Mode.CUT or self._random.random() < self._probability)
        if hit:
            self.hits[self.mode] += 1
        return hit

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._strikes(Mode.CUT):
                raise ConnectionError
            there = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._up(reader, there[1])),
            asyncio.create_task(self._down(there[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            there[1].transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if self._strikes(Mode.RESET):
                writer.write(data[: self._random.randrange(len(data))])  # a part of it arrives
                return
            if self._strikes(Mode.CUT):
                return
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            mode = self.mode
            if self._strikes(Mode.DROP, Mode.TORN, Mode.HOLE, Mode.LATE, Mode.CUT):
                if mode is Mode.TORN:
                    writer.write(data[: self._random.randrange(len(data))])
                if mode in (Mode.DROP, Mode.TORN, Mode.CUT):
                    return
                if mode is Mode.HOLE:
                    continue
                await asyncio.sleep(self._random.uniform(0.5, 4))
            writer.write(data)
            await writer.drain()
