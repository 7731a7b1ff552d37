"""Questions in plain SQL of one workspace, for what the command line asks too."""

from typing import Any

from pipeline.core.asking.question import Question
from pipeline.edge.store.questions import Questions

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
