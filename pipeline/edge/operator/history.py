"""Windows that are long past, in the order of time: from ClickHouse, or from parquet files with the tables' columns.

A part of the time is in memory at once: a day, or less of it where ClickHouse knows that there is more than that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from clickhouse_connect.driver.client import Client

from pipeline.core.rows.window_columns import (
    HISTOGRAMS_OF_CLASS,
    HISTOGRAMS_OF_MODEL,
    Histograms,
    WindowColumns,
    windows,
)
from pipeline.core.span import Span, slices
from pipeline.core.tally import Ints
from pipeline.core.windows.histogram import CONFIDENCE_BINS, LATENCY_BOUNDS, ZERO_BUCKET
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.audit.sql import periods
from pipeline.edge.store.client import ask
from schemas.aggregate import ClassColumns, ModelColumns

if TYPE_CHECKING:
    import pyarrow as pa

STEP_S = WINDOW_MS // 1000
DAY_S = 86_400
STRIDE_S = 3600  # through a stretch without a row
ROWS_MAX = 500_000  # in memory at once, some 2 KB each

_Windows = Iterator[tuple[int, ModelColumns, ClassColumns]]

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
class _Table:
    """What is read of a table."""

    name: str
    texts: tuple[str, ...]
    sums: tuple[str, ...]
    ends: tuple[str, ...]
    histograms: tuple[str, ...]


_MODELS = _Table("model_windows", _MODEL_TEXTS, _MODEL_SUMS, _MODEL_ENDS, HISTOGRAMS_OF_MODEL)
_CLASSES = _Table("class_windows", _CLASS_TEXTS, _CLASS_SUMS, _CLASS_ENDS, HISTOGRAMS_OF_CLASS)


class HistoryError(Exception):
    """History that cannot be read; the text says which file or column, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Only:
    """Which models; None: all. Bins of confidence are half of all there is to read, and seldom asked for."""

    workspace: str | None = None
    model_id: str | None = None
    confidence_bins: bool = True

    def histograms(self, table: _Table) -> list[str]:
        """Those of a table to read."""
        return [name for name in table.histograms if self.confidence_bins or name != "confidence_histogram"]


class History(Protocol):
    """Somewhere that windows are kept."""

    def span(self) -> Span:
        """From the first window to the end of the last, in seconds."""

    def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> _Windows:
        """(all windows that end by then are complete (ms), their rows), in order; some together, if told so."""


