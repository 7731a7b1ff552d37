"""How everything but the recorder's inserts reaches ClickHouse (those are in inserts.py)."""

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.config import Settings

Role = Literal["writer", "reader", "admin"]


class ClickHouseUnavailable(Exception):
    """ClickHouse did not answer or did not let us in; the text says what to do."""


def credentials(settings: Settings, role: Role) -> tuple[str, str]:
    """User and password of a role."""
    if role == "reader":
        return settings.clickhouse_reader_user, settings.clickhouse_reader_password.get_secret_value()
    if role == "admin" and settings.clickhouse_admin_user:
        return settings.clickhouse_admin_user, settings.clickhouse_admin_password.get_secret_value()
    return settings.clickhouse_user, settings.clickhouse_password.get_secret_value()


def connect(settings: Settings, role: Role, *, database: str | None = None, **options: Any) -> Client:
    """A clickhouse-connect client as `role`. Raises ClickHouseUnavailable, in one line."""
    parts = urlsplit(settings.clickhouse_url)
    user, password = credentials(settings, role)
    secure = parts.scheme == "https"
    try:
        return clickhouse_connect.get_client(
            host=parts.hostname or "",
            port=parts.port or (8443 if secure else 8123),
            secure=secure,
            username=user,
            password=password,
            database=settings.clickhouse_database if database is None else database,
            ca_cert=str(settings.clickhouse_ca_file) if settings.clickhouse_ca_file else None,
            autogenerate_session_id=False,
            **options,
        )
    except (ClickHouseError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ClickHouseUnavailable(
            f"ClickHouse at {settings.clickhouse_url} (user {user}): {first}; "
            "check INFERWATCH_CLICKHOUSE_URL, user and password, and that the server runs"
        ) from error


def ask(client: Client, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a query. Raises ClickHouseUnavailable, in one line, whatever is wrong."""
    try:
        return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]
    except (ClickHouseError, OSError) as error:
        raise ClickHouseUnavailable(f"ClickHouse refused a query: {first_line(error)}") from error


def put(client: Client, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Inserts a few rows (times as whole milliseconds). Raises ClickHouseUnavailable, in one line."""
    try:
        client.insert(table, rows, columns, settings={"async_insert": 0})
    except (ClickHouseError, OSError) as error:
        raise ClickHouseUnavailable(f"ClickHouse refused an insert into {table}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of what an error says; its name if it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
