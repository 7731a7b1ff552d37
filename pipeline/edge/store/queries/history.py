"""Windows that are long past, as columns: what is read of model_windows and class_windows, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pipeline.core.rows.window_columns import HISTOGRAMS_OF_CLASS, HISTOGRAMS_OF_MODEL, Histograms, WindowColumns
from pipeline.core.span import Span
from pipeline.core.tally import Ints
from pipeline.edge.store.client import ClickHouse

_MODEL_TEXTS = ("workspace", "model_id", "device_id")
_CLASS_TEXTS = ("workspace", "model_id", "class")
_MODEL_SUMS = (
    "inference_count",
    "error_count",
    "empty_count",
    "detection_count",
    "latency_count",
    "latency_us_sum",
    "confidence_ppm_sum",
)
_CLASS_SUMS = ("detection_count", "inference_count", "confidence_ppm_sum")
# Nothing is judged by them.
_MODEL_ENDS = ("latency_us_min", "latency_us_max", "confidence_ppm_min", "confidence_ppm_max")
_CLASS_ENDS = ("confidence_ppm_min", "confidence_ppm_max")


@dataclass(frozen=True, slots=True)
class WindowTable:
    """What is read of a table."""

    name: str
    texts: tuple[str, ...]
    sums: tuple[str, ...]
    ends: tuple[str, ...]
    histograms: tuple[str, ...]


MODELS = WindowTable("model_windows", _MODEL_TEXTS, _MODEL_SUMS, _MODEL_ENDS, HISTOGRAMS_OF_MODEL)
CLASSES = WindowTable("class_windows", _CLASS_TEXTS, _CLASS_SUMS, _CLASS_ENDS, HISTOGRAMS_OF_CLASS)


@dataclass(frozen=True, slots=True)
class Only:
    """Which models; None: all. Bins of confidence are half of all there is to read, and seldom asked for."""

    workspace: str | None = None
    model_id: str | None = None
    confidence_bins: bool = True

    def histograms(self, table: WindowTable) -> list[str]:
        """Those of a table to read."""
        return [name for name in table.histograms if self.confidence_bins or name != "confidence_histogram"]


async def ends(store: ClickHouse) -> tuple[int, int] | None:
    """The start of the first and of the last window, in seconds; None where there is none."""
    times = "toUnixTimestamp(min(window_start)), toUnixTimestamp(max(window_start)), count()"
    ((first, last, count),) = await store.ask(f"SELECT {times} FROM model_windows")
    return (int(first), int(last)) if count else None


async def read(store: ClickHouse, table: WindowTable, span: Span, only: Only) -> WindowColumns:
    """All windows of some time, in order."""
    sums = ", ".join(f"sum(t.{name})" for name in table.sums)
    ends = ", ".join(f"ifNull({name.rsplit('_', 1)[1]}(t.{name}), 0)" for name in table.ends)
    histograms = only.histograms(table)
    maps = "".join(f", sumMap(t.{name}) AS {name}_" for name in histograms)
    split = "".join(f", mapKeys({name}_), mapValues({name}_)" for name in histograms)
    left_out = "".join(f", {name}_" for name in histograms)
    keys = ", ".join(f"t.{name}" for name in table.texts)
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
        f"SELECT t.window_start AS at, {keys}, {sums}, {ends}{maps} FROM {table.name} AS t "
        f"WHERE {' AND '.join(where)} GROUP BY t.window_start, {keys}"
    )
    sql = f"SELECT toUnixTimestamp(at), * EXCEPT (at{left_out}){split}"
    rows = await store.ask(f"{sql} FROM ({inner}) ORDER BY at, {', '.join(table.texts)}", parameters)
    if not rows:
        return nothing(table)
    start_s, *columns = (list(column) for column in zip(*rows, strict=True))
    names = (*table.texts, *table.sums, *table.ends)
    by_name = dict(zip(names, columns, strict=False))
    lists = columns[len(names) :]
    found = {name: _histograms_of_lists(lists[2 * i], lists[2 * i + 1]) for i, name in enumerate(histograms)}
    return WindowColumns(np.array(start_s, np.int64), renamed(by_name), complete(table, found, len(rows)))


def nothing(table: WindowTable) -> WindowColumns:
    """No row."""
    none: Ints = np.zeros(0, np.int64)
    columns: dict[str, list[Any]] = {name: [] for name in (*table.texts, *table.sums, *table.ends)}
    histograms = {name: Histograms.of(none, none, none) for name in table.histograms}
    return WindowColumns(none, renamed(columns), histograms)


def complete(table: WindowTable, found: Mapping[str, Histograms], rows: int) -> dict[str, Histograms]:
    """The histograms of a table; those that were not asked for are empty."""
    none: Ints = np.zeros(0, np.int64)
    return {name: found.get(name) or Histograms.of(np.zeros(rows, np.int64), none, none) for name in table.histograms}


def renamed(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """As schemas.aggregate names them."""
    return {"class_name" if name == "class" else name: column for name, column in columns.items()}


def _histograms_of_lists(keys: list[list[int]], counts: list[list[int]]) -> Histograms:
    sizes = np.array([len(row) for row in keys], np.int64)
    flat = (np.fromiter(chain.from_iterable(rows), np.int64, int(sizes.sum())) for rows in (keys, counts))
    return Histograms.of(sizes, *flat)
