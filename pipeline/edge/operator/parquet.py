"""History from parquet files with the columns of the tables: somebody's export, whatever wrote it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.columns import Ragged
from pipeline.core.history.windows import SortedRows, ascending, windows
from pipeline.core.span import Span
from pipeline.core.tally import Ints
from pipeline.core.windows.histogram import CONFIDENCE_BINS, LATENCY_BOUNDS, ZERO_BUCKET
from pipeline.edge.operator.history import STEP_S, STRIDE_S, HistoryError, Windows, days
from pipeline.edge.store.queries.history import SUMS, Only
from schemas.aggregate import Rows
from schemas.windows import CLASSES, MODELS, Summary, WindowTable

if TYPE_CHECKING:
    import pyarrow as pa


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
        for table in (MODELS, CLASSES):
            path = directory / f"{table.name}.parquet"
            if not path.is_file():
                raise HistoryError(f"{path}: there is no such file")
            try:
                self._files[table.name] = dataset.dataset(path, format="parquet")
            except (OSError, ValueError) as error:
                raise HistoryError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from error
            wanted = ("window_start", *table.keys, *table.named(*SUMS, Summary.HISTOGRAM))
            missing = [name for name in wanted if name not in self._files[table.name].schema.names]
            if missing:
                raise HistoryError(f"{path}: lacks {', '.join(missing)}")

    async def span(self) -> Span:
        """Of model_windows."""
        return await asyncio.to_thread(self._span)

    def _span(self) -> Span:
        import pyarrow.compute as pc

        file = self._files[MODELS.name]
        least, most = None, None
        for batch in file.to_batches(columns=["window_start"]):
            if batch.num_rows:
                ends = pc.min_max(_seconds(MODELS.name, batch.column(0))).as_py()
                least = ends["min"] if least is None else min(least, ends["min"])
                most = ends["max"] if most is None else max(most, ends["max"])
        if least is None or most is None:
            raise HistoryError("model_windows.parquet is empty: there is no history")
        return Span(least - least % STEP_S, most - most % STEP_S + STEP_S)

    async def windows(self, span: Span, only: Only, at_once_s: int = STEP_S) -> AsyncIterator[Windows]:
        """Day by day: files that are sorted by time are read once, others are looked through for each day."""
        for piece in days(span):
            models, classes = [await asyncio.to_thread(self._read, table, piece, only) for table in (MODELS, CLASSES)]
            for part in windows(models, classes, piece.start, piece.end, STEP_S, STRIDE_S, at_once_s):
                yield part

    def _read(self, table: WindowTable, span: Span, only: Only) -> SortedRows:
        import pyarrow as pa
        import pyarrow.compute as pc

        file = self._files[table.name]
        type_ = file.schema.field("window_start").type
        start, end = (_as_time(pa, second, type_) for second in (span.start, span.end))
        chosen = (pc.field("window_start") >= start) & (pc.field("window_start") < end)
        for name, value in (("workspace", only.workspace), ("model_id", only.model_id)):
            if value is not None:
                chosen &= pc.field(name) == value
        names = ["window_start", *table.keys, *table.named(*SUMS), *only.histograms(table)]
        found = file.to_table(columns=names, filter=chosen)
        start_s = _seconds(table.name, found.column("window_start").combine_chunks()).to_numpy(zero_copy_only=False)
        if (np.diff(start_s) < 0).any():
            order = np.argsort(start_s, kind="stable")
            found, start_s = found.take(pa.array(order)), start_s[order]
        found = found.combine_chunks()
        texts = {name: _whole(table.name, found, name).cast(pa.string()).to_pylist() for name in table.keys}
        numbers = {name: _counts(table.name, name, _whole(table.name, found, name)) for name in table.named(*SUMS)}
        histograms = {name: _histograms_of_maps(table.name, found, name) for name in only.histograms(table)}
        return SortedRows.of(table, Rows(start_s - start_s % STEP_S, texts, numbers, histograms))


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


def _histograms_of_maps(table: str, found: "pa.Table", name: str) -> Ragged:
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
        return ascending(Ragged(np.diff(offsets).astype(np.int64), keys, _counts(table, name, maps.items[inside])))
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
