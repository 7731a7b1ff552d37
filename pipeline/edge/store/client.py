"""How everything but the recorder's inserts reaches ClickHouse (those are in inserts.py): asynchronous, one role each.

It connects at its first question and is closed by the one who made it. Requests may ask through it side by side.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import clickhouse_connect
from aiohttp import ClientError
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from pipeline.config.sections import StoreSettings

Role = Literal["writer", "reader", "query", "admin"]

_ANSWER = re.compile(r"DB::Exception: (.+)")


class ClickHouseUnavailable(Exception):
    """ClickHouse did not answer or did not let us in; the text says what to do."""


class ClickHouseRefused(ClickHouseUnavailable):
    """ClickHouse answered, and what it says is no."""


def credentials(settings: StoreSettings, role: Role) -> tuple[str, str]:
    """User and password of a role."""
    if role == "reader":
        return settings.clickhouse_reader_user, settings.clickhouse_reader_password.get_secret_value()
    if role == "query":
        return settings.clickhouse_query_user, settings.clickhouse_query_password.get_secret_value()
    if role == "admin" and settings.clickhouse_admin_user:
        return settings.clickhouse_admin_user, settings.clickhouse_admin_password.get_secret_value()
    return settings.clickhouse_user, settings.clickhouse_password.get_secret_value()


class ClickHouse:
    """ClickHouse as one role. Every method raises ClickHouseUnavailable, in one line."""

    def __init__(
        self,
        settings: StoreSettings,
        role: Role,
        *,
        database: str | None = None,
        answer_s: int = 300,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """`database`: the settings' unless said otherwise. `limits`: settings of ClickHouse for every question."""
        self._settings = settings
        self._database = settings.clickhouse_database if database is None else database
        self.user, self._password = credentials(settings, role)
        self._answer_s, self._limits = answer_s, dict(limits or {})
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def ask(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        try:
            client = await self._connected()
            found = await client.query(sql, dict(parameters or {}), dict(settings or {}))
            return [tuple(row) for row in found.result_rows]
        except (ClickHouseError, OSError) as error:
            raise self._said("refused a query", error) from error

    async def stream(
        self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> AsyncGenerator[bytes]:
        """What a query with a FORMAT of its own answers, as it comes. It raises where the answer is cut short."""
        try:
            client = await self._connected()
            async with await client.raw_stream(sql, dict(parameters), dict(settings)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (ClickHouseError, ClientError, OSError) as error:
            raise self._said("refused a query", error) from error

    async def do(self, sql: str, settings: Mapping[str, int] | None = None) -> None:
        """Runs a statement that has no rows."""
        try:
            await (await self._connected()).command(sql, settings=dict(settings or {}))
        except (ClickHouseError, OSError) as error:
            raise self._said("refused a statement", error) from error

    async def put(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Inserts a few rows (times as whole milliseconds)."""
        try:
            await (await self._connected()).insert(table, rows, columns, settings={"async_insert": 0})
        except (ClickHouseError, OSError) as error:
            raise self._said(f"refused an insert into {table}", error) from error

    async def close(self) -> None:
        """Lets go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> AsyncClient:
        parts = urlsplit(self._settings.clickhouse_url)
        secure, ca_file = parts.scheme == "https", self._settings.clickhouse_ca_file
        try:
            return await clickhouse_connect.get_async_client(
                host=parts.hostname or "",
                port=parts.port or (8443 if secure else 8123),
                secure=secure,
                username=self.user,
                password=self._password,
                database=self._database,
                ca_cert=str(ca_file) if ca_file else None,
                autogenerate_session_id=False,
                send_receive_timeout=self._answer_s,
                settings=self._limits,
            )
        except (ClickHouseError, OSError) as error:
            raise self._said(f"does not let {self.user} in", error, "; check user and password") from error

    def _said(self, what: str, error: Exception, advice: str = "") -> ClickHouseUnavailable:
        """No answer, or what the answer was."""
        where = f"ClickHouse at {self._settings.clickhouse_url}"
        if isinstance(error, OperationalError | ClientError | OSError):
            advice = "; check INFERWATCH_CLICKHOUSE_URL and that the server runs"
            return ClickHouseUnavailable(f"{where} does not answer ({_reason(error)}){advice}")
        return ClickHouseRefused(f"{where} {what}: {_answer(error)}{advice}")


def _answer(error: Exception) -> str:
    """What ClickHouse says, without what the client says around it."""
    found = _ANSWER.search(str(error))
    return found[1].strip() if found else _first_line(error)


def _reason(error: BaseException) -> str:
    """The cause at the bottom of an error of the network, in the system's own words."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno).lower()
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    """The first line of what an error says; its name if it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
