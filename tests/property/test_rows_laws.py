"""Laws of the fold: any way of cutting events into parts and merging the rows makes the rows of the whole."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import tally
from pipeline.core.windows.fold import EventColumns, Folded, concatenate, fold, merge
from schemas.windows import CLASSES, MODELS
from tests import recount


@dataclass(frozen=True)
class Event:
    """One event, as numbers. Its model is half its series."""

    series: int
    latency_us: int | None
    failed: bool
    detections: list[tuple[int, int]]  # (class, confidence in ppm)


latencies = st.none() | st.sampled_from((0, 1, 7)) | st.integers(0, 86_400_000_000)
ppm = st.sampled_from((0, 9_999, 10_000, 1_000_000)) | st.integers(0, 1_000_000)
numbers = st.integers(0, 4) | st.just(100_000)  # far apart: not every table can be dense
events = st.lists(
    st.builds(Event, numbers, latencies, st.booleans(), st.lists(st.tuples(numbers, ppm), max_size=4)), max_size=25
)
some_events = events.filter(bool)
quick = settings(max_examples=60)


def columns(some: list[Event]) -> EventColumns:
    """As the machine makes them."""
    detections = [detection for event in some for detection in event.detections]
    lists: list[list[int]] = [
        [event.series for event in some],
        [event.series // 2 for event in some],
        [-1 if event.latency_us is None else event.latency_us for event in some],
        [int(event.failed) for event in some],
        [len(event.detections) for event in some],
        [class_id for class_id, _ in detections],
        [ppm for _, ppm in detections],
    ]
    return EventColumns(*(np.array(values, np.int64) for values in lists))


def plain(rows: Folded) -> Any:
    """Every array as a list: equal if and only if the rows are, in the same order."""

    def lists(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: lists(inner) for name, inner in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else [lists(inner) for inner in value]

    return lists(astuple(rows))


def parts(some: list[Event], data: st.DataObject) -> list[EventColumns]:
    """The events cut into parts, none of them empty."""
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(some) - 1)), max_size=5)))
    edges = [0, *(cut for cut in cuts if cut < len(some)), len(some)]
    return [columns(some[start:end]) for start, end in pairwise(edges)]


def spread(values: list[int], bucket_of: Any) -> tuple[Any, ...]:
    """Count, sum, least, largest, histogram."""
    buckets = tuple(sorted(Counter(map(bucket_of, values)).items()))
    return len(values), sum(values), min(values, default=0), max(values, default=0), buckets


def spreads(found: Folded, name: str, value: str, count: str) -> Iterator[tuple[Any, ...]]:
    """The same of the fold's rows."""
    h = found.histograms[f"{name}_histogram"]
    entries = list(zip(h.row.tolist(), h.keys.tolist(), h.counts.tolist(), strict=True))
    assert entries == sorted(entries)
    columns = [found.numbers[column] for column in (count, f"{value}_sum", f"{value}_min", f"{value}_max")]
    for row in range(len(found.key)):
        buckets = tuple((key, count) for at, key, count in entries if at == row)
        yield *(int(column[row]) for column in columns), buckets


LATENCY, CONFIDENCE = ("latency", "latency_us", "latency_count"), ("confidence", "confidence_ppm", "detection_count")


@given(some_events)
def test_rows_of_models_are_those_of_counting_one_by_one(some: list[Event]) -> None:
    models, _ = fold(columns(some))
    assert models.key.tolist() == sorted({event.series for event in some})
    latency, confidence = spreads(models, *LATENCY), spreads(models, *CONFIDENCE)
    for row, series in enumerate(models.key.tolist()):
        mine = [event for event in some if event.series == series]
        assert models.numbers["inference_count"][row] == len(mine)
        assert models.numbers["error_count"][row] == sum(event.failed for event in mine)
        assert models.numbers["empty_count"][row] == sum(not event.detections for event in mine)
        known = [event.latency_us for event in mine if event.latency_us is not None]
        assert next(latency) == spread(known, recount.latency_bucket)
        assert next(confidence) == spread([c for e in mine for _, c in e.detections], lambda ppm: ppm // 10_000)


@given(some_events)
def test_rows_of_classes_are_those_of_counting_one_by_one(some: list[Event]) -> None:
    _, classes = fold(columns(some))
    keys = sorted({(event.series // 2, class_id) for event in some for class_id, _ in event.detections})
    assert [(key >> 32, key & 0xFFFFFFFF) for key in classes.key.tolist()] == keys
    for row, (found, (model, class_id)) in enumerate(zip(spreads(classes, *CONFIDENCE), keys, strict=True)):
        mine = [[c for n, c in e.detections if n == class_id] for e in some if e.series // 2 == model]
        assert classes.numbers["inference_count"][row] == sum(map(bool, mine))
        assert found == spread([c for confidences in mine for c in confidences], lambda ppm: ppm // 10_000)


@quick
@given(some_events, st.data())
def test_rows_of_parts_merge_into_the_rows_of_the_whole(some: list[Event], data: st.DataObject) -> None:
    folded = [fold(part) for part in parts(some, data)]
    models, classes = fold(columns(some))
    assert plain(merge(MODELS, [m for m, _ in folded])) == plain(models)
    assert plain(merge(CLASSES, [c for _, c in folded])) == plain(classes)


@quick
@given(some_events, st.data())
def test_parts_of_events_make_the_rows_of_the_whole(some: list[Event], data: st.DataObject) -> None:
    assert [plain(rows) for rows in fold(concatenate(parts(some, data)))] == [
        plain(rows) for rows in fold(columns(some))
    ]


@quick
@given(some_events, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_show(some: list[Event], random: Any) -> None:
    other = some.copy()
    random.shuffle(other)
    assert [plain(rows) for rows in fold(columns(other))] == [plain(rows) for rows in fold(columns(some))]


@quick
@given(some_events, some_events, some_events)
def test_merging_goes_in_any_order(a: list[Event], b: list[Event], c: list[Event]) -> None:
    (models_a, classes_a), (models_b, classes_b), (models_c, classes_c) = (fold(columns(some)) for some in (a, b, c))
    assert plain(merge(MODELS, [models_c, merge(MODELS, [models_a, models_b])])) == plain(
        merge(MODELS, [models_a, models_b, models_c])
    )
    assert plain(merge(CLASSES, [classes_b, merge(CLASSES, [classes_c, classes_a])])) == plain(
        merge(CLASSES, [classes_a, classes_b, classes_c])
    )


@quick
@given(some_events, some_events)
def test_sorting_counts_as_a_table_does(a: list[Event], b: list[Event]) -> None:
    """Which way is taken depends on how much there is at once, and must not show."""

    def rows() -> list[Any]:
        (models_a, classes_a), (models_b, classes_b) = fold(columns(a)), fold(columns(b))
        return [plain(merge(MODELS, [models_a, models_b])), plain(merge(CLASSES, [classes_a, classes_b]))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "_DENSE_MAX", 1 << 30)
        by_table = rows()
        patch.setattr(tally, "_DENSE_MAX", 0)
        assert rows() == by_table
