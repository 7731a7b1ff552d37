"""How a verb runs: the only event loop, the one place where its settings come from, what it opens, how errors end.

    @app.command()
    @verb
    async def list_(here: Here, as_json: ... = False) -> None: ...

The command line sees the parameters after `here`, and --data-dir. What a verb opens is closed when it ends.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pipeline.cli.data_dir import DataDir, settings_for_verb
from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store.client import ClickHouse, Role

P = ParamSpec("P")
T = TypeVar("T")


class Here:
    """The settings, and connections that open when they are asked for the first time."""

    def __init__(self, settings: Settings, exits: AsyncExitStack) -> None:
        self.settings = settings
        self._exits = exits
        self._kafka: Kafka | None = None
        self._stores: dict[Role, ClickHouse] = {}

    @property
    def kafka(self) -> Kafka:
        """Kafka."""
        if self._kafka is None:
            self._kafka = Kafka(self.settings)
            self._exits.push_async_callback(self._kafka.close)
        return self._kafka

    def store(self, role: Role = "writer") -> ClickHouse:
        """ClickHouse as one role."""
        if role not in self._stores:
            self._stores[role] = ClickHouse(self.settings, role)
            self._exits.push_async_callback(self._stores[role].close)
        return self._stores[role]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end."""
    return asyncio.run(work)


async def with_settings(settings: Settings, work: Callable[[Here], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns; whatever it opened is closed then."""
    async with AsyncExitStack() as exits:
        return await work(Here(settings, exits))


def verb(work: Callable[Concatenate[Here, P], Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """A verb of the command line from a coroutine that wants to be Here."""

    @wraps(work)
    def command(*args: Any, data_dir: Path | None = None, **kwargs: Any) -> T:
        return run(with_settings(settings_for_verb(data_dir), lambda here: work(here, *args, **kwargs)))

    here, *others = inspect.signature(work).parameters.values()
    where = inspect.Parameter("data_dir", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=DataDir)
    command.__signature__ = inspect.Signature([*others, where])  # type: ignore[attr-defined]
    command.__annotations__ = {n: kind for n, kind in work.__annotations__.items() if n != here.name}
    command.__annotations__[where.name] = DataDir
    return command
