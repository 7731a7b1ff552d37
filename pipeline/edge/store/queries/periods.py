"""Which stretches of time hold rows, so that the busy ones can be asked about piece by piece."""

from collections.abc import Sequence

from pipeline.core.span import Span
from pipeline.edge.store.asks import Asks


async def rows_by_period(store: Asks, times: Sequence[tuple[str, str]], span: Span, size_s: int) -> dict[int, int]:
    """Rows of every period (by its start in seconds) that holds any. `times`: (table, time column)."""
    parts = " UNION ALL ".join(
        f"SELECT {time} AS at FROM {table} "
        f"WHERE {time} >= toDateTime({span.start}, 'UTC') AND {time} < toDateTime({span.end}, 'UTC')"
        for table, time in times
    )
    start = f"intDiv(toUnixTimestamp(toDateTime(at, 'UTC')), {size_s}) * {size_s}"
    rows = await store.ask(f"SELECT {start} AS start, count() FROM ({parts}) GROUP BY start")
    return {int(at): int(count) for at, count in rows}
