"""How the HTTP side asks ClickHouse: as the user `query`, in one workspace, within limits, a few questions at a time.

Whose task is cancelled (its client has gone) closes its connection, by which ClickHouse ends the query: it looks with
each step of progress. What is over its limits ends too, and says so.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from pipeline.config.sections import StoreSettings
from pipeline.core.asking.question import Question
from pipeline.edge.store.client import ClickHouse, ClickHouseRefused, credentials
from pipeline.edge.store.tenancy import SETTING

AT_ONCE = 8  # of one process; ClickHouse has other users, and each question several threads
STREAMS_AT_ONCE = 2
WAITING_MAX = 200
WAIT_S = 5.0
MEMORY_BYTES_MAX = 1_000_000_000
_CODE = re.compile(r"\(([A-Z_]+)\) \(version")
_LIMITS = {"TIMEOUT_EXCEEDED", "MEMORY_LIMIT_EXCEEDED", "TOO_MANY_ROWS_OR_BYTES", "TOO_MANY_ROWS", "TOO_SLOW"}


class NotSetUpError(Exception):
    """There is no user to ask as; the text says what to do."""


class TooMuchError(Exception):
    """A question that takes more than it may; the text says of what."""


class TooManyError(Exception):
    """More questions than are answered at a time."""


class Questions:
    """All that one process asks."""

    def __init__(self, settings: StoreSettings, at_once: int = AT_ONCE, wait_s: float = WAIT_S) -> None:
        """`wait_s`: until a question that finds no room is refused."""
        self._is_set_up = bool(credentials(settings, "query")[1])
        limits = {"max_memory_usage": MEMORY_BYTES_MAX, "cancel_http_readonly_queries_on_client_close": 1}
        self._store = ClickHouse(settings, "query", answer_s=60, limits=limits)
        self._free, self._streams = asyncio.Semaphore(at_once), asyncio.Semaphore(STREAMS_AT_ONCE)
        self._waiting = 0

    def of(self, workspace: str) -> "WorkspaceQuestions":
        """Those about one workspace; "*": about the installation as a whole (its dead letters)."""
        return WorkspaceQuestions(self, workspace)

    async def ask(self, workspace: str, question: Question) -> list[tuple[Any, ...]]:
        """The rows. Raises NotSetUpError, TooMuchError, TooManyError, ClickHouseUnavailable."""
        async with self._turn(self._free):
            with _limits_told():
                return await self._store.ask(*_bound(workspace, question))

    async def stream(self, workspace: str, question: Question) -> AsyncGenerator[bytes]:
        """The bytes of a question that says its FORMAT, as they come. Raises as `ask`; also when it has begun."""
        async with self._turn(self._streams):
            with _limits_told():
                async with aclosing(self._store.stream(*_bound(workspace, question))) as chunks:
                    async for chunk in chunks:
                        yield chunk

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._store.close()

    @asynccontextmanager
    async def _turn(self, free: asyncio.Semaphore) -> AsyncIterator[None]:
        if not self._is_set_up:
            raise NotSetUpError("set INFERWATCH_CLICKHOUSE_QUERY_PASSWORD, then run: inferwatch migrate --users")
        if self._waiting >= WAITING_MAX:
            raise TooManyError
        self._waiting += 1
        try:
            await asyncio.wait_for(free.acquire(), WAIT_S)
        except TimeoutError:
            raise TooManyError from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            free.release()


def _bound(workspace: str, question: Question) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Text, parameters and settings of a question about one workspace."""
    settings = {
        SETTING: workspace,
        "max_execution_time": question.seconds_max,
        "max_result_rows": question.rows_max,
        "result_overflow_mode": "throw",
    }
    return question.text, {**question.parameters, "workspace": workspace}, settings


@contextmanager
def _limits_told() -> Iterator[None]:
    try:
        yield
    except ClickHouseRefused as error:
        if (found := _CODE.search(str(error))) and found[1] in _LIMITS:
            raise TooMuchError(found[1].lower().replace("_", " ")) from error
        raise


class WorkspaceQuestions:
    """Questions about one workspace: another's rows cannot come back, whatever the SQL says."""

    def __init__(self, questions: Questions, workspace: str) -> None:
        self._questions, self.workspace = questions, workspace

    async def ask(self, question: Question) -> list[tuple[Any, ...]]:
        """The rows. Raises as Questions.ask."""
        return await self._questions.ask(self.workspace, question)

    def stream(self, question: Question) -> AsyncGenerator[bytes]:
        """The bytes. Raises as Questions.stream; to be closed by who does not read to the end."""
        return self._questions.stream(self.workspace, question)

    async def ask_all(self, *questions: Question) -> Sequence[list[tuple[Any, ...]]]:
        """The rows of each, asked side by side; the first that fails ends the others."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask(question)) for question in questions]
        return [task.result() for task in tasks]
