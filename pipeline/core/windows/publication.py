"""A cut as it goes out: records for every partition of inference.aggregates, the same bytes whenever it is made.

Every partition gets at least one record, so that each reader's chain is unbroken and the watermark reaches it. A cut
that is large takes several, each a link of the chain of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from zlib import crc32

import numpy as np
import orjson

from pipeline.core.ledger.names import Position
from pipeline.core.tally import Ints, ragged_entries
from pipeline.core.windows.aggregation import Cut
from pipeline.core.windows.fold import Histograms, Spread
from schemas import aggregate

# Part of the format: with other numbers a cut that is made again would not be split as it was. A change needs a new
# version of the name.
_PART_BYTES = 512 << 10
_ROW_BYTES = 250
_ENTRY_BYTES = 12


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list of (key, count) a row, end to end."""

    sizes: Ints
    keys: Ints
    counts: Ints

    def take(self, rows: Ints) -> "Ragged":
        """These rows, in this order."""
        entries = ragged_entries(self.sizes, rows)
        return Ragged(self.sizes[rows], self.keys[entries], self.counts[entries])


Column = Ints | list[str] | Ragged
Table = dict[str, Column]


def take(table: Table, rows: Ints) -> Table:
    """These rows of a table, in this order."""
    numbers = rows.tolist()
    return {
        name: [column[i] for i in numbers]
        if isinstance(column, list)
        else column.take(rows)
        if isinstance(column, Ragged)
        else column[rows]
        for name, column in table.items()
    }


