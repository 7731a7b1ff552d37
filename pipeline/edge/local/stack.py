"""`inferwatch up`: a Kafka, a ClickHouse and our workers, started in order, supervised, and stopped in order.

    async with Stack(directory, roles=("aggregator", "recorder")) as stack:
        stack.settings    # what every process of ours is started with

One process supervises a directory (its lock). A child that ends is started again after a growing wait, with the
same port and the same data; endpoints.json follows its pid.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiokafka.errors import KafkaError

from pipeline.config import Settings, load
from pipeline.edge.kafka.client import Kafka, KafkaUnavailable
from pipeline.edge.local import EmbeddedError, Progress, ProgressCallback, unwatched
from pipeline.edge.local.clickhouse import EmbeddedClickHouse
from pipeline.edge.local.directory import DirectoryLock, FreeSpace, free_bytes, write_private_json
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.kafka import EmbeddedKafka
from pipeline.edge.local.layout import (
    ENDPOINTS,
    SERVER_PORTS,
    chosen_ports,
    endpoints,
    kept_secrets,
    servers,
    settings_for,
    web_settings,
)
from pipeline.edge.local.machine import check_machine
from pipeline.edge.local.worker import Worker
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.migrations import migrate
from schemas.roles import WEB

BEHIND_S = 60.0  # a worker that works, but is not ready by then, has something to catch up with
SAY_S = 20.0  # after which it is said what is waited for; the next time after twice as long
HEALTHY_S = 60.0  # who has lived this long is restarted at once when it ends
WAIT_S_MAX = 30.0
_POLL_S = 0.1


class Stack:
    """Everything that runs in one data directory."""

    def __init__(
        self,
        directory: Path,
        *,
        roles: Sequence[str] = (),
        ports: Mapping[str, int] | None = None,
        settings: Settings | None = None,
        progress: ProgressCallback = unwatched,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.directory = directory.absolute()
        self.endpoints_file = self.directory / ENDPOINTS
        self._roles, self._told = tuple(roles), dict(ports or {})
        self._base = load() if settings is None else settings
        self._progress, self._notice = progress, notice
        self._lock = DirectoryLock(self.directory)
        self._stopping = False
        self._has_room = asyncio.Event()  # for Kafka, on the disk
        self._supervisors: list[asyncio.Task[None]] = []
        self._api_key = ""
        self.settings = self._base
        self.kafka: EmbeddedKafka | None = None
        self.clickhouse: EmbeddedClickHouse | None = None
        self.workers: dict[str, Worker] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts all and returns when all is ready; whatever goes wrong, nothing is left running."""
        self._stopping = False
        self._has_room.set()
        self._lock.acquire()
        try:
            self.endpoints_file.unlink(missing_ok=True)
            for warning in check_machine(self.directory):
                self._notice(warning)
            self._make_servers()
            await self._start_servers()
            await self._prepare_servers()
            await self._start_workers()
            self._write_endpoints()
        except BaseException:
            await self.stop()
            raise
        watches = [self._watch_disk(), *(self._supervise(engine) for engine in self._engines())]
        self._supervisors = [asyncio.create_task(watch) for watch in watches]

    async def stop(self) -> None:
        """Stops workers, then ClickHouse, then Kafka: each may finish what it has begun."""
        self._stopping = True
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors = []
        workers = list(self.workers.values())
        order: tuple[Sequence[Engine | None], ...] = (workers, (self.clickhouse,), (self.kafka,))
        for engines in order:
            running = [engine for engine in engines if engine is not None and engine.alive]
            for engine, willing in zip(
                running, await asyncio.gather(*(asyncio.to_thread(e.stop) for e in running)), strict=True
            ):
                if not willing:
                    self._notice(f"{engine.name} did not stop in time and was killed")
        for engine in self._engines():
            engine.stop()  # has ended; lets go of its lock
        self.endpoints_file.unlink(missing_ok=True)
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL to all children, at once."""
        for engine in self._engines():
            engine.kill9()

    def endpoints(self) -> dict[str, Any]:
        """Addresses, users and pids, as in endpoints.json."""
        return endpoints(
            self.settings,
            self.web.url if self.web else None,
            self._api_key,
            {engine.name: engine.pid for engine in self._engines()},
            {role: worker.metrics_url for role, worker in self.workers.items()},
        )

    @property
    def web(self) -> Worker | None:
        """The HTTP side, if it is among what was asked for."""
        return self.workers.get(WEB)

    def _engines(self) -> list[Engine]:
        return [engine for engine in (self.kafka, self.clickhouse) if engine] + list(self.workers.values())

    def _make_servers(self) -> None:
        ports = chosen_ports(self.directory, (*SERVER_PORTS, *self._roles), self._told)
        secrets = kept_secrets(self.directory)
        self._api_key = secrets.api_key
        database = self._base.clickhouse_database
        self.kafka, self.clickhouse = servers(self.directory, ports, secrets.passwords, [database])
        self.settings = settings_for(self._base, self.kafka.bootstrap, self.clickhouse.url, secrets.passwords)
        logs = self.directory / "logs"
        told = {WEB: web_settings(self.settings, self.directory, secrets)}
        self.workers = {
            role: Worker(role, told.get(role, self.settings), web_port=ports[role], logs=logs) for role in self._roles
        }

    async def _start_servers(self) -> None:
        assert self.kafka is not None
        assert self.clickhouse is not None
        await _together(self._bring_up("ClickHouse", self.clickhouse), self._bring_up("Kafka", self.kafka))

    async def _prepare_servers(self) -> None:
        assert self.kafka is not None
        assert self.clickhouse is not None
        await self._step("Topics", self._create_topics, self.kafka)
        await self._step("Tables", lambda: migrate(self.settings), self.clickhouse)

    async def _start_workers(self) -> None:
        steps = {WEB: "HTTP side"}
        await _together(
            *(self._bring_up(steps.get(role, role.capitalize()), one) for role, one in self.workers.items())
        )

    async def _bring_up(self, step: str, engine: Engine) -> None:
        await asyncio.to_thread(engine.prepare, self._tell)
        self._tell(Progress(step))
        engine.spawn()
        await self._wait_ready(engine, step)
        self._tell(Progress(step, 1, 1))

    async def _create_topics(self) -> None:
        async with Kafka(self.settings) as kafka:
            await kafka.create_topics()

    async def _step(self, step: str, work: Callable[[], Awaitable[object]], engine: Engine) -> None:
        """Work that `engine` does for us, which may take its time as well."""
        self._tell(Progress(step))
        patience = engine.patience()
        while True:
            try:
                await work()
                break
            except (KafkaUnavailable, ClickHouseUnavailable, KafkaError, TimeoutError) as error:
                is_passing = not isinstance(error, KafkaError) or error.retriable
                if not is_passing or not engine.alive or engine.waits_in_vain(patience):
                    raise
                self._notice(f"{engine.name} is slow: {patience.story}; asked again")
                await asyncio.sleep(1)
        self._tell(Progress(step, 1, 1))

    def _tell(self, progress: Progress) -> None:
        if self._stopping:  # ends what cannot be cancelled, such as a fetch in a thread
            raise EmbeddedError("stopped while starting")
        self._progress(progress)

    async def _wait_ready(self, engine: Engine, step: str = "") -> None:
        """Waits until it answers, for as long as it gets on. Raises EmbeddedError when it stands still."""
        patience, say_s = engine.patience(), SAY_S
        while not await asyncio.to_thread(engine.ready):
            if engine.waits_in_vain(patience):
                raise EmbeddedError(engine.too_slow(patience))
            if patience.waited_s >= BEHIND_S and isinstance(engine, Worker) and await asyncio.to_thread(engine.healthy):
                self._notice(f"{engine.name} works but is not ready yet (it may be behind); its log is {engine.log}")
                return
            if step:
                self._tell(Progress(step, detail=patience.story if patience.waited_s >= SAY_S / 2 else ""))
            if patience.waited_s >= say_s:
                say_s *= 2
                self._notice(f"{engine.name} does not answer yet, but works: {patience.story}")
            await asyncio.sleep(_POLL_S)

    async def _supervise(self, engine: Engine) -> None:
        wait_s = 0.5
        while True:
            started = time.monotonic()
            while engine.alive:
                await asyncio.sleep(_POLL_S)
            if time.monotonic() - started >= HEALTHY_S:
                wait_s = 0.5
            if engine is self.kafka and not self._has_room.is_set():
                await self._has_room.wait()
                problem = await self._again(engine)
            else:
                problem = engine.ended()
            while problem:
                wait_s = min(2 * wait_s, WAIT_S_MAX)
                self._notice(f"{problem}; started again in {wait_s:.0f} s")
                await asyncio.sleep(wait_s)
                problem = await self._again(engine)

    async def _watch_disk(self) -> None:
        """Kafka would die of a full disk, in the middle of a record: stopped in order before, it comes back whole."""
        assert self.kafka is not None
        room, inserts = FreeSpace.of(self.directory), True
        while True:
            free = free_bytes(self.directory)
            told = f"only {free / 1e6:.0f} MB free on the disk of {self.directory}"
            if inserts and free < room.insert_bytes:
                inserts = False
                self._notice(f"{told}: ClickHouse takes nothing in, records wait in Kafka; free some space")
            elif free >= 2 * room.insert_bytes:
                inserts = True
            if self._has_room.is_set() and free < room.kafka_bytes:
                self._has_room.clear()
                self._notice(f"{told}: Kafka stands still until {room.merge_bytes / 1e6:.0f} MB are free")
                await asyncio.to_thread(self.kafka.stop)
            elif free >= room.merge_bytes:
                self._has_room.set()
            await asyncio.sleep(_POLL_S)

    async def _again(self, engine: Engine) -> str:
        """Starts it once more; what went wrong, or ''."""
        try:
            engine.spawn()
            self._write_endpoints()
            await self._wait_ready(engine)
        except EmbeddedError as error:
            if not engine.alive:
                return str(error)
            self._notice(str(error))
        else:
            self._notice(f"{engine.name} is back")
        return ""

    def _write_endpoints(self) -> None:
        write_private_json(self.endpoints_file, self.endpoints())


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All of them; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
