"""Questions to Kafka, each with a connection of its own: for tests and benchmarks, which seldom have one open."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.client import admin as admin
from pipeline.edge.kafka.client import client_options as client_options

P = ParamSpec("P")
T = TypeVar("T")


def _once(
    method: Callable[Concatenate[Kafka, P], Awaitable[T]],
) -> Callable[Concatenate[Settings, P], Coroutine[Any, Any, T]]:
    @wraps(method)
    async def ask(settings: Settings, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with Kafka(settings) as kafka:
            return await method(kafka, *args, **kwargs)

    return ask


create_topics = _once(Kafka.create_topics)
grow = _once(Kafka.grow)
ends = _once(Kafka.ends)
committed = _once(Kafka.committed)
group = _once(Kafka.group)
topic_settings = _once(Kafka.topic_settings)
brokers = _once(Kafka.brokers)
first_since = _once(Kafka.first_since)
topic_began_ms = _once(Kafka.topic_began_ms)
read = _once(Kafka.read)
commit_for_empty_group = _once(Kafka.commit_for_empty_group)