def records(cut: Cut, source: int, part_bytes: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(partition of inference.aggregates, record) of the cut that `source` made, in the order to send them."""
    part_bytes = part_bytes or _PART_BYTES
    models = _ordered(_model_table(cut), "workspace", "model_id", "device_id")
    classes = _ordered(_class_table(cut), "workspace", "model_id", "class_name")
    model_targets, class_targets = _targets(models, cut.name.targets), _targets(classes, cut.name.targets)
    for target in range(cut.name.targets):
        mine = np.flatnonzero(model_targets == target), np.flatnonzero(class_targets == target)
        of_records = _of_records(cut) if target == 0 else {}
        for part in _parts(cut, source, take(models, mine[0]), take(classes, mine[1]), of_records, part_bytes):
            yield target, part


def _of_records(cut: Cut) -> dict[str, object]:
    """What one record of the cut tells of the events in it."""
    return {"read_count": cut.read_count, "refused": dict(sorted((why.value, n) for why, n in cut.refused.items()))}


def _ordered(table: Table, *keys: str) -> Table:
    """By window and text: numbers of names depend on where reading began, which no cut may show."""
    columns: list[list[object]] = [np.asarray(table[name]).tolist() for name in ("window_start_s",)]
    columns += [list(column) for name in keys if isinstance(column := table[name], list)]
    sort_keys = list(zip(*columns, strict=True))
    return take(table, np.array(sorted(range(len(sort_keys)), key=sort_keys.__getitem__), np.int64))


def _targets(table: Table, targets: int) -> Ints:
    """The partition of each row: all rows of a model go to one."""
    workspaces, models = table["workspace"], table["model_id"]
    assert isinstance(workspaces, list)
    assert isinstance(models, list)
    keys = [f"{workspace}/{model}" for workspace, model in zip(workspaces, models, strict=True)]
    target = {key: crc32(key.encode()) % targets for key in set(keys)}
    return np.array([target[key] for key in keys], np.int64)


def _parts(
    cut: Cut, source: int, models: Table, classes: Table, of_records: Mapping[str, object], part_bytes: int
) -> Iterator[bytes]:
    weights = np.concatenate([_bytes_estimate(models, "confidence", "latency"), _bytes_estimate(classes, "confidence")])
    part_of_row = np.cumsum(weights) // part_bytes
    count = int(part_of_row[-1]) + 1 if len(part_of_row) else 1
    model_count = _row_count(models)
    of_models, of_classes = part_of_row[:model_count], part_of_row[model_count:]
    start, end = cut.name.start, cut.name.end
    links = [start._replace(part=i) for i in range(count)] + [end]
    for part in range(count):
        yield _record(
            cut,
            source,
            links[part],
            links[part + 1],
            take(models, np.flatnonzero(of_models == part)),
            take(classes, np.flatnonzero(of_classes == part)),
            of_records if part == 0 else {},
        )


def _row_count(table: Table) -> int:
    counts = table["inference_count"]
    assert isinstance(counts, np.ndarray)
    return len(counts)


def _record(
    cut: Cut,
    source: int,
    start: Position,
    end: Position,
    models: Table,
    classes: Table,
    of_records: Mapping[str, object],
) -> bytes:
    record = {
        "version": aggregate.VERSION,
        "source": source,
        "start": list(start),
        "end": list(end),
        "cut": list(astuple(cut.name)),
        "low": cut.low_after,
        "models": {name: _plain(column) for name, column in models.items()},
        "classes": {name: _plain(column) for name, column in classes.items()},
        **of_records,
    }
    return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(column: Column) -> object:
    if isinstance(column, Ragged):
        return {"sizes": column.sizes, "keys": column.keys, "counts": column.counts}
    return column


def _bytes_estimate(table: Table, *histograms: str) -> Ints:
    size = np.full(_row_count(table), _ROW_BYTES, np.int64)
    for name in histograms:
        histogram = table[f"{name}_histogram"]
        assert isinstance(histogram, Ragged)
        size += _ENTRY_BYTES * histogram.sizes
    for column in table.values():
        if isinstance(column, list):
            size += np.array([len(text.encode()) for text in column], np.int64)
    return size


def _model_table(cut: Cut) -> Table:
    rows = [models for _, models, _ in cut.windows]
    texts = [cut.names.series.texts[number] for number in _concatenate([m.series for m in rows]).tolist()]
    return {
        "window_start_s": _window_column(cut, [len(m.series) for m in rows]),
        "workspace": [t[0] for t in texts],
        "model_id": [t[1] for t in texts],
        "device_id": [t[2] for t in texts],
        "inference_count": _concatenate([m.inference_count for m in rows]),
        "error_count": _concatenate([m.error_count for m in rows]),
        "empty_count": _concatenate([m.empty_count for m in rows]),
        "detection_count": _concatenate([m.confidence.count for m in rows]),
        "latency_count": _concatenate([m.latency.count for m in rows]),
        **_spread("latency_us", "latency", [m.latency for m in rows]),
        **_spread("confidence_ppm", "confidence", [m.confidence for m in rows]),
    }


def _class_table(cut: Cut) -> Table:
    rows = [classes for _, _, classes in cut.windows]
    keys = _concatenate([c.key for c in rows]).tolist()
    models = [cut.names.models.texts[key >> 32] for key in keys]
    return {
        "window_start_s": _window_column(cut, [len(c.key) for c in rows]),
        "workspace": [m[0] for m in models],
        "model_id": [m[1] for m in models],
        "class_name": [cut.names.classes.texts[key & 0xFFFFFFFF] for key in keys],
        "detection_count": _concatenate([c.confidence.count for c in rows]),
        "inference_count": _concatenate([c.inference_count for c in rows]),
        **_spread("confidence_ppm", "confidence", [c.confidence for c in rows]),
    }


def _window_column(cut: Cut, sizes: list[int]) -> Ints:
    return np.repeat(np.array([start // 1000 for start, _, _ in cut.windows], np.int64), sizes)


def _spread(value: str, name: str, spreads: list[Spread]) -> Table:
    return {
        f"{value}_sum": _concatenate([s.sum for s in spreads]),
        f"{value}_min": _concatenate([s.min for s in spreads]),
        f"{value}_max": _concatenate([s.max for s in spreads]),
        f"{name}_histogram": _ragged([s.histogram for s in spreads], [len(s.count) for s in spreads]),
    }


def _ragged(histograms: list[Histograms], sizes: list[int]) -> Ragged:
    return Ragged(
        _concatenate([np.bincount(h.row, minlength=n) for h, n in zip(histograms, sizes, strict=True)]),
        _concatenate([h.key for h in histograms]),
        _concatenate([h.count for h in histograms]),
    )


def _concatenate(arrays: list[Ints]) -> Ints:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
