"""Windows that are long past, as columns: what is read of model_windows and class_windows, and nothing else."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pipeline.core.columns import Ragged
from pipeline.core.history.windows import SortedRows, ascending
from pipeline.core.span import Span
from pipeline.edge.store.asks import Asks
from schemas.aggregate import Rows
from schemas.windows import Summary, WindowTable

# What anything is judged by, but for the histograms: the rest is not read, and is 0.
SUMS = (Summary.COUNT, Summary.SUM)


@dataclass(frozen=True, slots=True)
class Only:
    """Which models; None: all. Bins of confidence are half of all there is to read, and seldom asked for."""

    workspace: str | None = None
    model_id: str | None = None
    confidence_bins: bool = True

    def histograms(self, table: WindowTable) -> list[str]:
        """Those of a table to read."""
        names = table.named(Summary.HISTOGRAM)
        return [name for name in names if self.confidence_bins or name != "confidence_histogram"]


async def ends(store: Asks) -> tuple[int, int] | None:
    """The start of the first and of the last window, in seconds; None where there is none."""
    times = "toUnixTimestamp(min(window_start)), toUnixTimestamp(max(window_start)), count()"
    ((first, last, count),) = await store.ask(f"SELECT {times} FROM model_windows")
    return (int(first), int(last)) if count else None


async def read(store: Asks, table: WindowTable, span: Span, only: Only) -> SortedRows:
    """All windows of some time, in order."""
    sums = ", ".join(f"sum(t.{name})" for name in table.named(*SUMS))
    histograms = only.histograms(table)
    maps = "".join(f", sumMap(t.{name}) AS {name}_" for name in histograms)
    split = "".join(f", mapKeys({name}_), mapValues({name}_)" for name in histograms)
    left_out = "".join(f", {name}_" for name in histograms)
    keys = ", ".join(f"t.{name}" for name in table.keys)
    where = [
        "t.window_start >= toDateTime({start:UInt32}, 'UTC')",
        "t.window_start < toDateTime({end:UInt32}, 'UTC')",
    ]
    parameters: dict[str, Any] = {"start": span.start, "end": span.end}
    for name, value in (("workspace", only.workspace), ("model_id", only.model_id)):
        if value is not None:
            where.append(f"t.{name} = {{{name}:String}}")
            parameters[name] = value
    inner = (
        f"SELECT t.window_start AS at, {keys}, {sums}{maps} FROM {table.name} AS t "
        f"WHERE {' AND '.join(where)} GROUP BY t.window_start, {keys}"
    )
    sql = f"SELECT toUnixTimestamp(at), * EXCEPT (at{left_out}){split}"
    rows = await store.ask(f"{sql} FROM ({inner}) ORDER BY at, {', '.join(table.keys)}", parameters)
    if not rows:
        return nothing(table)
    start_s, *columns = (list(column) for column in zip(*rows, strict=True))
    found = iter(columns)
    texts = {name: next(found) for name in table.keys}
    numbers = {name: np.array(next(found), np.int64) for name in table.named(*SUMS)}
    lists = {name: _histograms_of_lists(next(found), next(found)) for name in histograms}
    return SortedRows.of(table, Rows(np.array(start_s, np.int64), texts, numbers, lists))


def nothing(table: WindowTable) -> SortedRows:
    """No row."""
    return SortedRows.of(table, Rows(np.zeros(0, np.int64), {name: [] for name in table.keys}, {}, {}))


def _histograms_of_lists(keys: list[list[int]], counts: list[list[int]]) -> Ragged:
    sizes = np.array([len(row) for row in keys], np.int64)
    flat = (np.fromiter(chain.from_iterable(rows), np.int64, int(sizes.sum())) for rows in (keys, counts))
    return ascending(Ragged(sizes, *flat))
