"""What the fold makes of a few events, row by row."""

import numpy as np

from pipeline.core.windows.fold import EventColumns, Folded, concatenate, fold, merge
from pipeline.core.windows.histogram import ZERO_BUCKET
from schemas.windows import CLASSES, MODELS

UNKNOWN = -1


def events(*rows: tuple[int, int, int, int, list[tuple[int, int]]]) -> EventColumns:
    """Each: series, model, latency in us, failed, detections (class, confidence in ppm)."""
    detections = [detection for row in rows for detection in row[4]]
    columns = [[row[i] for row in rows] for i in range(4)]
    columns += [[len(row[4]) for row in rows], [c for c, _ in detections], [ppm for _, ppm in detections]]
    return EventColumns(*(np.array(column, np.int64) for column in columns))


LATENCY, CONFIDENCE = ("latency", "latency_us", "latency_count"), ("confidence", "confidence_ppm", "detection_count")
Spread = tuple[str, str, str]  # how its columns are named: histogram, sum and ends, count


def histograms(rows: Folded, spread: Spread) -> list[dict[int, int]]:
    """The histogram of each row."""
    out: list[dict[int, int]] = [{} for _ in rows.key]
    h = rows.histograms[f"{spread[0]}_histogram"]
    for row, key, count in zip(h.row.tolist(), h.keys.tolist(), h.counts.tolist(), strict=True):
        assert key not in out[row]
        out[row][key] = count
    return out


def spreads(rows: Folded, spread: Spread) -> list[tuple[int, int, int, int, dict[int, int]]]:
    """Count, sum, least, largest, histogram of each row."""
    columns = (spread[2], *(f"{spread[1]}_{end}" for end in ("sum", "min", "max")))
    return list(zip(*(rows.numbers[c].tolist() for c in columns), histograms(rows, spread), strict=True))


def counts(rows: Folded) -> list[tuple[int, int, int, int]]:
    """Series, inferences, errors, empty ones of each row."""
    columns = (rows.numbers[name] for name in ("inference_count", "error_count", "empty_count"))
    return list(zip(rows.key.tolist(), *(c.tolist() for c in columns), strict=True))


def classes_of(rows: Folded) -> list[tuple[int, int, int]]:
    """Model, class, inferences of each row."""
    found = zip(rows.key.tolist(), rows.numbers["inference_count"].tolist(), strict=True)
    return [(k >> 32, k & 0xFFFFFFFF, n) for k, n in found]


def test_events_are_counted_by_series() -> None:
    models, _ = fold(
        events((3, 0, 5, 1, []), (1, 0, 5, 0, [(0, 1)]), (3, 0, 5, 0, []), (3, 0, 5, 1, [(0, 1), (0, 1)])),
    )
    assert counts(models) == [(1, 1, 0, 0), (3, 3, 2, 2)]


def test_an_unknown_latency_counts_nowhere() -> None:
    models, _ = fold(events((0, 0, UNKNOWN, 0, []), (0, 0, 100, 0, []), (0, 0, 1, 0, []), (1, 0, UNKNOWN, 0, [])))
    assert spreads(models, LATENCY) == [(2, 101, 1, 100, {0: 1, 231: 1}), (0, 0, 0, 0, {})]


def test_a_latency_of_zero_counts_in_a_bucket_of_its_own() -> None:
    models, _ = fold(events((0, 0, 0, 0, []), (0, 0, 0, 0, []), (0, 0, 1, 0, [])))
    assert spreads(models, LATENCY) == [(3, 1, 0, 1, {ZERO_BUCKET: 2, 0: 1})]


def test_confidence_is_counted_by_detection() -> None:
    models, _ = fold(events((0, 0, 1, 0, [(0, 1_000_000), (1, 0)]), (0, 0, 1, 0, []), (0, 0, 1, 0, [(0, 9_999)])))
    assert spreads(models, CONFIDENCE) == [(3, 1_009_999, 0, 1_000_000, {0: 2, 100: 1})]


def test_a_class_is_counted_by_model_whatever_the_device() -> None:
    _, classes = fold(events((0, 7, 1, 0, [(2, 10_000)]), (1, 7, 1, 0, [(2, 30_000)]), (2, 8, 1, 0, [(2, 50_000)])))
    assert classes_of(classes) == [(7, 2, 2), (8, 2, 1)]
    assert spreads(classes, CONFIDENCE) == [
        (2, 40_000, 10_000, 30_000, {1: 1, 3: 1}),
        (1, 50_000, 50_000, 50_000, {5: 1}),
    ]


def test_an_inference_counts_once_for_a_class_that_it_shows_twice() -> None:
    _, classes = fold(events((0, 0, 1, 0, [(5, 1), (4, 1), (5, 1)]), (0, 0, 1, 0, [(5, 1)])))
    assert classes_of(classes) == [(0, 4, 1), (0, 5, 2)]
    assert classes.numbers["detection_count"].tolist() == [1, 3]


def test_events_without_detections_make_no_class_rows() -> None:
    _, classes = fold(events((0, 0, 1, 0, [])))
    assert len(classes.key) == len(classes.numbers["detection_count"]) == 0


def test_parts_are_one_after_the_other() -> None:
    first, second = events((0, 1, 2, 0, [(3, 4)])), events((5, 6, 7, 1, [(8, 9), (10, 11)]))
    whole = concatenate([first, second])
    assert len(whole) == 2
    assert whole.detections.tolist() == [1, 2]
    assert whole.class_id.tolist() == [3, 8, 10]
    assert concatenate([first]) is first


def test_rows_of_a_series_merge_and_nothing_has_no_least_value() -> None:
    with_none, _ = fold(events((0, 0, UNKNOWN, 0, []), (2, 0, 5, 0, [])))
    with_some, _ = fold(events((0, 0, 7, 1, [(0, 20_000)]), (1, 0, 0, 0, [])))
    merged = merge(MODELS, [with_none, with_some])
    assert counts(merged) == [(0, 2, 1, 1), (1, 1, 0, 1), (2, 1, 0, 1)]
    assert [spread[:4] for spread in spreads(merged, LATENCY)] == [(1, 7, 7, 7), (1, 0, 0, 0), (1, 5, 5, 5)]
    assert spreads(merged, CONFIDENCE)[0] == (1, 20_000, 20_000, 20_000, {2: 1})
    assert histograms(merged, LATENCY)[1] == {ZERO_BUCKET: 1}


def test_rows_of_a_class_merge() -> None:
    _, first = fold(events((0, 1, 1, 0, [(0, 10_000), (3, 0)])))
    _, second = fold(events((0, 1, 1, 0, [(0, 10_000)]), (0, 0, 1, 0, [(9, 0)])))
    merged = merge(CLASSES, [first, second])
    assert classes_of(merged) == [(0, 9, 1), (1, 0, 2), (1, 3, 1)]
    assert histograms(merged, CONFIDENCE) == [{0: 1}, {1: 2}, {0: 1}]
