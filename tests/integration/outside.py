"""The edge for tests, most of which have no loop of their own: each call opens what it needs and closes it again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store import migrations, users
from pipeline.edge.store.client import ClickHouseUnavailable, Role, credentials
from pipeline.edge.store.migrations import Migration

T = TypeVar("T")


def connect(settings: Settings, role: Role, *, database: str | None = None, **options: Any) -> Client:
    """ClickHouse, asked without a loop. Raises ClickHouseUnavailable."""
    parts = urlsplit(settings.clickhouse_url)
    user, password = credentials(settings, role)
    try:
        return clickhouse_connect.get_client(
            host=parts.hostname or "",
            port=parts.port or 8123,
            username=user,
            password=password,
            database=settings.clickhouse_database if database is None else database,
            autogenerate_session_id=False,
            **options,
        )
    except (ClickHouseError, OSError) as error:
        raise ClickHouseUnavailable(str(error)) from error


def ask(client: Client, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]


def migrate(settings: Settings, known: Sequence[Migration] | None = None) -> list[str]:
    """As `inferwatch migrate` does."""
    return asyncio.run(migrations.migrate(settings, known))


def ensure_users(settings: Settings) -> list[str]:
    """As `inferwatch migrate --users` does."""
    return asyncio.run(users.ensure_users(settings))


async def of_kafka(settings: Settings, question: Callable[[Kafka], Awaitable[T]]) -> T:
    """What Kafka answers."""
    async with Kafka(settings) as kafka:
        return await question(kafka)


def kafka_says(settings: Settings, question: Callable[[Kafka], Awaitable[T]]) -> T:
    """The same, where no loop runs."""
    return asyncio.run(of_kafka(settings, question))
