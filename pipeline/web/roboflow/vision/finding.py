"""What is asked of vision events, and which of them are hidden."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import orjson

from pipeline.core.asking import vision
from pipeline.core.asking.question import Question
from pipeline.core.asking.vision import VisionPage
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.questions import NotSetUpError, Questions, TooManyError, TooMuchError
from pipeline.web.asgi import Refused
from pipeline.web.roboflow.shapes import Record
from pipeline.web.roboflow.vision.asked import cursor_of
from pipeline.web.roboflow.vision.translation import hidden

EMPTY_PAGES_MAX = 20  # whoever reads page by page ends at an empty one
PAGE_BYTES_MAX = 16 << 20  # of bodies; a page ends sooner where they are large


class VisionFinding:
    """All questions of one process."""

    def __init__(self, questions: Questions, lookback_days: int) -> None:
        self._questions, self.lookback_days = questions, lookback_days

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._questions.close()

    async def page(self, workspace: str, asked: VisionPage) -> bytes:
        """The JSON of a page: with events in it, if any are left. Raises Refused: 400, 503."""
        for _ in range(EMPTY_PAGES_MAX):
            events, after = await self._page(workspace, asked)
            if events or after is None:
                break
            asked = replace(asked, after=after)
        told = {
            "events": events,
            "nextCursor": cursor_of(*after) if after else None,
            "hasMore": after is not None,
            "lookbackDays": self.lookback_days,
        }
        return orjson.dumps(told)

    async def _page(self, workspace: str, asked: VisionPage) -> tuple[list[Any], tuple[int, str] | None]:
        """Those of the next versions that are the last ones, and where to go on."""
        rows = await self._ask(workspace, vision.page(asked))
        shown = _within(rows[: asked.limit])
        if not shown:
            return [], None
        after = (int(shown[-1][1]), str(shown[-1][0])) if len(shown) < len(rows) else None
        found = await self._ask(workspace, vision.last_versions(list({str(row[0]) for row in shown})))
        last = {name: (at, offset) for name, at, offset, *_ in found}
        current = [(row[0], row[3]) for row in shown if last.get(row[0]) == (row[2], row[3])]
        if not current:
            return [], after
        found = await self._ask(workspace, vision.bodies(asked, current))
        bodies = {(name, offset): _event(body, warnings) for name, offset, body, warnings in found}
        return [bodies[one] for one in current if one in bodies], after

    async def to_hide(
        self, workspace: str, use_case_id: str, event_ids: Sequence[str]
    ) -> tuple[list[Record], list[str]]:
        """What hides those that are there, and the ids of those that are not. Raises Refused: 503."""
        rows = await self._ask(workspace, vision.last_versions(event_ids)) if event_ids else []
        there = {str(row[0]): int(row[5]) for row in rows if row[3] == use_case_id and not row[4]}
        records = [hidden(workspace, name, time_ms, use_case_id) for name, time_ms in there.items()]
        return records, [name for name in dict.fromkeys(event_ids) if name not in there]

    async def counts(self, workspace: str) -> dict[str, int]:
        """How many events each use case has. Raises Refused: 503."""
        return {str(name): int(count) for name, count in await self._ask(workspace, vision.event_counts())}

    async def fields(self, workspace: str, use_case_id: str, column: str) -> bytes:
        """The JSON of what metadata there is. Raises Refused: 503."""
        rows = await self._ask(workspace, vision.fields(use_case_id, column))
        return orjson.dumps({"fields": {str(name): {"types": list(types)} for name, types in rows}})

    async def _ask(self, workspace: str, question: Question) -> list[tuple[Any, ...]]:
        try:
            return await self._questions.of(workspace).ask(question)
        except TooMuchError as error:
            raise Refused(400, "too_much", f"this takes too much ({error}); ask for a shorter time") from None
        except TooManyError:
            raise Refused(503, "busy", "too many questions at a time", retry_after_s=2) from None
        except (NotSetUpError, ClickHouseUnavailable) as error:
            _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    said = str(error) if isinstance(error, NotSetUpError) else "ClickHouse does not answer"
    raise Refused(503, "store_unavailable", said, retry_after_s=5) from error


def _within(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """As many as fit, one at least."""
    size, kept = 0, list[tuple[Any, ...]]()
    for row in rows:
        size += int(row[4])
        if kept and size > PAGE_BYTES_MAX:
            break
        kept.append(row)
    return kept


def _event(body: str, warnings: Sequence[str]) -> Any:
    """As it was sent, and what was odd about it."""
    return orjson.loads(body) | {"warnings": list(warnings)} if warnings else orjson.Fragment(body)
