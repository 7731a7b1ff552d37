"""A cut as it goes out: records for every partition of inference.aggregates, the same bytes whenever it is made.

Every partition gets at least one record, so that each reader's chain is unbroken and the watermark reaches it. A cut
that is large takes several, each a link of the chain of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np

from pipeline.core.columns import concatenated, joined, take
from pipeline.core.tally import Ints
from pipeline.core.windows.aggregation import Cut
from pipeline.core.windows.fold import Folded
from schemas import aggregate
from schemas.aggregate import AggregateRecord, Rows
from schemas.windows import CLASSES, MODELS, WindowTable

# Part of the format: with other numbers a cut that is made again would not be split as it was. A change needs a new
# version of the name.
_PART_BYTES = 512 << 10
_ROW_BYTES = 150
_ENTRY_BYTES = 12


def records(cut: Cut, source: int, part_bytes: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(partition of inference.aggregates, record) of the cut that `source` made, in the order to send them."""
    part_bytes = part_bytes or _PART_BYTES
    models, classes = _ordered(MODELS, _models(cut)), _ordered(CLASSES, _classes(cut))
    model_targets, class_targets = _targets(models, cut.name.targets), _targets(classes, cut.name.targets)
    for target in range(cut.name.targets):
        mine = np.flatnonzero(model_targets == target), np.flatnonzero(class_targets == target)
        rows = take(models, mine[0]), take(classes, mine[1])
        for part in _parts(cut, source, *rows, part_bytes, is_first=target == 0):
            yield target, aggregate.encode(part)


def _ordered(table: WindowTable, rows: Rows) -> Rows:
    """By window and text: numbers of names depend on where reading began, which no cut may show."""
    keys = list(zip(rows.window_start_s.tolist(), *(rows.texts[name] for name in table.keys), strict=True))
    return take(rows, np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64))


def _targets(rows: Rows, targets: int) -> Ints:
    """The partition of each row: all rows of a model go to one."""
    keys = [f"{w}/{m}" for w, m in zip(rows.texts["workspace"], rows.texts["model_id"], strict=True)]
    target = {key: crc32(key.encode()) % targets for key in set(keys)}
    return np.array([target[key] for key in keys], np.int64)


def _parts(
    cut: Cut, source: int, models: Rows, classes: Rows, part_bytes: int, is_first: bool
) -> Iterator[AggregateRecord]:
    part_of_row = np.cumsum(np.concatenate([_bytes_estimate(models), _bytes_estimate(classes)])) // part_bytes
    count = int(part_of_row[-1]) + 1 if len(part_of_row) else 1
    of_models, of_classes = part_of_row[: len(models)], part_of_row[len(models) :]
    links = [cut.name.start._replace(part=i) for i in range(count)] + [cut.name.end]
    for part in range(count):
        yield AggregateRecord(
            source,
            list(links[part]),
            list(links[part + 1]),
            list(cut.name.numbers),
            cut.low_after,
            take(models, np.flatnonzero(of_models == part)),
            take(classes, np.flatnonzero(of_classes == part)),
            # One record of the cut tells of the events in it.
            *((cut.read_count, _refused(cut)) if is_first and part == 0 else (0, {})),
            cut.name.topic_id,
        )


def _refused(cut: Cut) -> Mapping[str, int]:
    return dict(sorted((why.value, n) for why, n in cut.refused.items()))


def _bytes_estimate(rows: Rows) -> Ints:
    size = np.full(len(rows), _ROW_BYTES, np.int64)
    for sizes, _, _ in rows.histograms.values():
        size += _ENTRY_BYTES * sizes
    for texts in rows.texts.values():
        size += np.array([len(text.encode()) for text in texts], np.int64)
    return size


def _models(cut: Cut) -> Rows:
    folded = [models for _, models, _ in cut.windows]
    texts = [cut.names.series.texts[number] for number in _keys(folded).tolist()]
    return _rows(MODELS, cut, folded, texts)


def _classes(cut: Cut) -> Rows:
    folded = [classes for _, _, classes in cut.windows]
    names = cut.names
    texts = [(*names.models.texts[k >> 32], names.classes.texts[k & 0xFFFFFFFF]) for k in _keys(folded).tolist()]
    return _rows(CLASSES, cut, folded, texts)


def _keys(folded: Sequence[Folded]) -> Ints:
    return concatenated([rows.key for rows in folded])


def _rows(table: WindowTable, cut: Cut, folded: Sequence[Folded], texts: Sequence[tuple[str, ...]]) -> Rows:
    starts = np.array([start // 1000 for start, _, _ in cut.windows], np.int64)
    rows = Rows(
        np.repeat(starts, [len(one.key) for one in folded]),
        {name: [text[i] for text in texts] for i, name in enumerate(table.keys)},
        {name: np.concatenate([one.numbers[name] for one in folded]) for name in (folded[0].numbers if folded else ())},
        {name: joined([one.histograms[name] for one in folded]) for name in (folded[0].histograms if folded else ())},
    )
    return aggregate.with_all(table, rows)
