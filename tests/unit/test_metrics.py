"""Each metric, against the same computed from single values."""

import math
import random

import numpy as np
import pytest

from pipeline.core.rules import meters
from pipeline.core.tally import Ints
from pipeline.core.windows.histogram import confidence_bins, latency_buckets
from schemas.rule import Metric

EMPTY = np.zeros(meters.LATENCY_SIZE, np.int64)


def sums(latencies_us: list[int] = [], confidences_ppm: list[int] = [], **counts: int) -> Ints:  # noqa: B006
    """Sums of single values."""
    out = EMPTY.copy()
    for name, count in counts.items():
        out[getattr(meters, name)] = count
    latency, confidence = np.array(latencies_us, np.int64), np.array(confidences_ppm, np.int64)
    out[meters.LATENCIES], out[meters.LATENCY_US] = len(latency), latency.sum()
    out[meters.DETECTIONS], out[meters.CONFIDENCE_PPM] = (
        max(len(confidence), out[meters.DETECTIONS]),
        confidence.sum(),
    )
    np.add.at(out, meters.latency_index(latency_buckets(latency)), 1)
    np.add.at(out, meters.confidence_index(confidence_bins(confidence)), 1)
    return out


def value(metric: Metric, of: Ints, *, whole: Ints = EMPTY, window_s: int = 60, min_count: int = 1) -> float | None:
    return meters.METERS[metric].measure(of, whole, window_s, min_count)[0]


def rank(values: list[int], q: float) -> int:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_of_latency_are_within_one_percent(seed: int) -> None:
    rng = random.Random(seed)
    latencies = [int(rng.lognormvariate(10, 1)) for _ in range(rng.randint(1, 300))] + [0] * rng.randint(0, 5)
    of = sums(latencies)
    for metric, q in ((Metric.LATENCY_P50_MS, 0.5), (Metric.LATENCY_P95_MS, 0.95), (Metric.LATENCY_P99_MS, 0.99)):
        assert value(metric, of) == pytest.approx(rank(latencies, q) / 1000, rel=0.0101)
    assert value(Metric.LATENCY_MEAN_MS, of) == sum(latencies) / len(latencies) / 1000


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_of_confidence_are_the_middle_of_their_bin(seed: int) -> None:
    rng = random.Random(seed)
    confidences = [rng.randint(0, 1_000_000) for _ in range(rng.randint(1, 300))]
    of = sums(confidences_ppm=confidences)
    for metric, q in ((Metric.CONFIDENCE_P5, 0.05), (Metric.CONFIDENCE_P50, 0.5)):
        found = value(metric, of)
        assert found is not None
        assert abs(found - rank(confidences, q) / 1e6) <= 0.005
    assert value(Metric.CONFIDENCE_MEAN, of) == pytest.approx(sum(confidences) / len(confidences) / 1e6)
    assert value(Metric.CONFIDENCE_P50, sums(confidences_ppm=[1_000_000])) == 1.0


def test_a_latency_of_nothing_is_nothing() -> None:
    assert value(Metric.LATENCY_P99_MS, sums([0, 0])) == 0.0


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (Metric.INFERENCE_COUNT, 40.0),
        (Metric.INFERENCE_RATE, 40 / 60),
        (Metric.ERROR_RATE, 0.1),
        (Metric.EMPTY_RATE, 0.25),
        (Metric.CLASS_COUNT, 50.0),
        (Metric.CLASS_SHARE, 0.5),
    ],
)
def test_counts_and_shares(metric: Metric, wanted: float) -> None:
    of = sums(INFERENCES=40, ERRORS=4, EMPTY=10, DETECTIONS=50)
    assert value(metric, of, whole=sums(DETECTIONS=100)) == wanted


SAMPLED = [m for m in Metric if m not in (*meters.WITHOUT_MIN_COUNT, Metric.CLASS_DISTANCE)]


@pytest.mark.parametrize("metric", SAMPLED)
def test_a_small_sample_says_nothing(metric: Metric) -> None:
    of = sums([1000] * 5, [500_000] * 5, INFERENCES=5, DETECTIONS=5)
    assert meters.METERS[metric].measure(of, of, 60, 5)[0] is not None
    assert meters.METERS[metric].measure(of, of, 60, 6) == (None, 5)
    assert meters.METERS[metric].measure(EMPTY, EMPTY, 60, 0) == (None, 0)


def test_zero_is_a_count() -> None:
    for metric in (Metric.INFERENCE_COUNT, Metric.INFERENCE_RATE, Metric.CLASS_COUNT):
        assert value(metric, EMPTY, min_count=1000) == 0.0


def test_the_distance_of_mixes_is_from_0_for_the_same_to_1_for_nothing_in_common() -> None:
    def distance(p: list[int], q: list[int]) -> float | None:
        return meters.class_distance(np.array(p), np.array(q), 1)[0]

    assert distance([5, 5], [50, 50]) == 0.0
    assert distance([5, 0], [0, 70]) == 1.0
    assert distance([7], [0, 0, 3]) == 1.0
    # Half of one bit, by hand: p = (1, 0), q = (1/2, 1/2), middle (3/4, 1/4).
    divergence = 0.5 * math.log2(4 / 3) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert distance([8, 0], [4, 4]) == pytest.approx(math.sqrt(divergence))
    assert distance([8, 0], [4, 4]) == distance([4, 4], [8, 0])


def test_the_distance_needs_enough_of_both() -> None:
    assert meters.class_distance(np.array([9]), np.array([500]), 10) == (None, 9)
    assert meters.class_distance(np.array([500]), np.array([9]), 10) == (None, 9)
    assert meters.class_distance(np.array([], np.int64), np.array([9]), 0) == (None, 0)


def test_the_largest_changes_are_named() -> None:
    changes = meters.largest_changes(np.array([10, 70, 20]), np.array([10, 20, 70, 0]))
    assert changes == [(1, 0.7, 0.2), (2, 0.2, 0.7)]