class ClickHouseHistory:
    """model_windows and class_windows."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def span(self) -> Span:
        """Of what has not gone by its TTL."""
        times = "toUnixTimestamp(min(window_start)), toUnixTimestamp(max(window_start)), count()"
        ((first, last, count),) = ask(self._client, f"SELECT {times} FROM model_windows")
        if not count:
            raise HistoryError("model_windows is empty: there is no history")
        return Span(int(first), int(last) + STEP_S)

    def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> _Windows:
        """Hours are joined to days while that is not too much."""
        tables = [(table.name, "window_start") for table in (_MODELS, _CLASSES)]
        rows = {int(start): int(count) for start, count in ask(self._client, periods(tables, span, STRIDE_S))}
        reached = span.start
        for part in slices(rows, STRIDE_S, ROWS_MAX):
            for piece in _days(Span(reached, min(part.end, span.end))):
                models, classes = (self._read(table, piece, only) for table in (_MODELS, _CLASSES))
                yield from windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s)
            reached = max(reached, min(part.end, span.end))
        models, classes = (_nothing(table) for table in (_MODELS, _CLASSES))
        for piece in _days(Span(reached, span.end)):
            yield from windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s)

    def _read(self, table: _Table, span: Span, only: Only) -> WindowColumns:
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
        rows = ask(self._client, f"{sql} FROM ({inner}) ORDER BY at, {', '.join(table.texts)}", parameters)
        if not rows:
            return _nothing(table)
        start_s, *columns = (list(column) for column in zip(*rows, strict=True))
        names = (*table.texts, *table.sums, *table.ends)
        by_name = dict(zip(names, columns, strict=False))
        lists = columns[len(names) :]
        found = {name: _histograms_of_lists(lists[2 * i], lists[2 * i + 1]) for i, name in enumerate(histograms)}
        return WindowColumns(np.array(start_s, np.int64), _renamed(by_name), _all(table, found, len(rows)))


class ParquetHistory:
    """DIR/model_windows.parquet and DIR/class_windows.parquet, in any order, with a key in any number of rows."""

    def __init__(self, directory: Path) -> None:
        """Raises HistoryError when pyarrow or a file is missing, or a file lacks a column."""
        self._files: dict[str, Any] = {}
        try:
            import pyarrow.dataset as dataset
        except ImportError as error:
            raise HistoryError(
                "reading parquet needs pyarrow; install it with: pip install 'inferwatch[backtest]'"
            ) from error
        for table in (_MODELS, _CLASSES):
            path = directory / f"{table.name}.parquet"
            if not path.is_file():
                raise HistoryError(f"{path}: there is no such file")
            try:
                self._files[table.name] = dataset.dataset(path, format="parquet")
            except (OSError, ValueError) as error:
                raise HistoryError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from error
            wanted = ("window_start", *table.texts, *table.sums, *table.histograms)
            missing = [name for name in wanted if name not in self._files[table.name].schema.names]
            if missing:
                raise HistoryError(f"{path}: lacks {', '.join(missing)}")

    def span(self) -> Span:
        """Of model_windows."""
        import pyarrow.compute as pc

        file = self._files[_MODELS.name]
        least, most = None, None
        for batch in file.to_batches(columns=["window_start"]):
            if batch.num_rows:
                ends = pc.min_max(_seconds(_MODELS.name, batch.column(0))).as_py()
                least = ends["min"] if least is None else min(least, ends["min"])
                most = ends["max"] if most is None else max(most, ends["max"])
        if least is None or most is None:
            raise HistoryError("model_windows.parquet is empty: there is no history")
        return Span(least - least % STEP_S, most - most % STEP_S + STEP_S)

    def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> _Windows:
        """Day by day: files that are sorted by time are read once, others are looked through for each day."""
        for piece in _days(span):
            models, classes = (self._read(table, piece, only) for table in (_MODELS, _CLASSES))
            yield from windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s)

    def _read(self, table: _Table, span: Span, only: Only) -> WindowColumns:
        import pyarrow as pa
        import pyarrow.compute as pc

        file = self._files[table.name]
        type_ = file.schema.field("window_start").type
        start, end = (_as_time(pa, second, type_) for second in (span.start, span.end))
        chosen = (pc.field("window_start") >= start) & (pc.field("window_start") < end)
        for name, value in (("workspace", only.workspace), ("model_id", only.model_id)):
            if value is not None:
                chosen &= pc.field(name) == value
        ends = [name for name in table.ends if name in file.schema.names]
        names = ["window_start", *table.texts, *table.sums, *ends, *only.histograms(table)]
        found = file.to_table(columns=names, filter=chosen)
        start_s = _seconds(table.name, found.column("window_start").combine_chunks()).to_numpy(zero_copy_only=False)
        if (np.diff(start_s) < 0).any():
            order = np.argsort(start_s, kind="stable")
            found, start_s = found.take(pa.array(order)), start_s[order]
        found = found.combine_chunks()
        columns: dict[str, list[Any]] = {}
        for name in table.texts:
            columns[name] = _whole(table.name, found, name).cast(pa.string()).to_pylist()
        for name in table.sums:
            columns[name] = _counts(table.name, name, _whole(table.name, found, name)).tolist()
        for name in table.ends:
            values = found.column(name).fill_null(0).to_pylist() if name in ends else [0] * len(start_s)
            columns[name] = values
        histograms = {name: _histograms_of_maps(table.name, found, name) for name in only.histograms(table)}
        return WindowColumns(start_s - start_s % STEP_S, _renamed(columns), _all(table, histograms, len(start_s)))


def _days(span: Span) -> Iterator[Span]:
    start = span.start
    while start < span.end:
        end = min(start - start % DAY_S + DAY_S, span.end)
        yield Span(start, end)
        start = end


def _nothing(table: _Table) -> WindowColumns:
    none: Ints = np.zeros(0, np.int64)
    columns: dict[str, list[Any]] = {name: [] for name in (*table.texts, *table.sums, *table.ends)}
    histograms = {name: Histograms.of(none, none, none) for name in table.histograms}
    return WindowColumns(none, _renamed(columns), histograms)


def _all(table: _Table, found: Mapping[str, Histograms], rows: int) -> dict[str, Histograms]:
    """The histograms of a table; those that were not asked for are empty."""
    none: Ints = np.zeros(0, np.int64)
    return {name: found.get(name) or Histograms.of(np.zeros(rows, np.int64), none, none) for name in table.histograms}


def _renamed(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """As schemas.aggregate names them."""
    return {"class_name" if name == "class" else name: column for name, column in columns.items()}


def _histograms_of_lists(keys: list[list[int]], counts: list[list[int]]) -> Histograms:
    sizes = np.array([len(row) for row in keys], np.int64)
    flat = (np.fromiter(chain.from_iterable(rows), np.int64, int(sizes.sum())) for rows in (keys, counts))
    return Histograms.of(sizes, *flat)


def _whole(table: str, found: "pa.Table", name: str) -> "pa.Array":
    column = found.column(name)
    if column.null_count:
        raise HistoryError(f"{table}.parquet: {name} is null in {column.null_count:,} rows")
    return column


def _counts(table: str, name: str, column: "pa.Array") -> Ints:
    import pyarrow as pa

    try:
        counts: Ints = column.cast(pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise HistoryError(f"{table}.parquet: {name}: not whole numbers: {error}") from error
    if len(counts) and counts.min() < 0:
        raise HistoryError(f"{table}.parquet: {name} is negative")
    return counts


def _histograms_of_maps(table: str, found: "pa.Table", name: str) -> Histograms:
    import pyarrow as pa

    if not pa.types.is_map(found.schema.field(name).type):
        raise HistoryError(f"{table}.parquet: {name} is no map but {found.schema.field(name).type}")
    column = found.column(name).combine_chunks()
    maps = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    offsets = maps.offsets.to_numpy() if len(maps) else np.zeros(1, np.int64)
    inside = slice(int(offsets[0]), int(offsets[-1]))
    keys = maps.keys[inside].cast(pa.int64()).to_numpy(zero_copy_only=False)
    _check_keys(table, name, keys)
    try:
        return Histograms.of(np.diff(offsets).astype(np.int64), keys, _counts(table, name, maps.items[inside]))
    except ValueError as error:
        raise HistoryError(f"{table}.parquet: {name} {error}") from error


def _check_keys(table: str, name: str, keys: Ints) -> None:
    size = CONFIDENCE_BINS if name == "confidence_histogram" else len(LATENCY_BOUNDS)
    outside = (keys < 0) | (keys >= size)
    if name == "latency_histogram":
        outside &= keys != ZERO_BUCKET
    if outside.any():
        raise HistoryError(f"{table}.parquet: {name} has the key {keys[outside][0]}, which is no bucket")


def _seconds(table: str, column: "pa.Array") -> "pa.Array":
    """window_start as seconds since 1970, whatever its type."""
    import pyarrow as pa

    if column.null_count:
        raise HistoryError(f"{table}.parquet: window_start is null in {column.null_count:,} rows")
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())
    raise HistoryError(f"{table}.parquet: window_start is no time but {column.type}")


def _as_time(pa: Any, second: int, type_: Any) -> Any:
    if pa.types.is_integer(type_):
        return second
    return pa.scalar(second, pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(type_.unit)).cast(type_)
