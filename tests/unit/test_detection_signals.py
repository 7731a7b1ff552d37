"""From the rows of a window to its signals."""

import numpy as np
import pytest

from pipeline.core.detection.signals import ClassRows, ModelRows, Signal, log_quantiles, signals
from pipeline.core.windows.histogram import ZERO_BUCKET, latency_buckets
from tests.detection import Health, model_rows, window_rows


def of(
    models: list[dict[str, object]], classes: list[dict[str, object]], seats: dict[str, int]
) -> tuple[ModelRows, ClassRows]:
    rows = window_rows(models, classes)
    everything = np.arange(len(rows.models)), np.arange(len(rows.classes))
    return (
        ModelRows.of(rows.models, everything[0], np.zeros(len(everything[0]), np.int64)),
        ClassRows(
            np.zeros(len(everything[1]), np.int64),
            np.array([seats[name] for name in rows.classes.texts["class"]]),
            rows.classes.numbers["detection_count"],
        ),
    )


def test_the_devices_of_a_model_are_one() -> None:
    models, classes = model_rows(np.random.default_rng(1), Health(), 1_000_000, devices=3)
    model_part, class_part = of(models, classes, {"person": 0, "car": 1, "dog": 8})
    got = signals([model_part], [class_part], 1)
    n = sum(row["inference_count"] for row in models)
    detections = sum(row["detection_count"] for row in models)
    assert got.x[Signal.TRAFFIC, 0] == n
    assert got.n[Signal.TRAFFIC, 0] == 1
    assert got.x[Signal.ERRORS, 0] == sum(row["error_count"] for row in models)
    assert got.x[Signal.EMPTY, 0] == sum(row["empty_count"] for row in models)
    assert got.n[Signal.ERRORS, 0] == got.n[Signal.EMPTY, 0] == got.n[Signal.LATENCY_P95, 0] == n
    assert got.x[Signal.CONFIDENCE, 0] == pytest.approx(
        sum(row["confidence_ppm_sum"] for row in models) / detections / 1e6
    )
    assert got.x[Signal.CLASS :, 0].sum() == detections
    assert got.x[Signal.CLASS + 8, 0] == next(row["detection_count"] for row in classes if row["class"] == "dog")


def test_a_window_in_parts_is_the_window() -> None:
    models, classes = model_rows(np.random.default_rng(1), Health(), 1_000_000, devices=3)
    seats = {"person": 0, "car": 1, "dog": 2}
    model_part, class_part = of(models, classes, seats)
    whole = signals([model_part], [class_part], 1)
    a, b = of(models[:1], classes[:2], seats), of(models[1:], classes[2:], seats)
    parts = signals([a[0], b[0]], [a[1], b[1]], 1)
    assert np.array_equal(whole.x, parts.x)
    assert np.array_equal(whole.n, parts.n)


def test_no_row_is_no_traffic_and_nothing_else_to_observe() -> None:
    got = signals([], [], 2)
    assert got.n.sum() == got.n[Signal.TRAFFIC].sum() == 2
    assert not got.x.any()


@pytest.mark.parametrize("q", [50, 95])
def test_a_quantile_is_not_rounded_to_its_bucket(q: int) -> None:
    """Buckets are 2 % wide; the quantile of 2,000 latencies follows a change of 1 % all the same."""
    rng = np.random.default_rng(3)
    latencies = np.exp(np.log(40_000) + 0.35 * rng.normal(size=2_000))
    errors = []
    for factor in np.linspace(1, 1.04, 9):
        values = (latencies * factor).astype(np.int64)
        keys, counts = np.unique(latency_buckets(values), return_counts=True)
        (got,) = log_quantiles(np.zeros(len(keys), np.int64), keys, counts, 1, [q])[:, 0]
        errors.append(got - np.log(np.quantile(values, q / 100)))
    assert np.max(np.abs(errors)) < 0.004


def test_a_bucket_of_two_devices_is_one_bucket() -> None:
    split = log_quantiles(np.zeros(3, np.int64), np.array([220, 230, 220]), np.array([3, 1, 3]), 1, [50])
    whole = log_quantiles(np.zeros(2, np.int64), np.array([220, 230]), np.array([6, 1]), 1, [50])
    assert split == whole


def test_latencies_of_nothing_are_short_and_those_of_other_models_apart() -> None:
    owner, keys = np.array([2, 0, 2]), np.array([220, ZERO_BUCKET, 231])
    got = log_quantiles(owner, keys, np.array([1, 4, 1]), 3, [50, 95])
    assert got[0, 0] <= 0
    assert not got[:, 1].any()
    assert np.exp(got[0, 2]) == pytest.approx((101 / 99) ** 220, rel=1e-6)
    assert got[1, 2] > got[0, 2]
