"""Windows that are long past, in the order of time: from ClickHouse here, from parquet files in parquet.py.

A part of the time is in memory at once: a day, or less of it where ClickHouse knows that there is more than that.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from pipeline.core.history.windows import windows
from pipeline.core.span import Span, slices
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.store.asks import Asks
from pipeline.edge.store.queries.history import Only, ends, nothing, read
from pipeline.edge.store.queries.periods import rows_by_period
from schemas.aggregate import Rows
from schemas.windows import CLASSES, MODELS

STEP_S = WINDOW_MS // 1000
DAY_S = 86_400
STRIDE_S = 3600  # through a stretch without a row
ROWS_MAX = 500_000  # in memory at once, some 2 KB each

Windows = tuple[int, Rows, Rows]  # (all windows that end by then are complete (ms), their rows)


class HistoryError(Exception):
    """History that cannot be read; the text says which file or column, and what is wrong with it."""


class History(Protocol):
    """Somewhere that windows are kept."""

    async def span(self) -> Span:
        """From the first window to the end of the last, in seconds."""

    def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> AsyncIterator[Windows]:
        """In order; some windows together, if told so."""


class ClickHouseHistory:
    """model_windows and class_windows."""

    def __init__(self, store: Asks, rows_max: int = ROWS_MAX) -> None:
        """`rows_max`: in memory at once."""
        self._store, self._rows_max = store, rows_max

    async def span(self) -> Span:
        """Of what has not gone by its TTL."""
        found = await ends(self._store)
        if found is None:
            raise HistoryError("model_windows is empty: there is no history")
        return Span(found[0], found[1] + STEP_S)

    async def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> AsyncIterator[Windows]:
        """Hours are joined to days while that is not too much."""
        tables = [(table.name, "window_start") for table in (MODELS, CLASSES)]
        rows = await rows_by_period(self._store, tables, span, STRIDE_S)
        reached = span.start
        for part in slices(rows, STRIDE_S, self._rows_max):
            for piece in days(Span(reached, min(part.end, span.end))):
                models, classes = [await read(self._store, table, piece, only) for table in (MODELS, CLASSES)]
                for found in windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s):
                    yield found
            reached = max(reached, min(part.end, span.end))
        models, classes = nothing(MODELS), nothing(CLASSES)
        for piece in days(Span(reached, span.end)):
            for found in windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s):
                yield found


def days(span: Span) -> Iterator[Span]:
    """`span` cut at midnights (UTC)."""
    start = span.start
    while start < span.end:
        end = min(start - start % DAY_S + DAY_S, span.end)
        yield Span(start, end)
        start = end
