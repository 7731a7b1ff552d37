"""The Faust app that hosts a worker: its services, its agent on a channel of batches, its web pages.

Faust's own Kafka consumer stays off: its acks, commits, tables and windows lose or repeat data. An aiokafka consumer
inside a Service owns partitions, cuts and names (pipeline.edge.kafka.group), and hands whole batches to the agent.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import faust
import structlog
from faust.app.base import BootStrategy
from faust.web import Request, Response, View
from mode import Service
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agents.world import World
from pipeline.config import Settings
from pipeline.edge.kafka.group.partitions import Partitions

log = structlog.get_logger()

HEALTHY_S = 30.0  # the fetch loop has turned within that
READY_LAG_S = 60.0

T = TypeVar("T")


class _NoKafkaBoot(BootStrategy):
    enable_kafka = False


class _App(faust.App):
    BootStrategy = _NoKafkaBoot

    async def on_first_start(self) -> None:
        """Makes no directories: we have no tables, and the file system may be read-only."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a worker is: its partitions, and what must be open while it works."""

    name: str
    world: World
    partitions: Partitions
    outputs: "tuple[Output, ...]"
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()  # runs for as long as the worker does


class Output(Protocol):
    """Where a role's work goes."""

    reachable: bool

    async def start(self) -> None:
        """Opens it."""

    async def stop(self) -> None:
        """Closes it."""


class Fold(Protocol):
    """How a worker has a batch folded: by a Faust agent, or (in the simulation) by a plain call."""

    async def __call__(self, batch: Callable[[], T], /) -> T:
        """What comes of a batch."""


class Folding:
    """Batches go through a Faust channel to a Faust agent, and the caller gets what came of its own.

    That Faust agents compute what we tell is a requirement of the product, no need of the code: `batch()` would do.
    It costs a queue of eight and a turn of the loop a batch.
    """

    def __init__(self, app: faust.App, name: str) -> None:
        """Registers the agent with the app."""
        self._channel = app.channel(value_type=None, maxsize=8)

        async def fold(batches: AsyncIterable[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> None:
            async for batch, answer in batches:
                if answer.done():  # the caller is gone
                    continue
                try:
                    answer.set_result(batch())
                except Exception as error:  # whatever it is belongs to the caller, whose partition it stops
                    answer.set_exception(error)

        app.agent(self._channel, name=name)(fold)

    async def __call__(self, batch: Callable[[], T], /) -> T:
        """What comes of `batch`."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self._channel.send(value=(batch, answer))
        return await answer


def make_app(role: str, settings: Settings) -> faust.App:
    """A Faust app without Kafka of its own."""
    return _App(
        f"inferwatch-{role}",
        broker=f"kafka://{settings.kafka_bootstrap.split(',')[0]}",  # never contacted
        store="memory://",
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=True,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web_port,
        debug=False,
    )


def host(app: faust.App, role: Role) -> None:
    """Makes the app run the role, and answer /metrics, /healthz and /readyz."""

    class Host(Service):
        """Starts and stops what the role needs; ends the process when the role fails."""

        async def on_start(self) -> None:
            app.flow_control.resume()  # otherwise the channel waits for Faust's own consumer
            for output in role.outputs:
                await output.start()

        @Service.task
        async def _work(self) -> None:
            await asyncio.gather(role.partitions.run_forever(), *(run() for run in role.background))

        async def on_stop(self) -> None:
            await role.partitions.stop()
            for output in role.outputs:
                await output.stop()
            await role.world.log.close()

    app.service(Host)
    _add_pages(app, role)


def _add_pages(app: faust.App, role: Role) -> None:
    @app.page("/metrics")
    class Metrics(View):
        """Prometheus' text."""

        async def get(self, request: Request) -> Response:
            """All metrics of this process."""
            return self.bytes(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @app.page("/healthz")
    class Health(View):
        """Whether the process works."""

        async def get(self, request: Request) -> Response:
            """503 when it should be restarted."""
            silent_s = role.world.clock.monotonic() - role.partitions.fetched_at
            ok = role.partitions.error is None and (silent_s < HEALTHY_S or not role.partitions.assigned)
            return self.json(
                {"ok": ok, "role": role.name, "fetched_s_ago": round(silent_s, 1)}, status=200 if ok else 503
            )

    @app.page("/readyz")
    class Ready(View):
        """Whether it keeps up."""

        async def get(self, request: Request) -> Response:
            """503 with the reasons when it does not."""
            why = not_ready(role)
            body = {"ready": not why, "role": role.name, "why": why, "partitions": len(role.partitions.partitions)}
            return self.json(body, status=503 if why else 200)


def not_ready(role: Role) -> list[str]:
    """Why the worker is not ready; empty when it is."""
    partitions = role.partitions
    why = []
    if not partitions.assigned:
        why.append("not assigned yet")
    if not all(output.reachable for output in role.outputs):
        why.append("the output does not answer")
    for partition in partitions.partitions.values():
        where = f"{partition.topic}/{partition.tp.partition}"
        if partition.failure is not None:
            why.append(f"{where} stands still: {partition.failure}")
        elif not partition.restored:
            why.append(f"{where} is being restored")
        elif partition.lag_s() > READY_LAG_S:
            why.append(f"{where} is {partition.lag_s():.0f} s behind")
    return why


def run(app: faust.App, role: Role) -> None:
    """Runs the worker until it is told to stop. Ends the process with 1 if the role failed."""
    _collect_seldom()
    worker = app.Worker(loglevel="INFO", logfile=None, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # with it, Faust puts the root logger at DEBUG
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # a closed terminal, without nohup
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        if role.partitions.error is None and ended.code in (None, 0):
            raise
    if role.partitions.error is not None:
        log.error("worker_ended", role=role.name, error=repr(role.partitions.error))
        sys.exit(1)


def _collect_seldom() -> None:
    """Records come and go by the thousand, none in a cycle: looking for cycles at the usual pace costs a fifth."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
