"""Questions in plain SQL: of one workspace, for what the command line asks too; and what only the writer may."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.core.asking.question import Question
from pipeline.edge.store.client import ClickHouseRefused
from pipeline.edge.store.questions import Questions
from pipeline.web.asgi import Refused

ROWS_MAX = 500_000
SECONDS_MAX = 20


class Plain:
    """Asks as the user `query`, about one workspace; "*" is the installation as a whole."""

    def __init__(self, questions: Questions, workspace: str) -> None:
        self._questions, self._workspace = questions, workspace

    async def ask(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows. Raises as Questions.ask."""
        question = Question(sql, parameters or {}, rows_max=ROWS_MAX, seconds_max=SECONDS_MAX)
        return await self._questions.ask(self._workspace, question)


@contextmanager
def as_writer(instead: str) -> Iterator[None]:
    """Where ClickHouse is asked as the writer, which a process that faces the world need not be. Raises Refused."""
    try:
        yield
    except ClickHouseRefused:
        why = (
            f"this process is no writer of ClickHouse: give it INFERWATCH_CLICKHOUSE_USER and _PASSWORD, or: {instead}"
        )
        raise Refused(503, "not_set_up", why) from None
