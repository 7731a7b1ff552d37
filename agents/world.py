"""What a worker reaches the world by: clock, log, store, people, metrics. The real one is here; tests have another."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from prometheus_client import Counter, Histogram

from pipeline.config import Settings
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.core.rows.blocks import Block
from pipeline.edge import metrics
from pipeline.edge.clock import Clock, SystemClock
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.connection import Log
from pipeline.edge.notification.outcome import Sender
from pipeline.edge.notification.senders import open_senders
from pipeline.edge.store.inserts import Attempt, Writer


class Store(Protocol):
    """Where rows are kept."""

    reachable: bool

    async def start(self) -> None:
        """Opens it."""

    async def stop(self) -> None:
        """Closes it."""

    async def put(self, rows: Block, token: str, attempt: Attempt, named_ms: int, alive: Callable[[], None]) -> None:
        """Returns when the rows are there, once."""

    async def query(self, sql: str, alive: Callable[[], None]) -> list[str]:
        """The lines of the answer."""


class Metrics(Protocol):
    """What workers count by themselves; pipeline.edge.metrics says what each is. Edges count in there on their own."""

    ADJUSTED: Counter
    ALERTS: Counter
    CHAIN: Counter
    CLOSE_DELAY_SECONDS: Histogram
    CUTS: Counter
    CUTS_REDONE: Counter
    EVENT_TO_ROW_SECONDS: Histogram
    NOT_JUDGED: Counter
    NOT_NOTIFIED: Counter
    REFUSED: Counter


@dataclass(frozen=True, slots=True)
class World:
    """All that a worker does not decide by itself."""

    clock: Clock
    log: Log
    store: Store
    senders: Callable[[], AbstractAsyncContextManager[Mapping[RecipientKind, Sender]]]
    metrics: Metrics


def real_world(settings: Settings) -> World:
    """Kafka, ClickHouse and people, as the settings say. Nothing is opened yet."""
    return World(SystemClock(), Kafka(settings), Writer(settings), partial(open_senders, settings), metrics)
