"""Every metric of a rule, from merged sums.

Sums of models, devices and classes have one layout: counts, then the bins of confidence, then the buckets of latency.
Only as much of it is kept as a metric needs. Sums of the mix of classes are detections by number of the class.
"""

from collections.abc import Callable
from math import ceil, sqrt

import numpy as np

from pipeline.core.histogram import CONFIDENCE_BINS, LATENCY_BOUNDS, ZERO_BUCKET, latency_estimate_us
from pipeline.core.tally import Ints
from schemas.rule import Metric

INFERENCES, ERRORS, EMPTY, DETECTIONS, LATENCIES, LATENCY_US, CONFIDENCE_PPM = range(7)
_CONFIDENCE_AT = 7
_LATENCY_AT = _CONFIDENCE_AT + CONFIDENCE_BINS  # the bucket of 0 us; bucket b is at 1 + b from here

COUNTS_SIZE = _CONFIDENCE_AT
CONFIDENCE_SIZE = _LATENCY_AT
LATENCY_SIZE = _LATENCY_AT + 1 + len(LATENCY_BOUNDS)

# How many numbers of the layout a metric looks at.
SIZES = {
    **dict.fromkeys(Metric, COUNTS_SIZE),
    Metric.CONFIDENCE_P5: CONFIDENCE_SIZE,
    Metric.CONFIDENCE_P50: CONFIDENCE_SIZE,
    Metric.LATENCY_P50_MS: LATENCY_SIZE,
    Metric.LATENCY_P95_MS: LATENCY_SIZE,
    Metric.LATENCY_P99_MS: LATENCY_SIZE,
}
# Zero is information there, and a few are as good as many.
WITHOUT_MIN_COUNT = frozenset({Metric.INFERENCE_COUNT, Metric.INFERENCE_RATE, Metric.CLASS_COUNT, Metric.SILENCE_S})


def confidence_index(bins: Ints) -> Ints:
    """Where bins of confidence are in the layout."""
    return bins + _CONFIDENCE_AT


def latency_index(buckets: Ints) -> Ints:
    """Where buckets of latency are in the layout."""
    return np.where(buckets == ZERO_BUCKET, _LATENCY_AT, buckets + _LATENCY_AT + 1)


def sample_size(metric: Metric, sums: Ints, whole: Ints) -> int:
    """How many inferences, detections or latencies a metric is about."""
    match metric:
        case Metric.CONFIDENCE_MEAN | Metric.CLASS_COUNT:
            return int(sums[DETECTIONS])
        case Metric.CLASS_SHARE:
            return int(whole[DETECTIONS])
        case Metric.CONFIDENCE_P5 | Metric.CONFIDENCE_P50:
            return int(sums[_CONFIDENCE_AT:_LATENCY_AT].sum())
        case Metric.LATENCY_MEAN_MS:
            return int(sums[LATENCIES])
        case Metric.LATENCY_P50_MS | Metric.LATENCY_P95_MS | Metric.LATENCY_P99_MS:
            return int(sums[_LATENCY_AT:].sum())
        case _:
            return int(sums[INFERENCES])


def measure(metric: Metric, sums: Ints, whole: Ints, window_s: int, min_count: int) -> tuple[float | None, int]:
    """(value, sample size) of a metric; None where the sample is smaller than `min_count` or there is none.

    `whole` are the sums of the model, where `sums` are those of one of its classes. Not for class_distance and
    silence_s, which are not about the sums of one window.
    """
    count = sample_size(metric, sums, whole)
    if metric in WITHOUT_MIN_COUNT:
        return count / window_s if metric is Metric.INFERENCE_RATE else float(count), count
    if count < max(1, min_count):
        return None, count
    return _OF_SAMPLE[metric](sums, count), count


_OF_SAMPLE: dict[Metric, Callable[[Ints, int], float]] = {
    Metric.CONFIDENCE_MEAN: lambda sums, count: int(sums[CONFIDENCE_PPM]) / count / 1e6,
    Metric.CONFIDENCE_P5: lambda sums, _: _confidence_quantile(sums, 0.05),
    Metric.CONFIDENCE_P50: lambda sums, _: _confidence_quantile(sums, 0.5),
    Metric.LATENCY_MEAN_MS: lambda sums, count: int(sums[LATENCY_US]) / count / 1000,
    Metric.LATENCY_P50_MS: lambda sums, _: _latency_quantile_ms(sums, 0.5),
    Metric.LATENCY_P95_MS: lambda sums, _: _latency_quantile_ms(sums, 0.95),
    Metric.LATENCY_P99_MS: lambda sums, _: _latency_quantile_ms(sums, 0.99),
    Metric.CLASS_SHARE: lambda sums, count: int(sums[DETECTIONS]) / count,
    Metric.ERROR_RATE: lambda sums, count: int(sums[ERRORS]) / count,
    Metric.EMPTY_RATE: lambda sums, count: int(sums[EMPTY]) / count,
}


def _place(histogram: Ints, q: float) -> int:
    """Where the value of rank ceil(q n) is."""
    seen = np.cumsum(histogram)
    return int(np.searchsorted(seen, max(1, ceil(q * int(seen[-1])))))


def _confidence_quantile(sums: Ints, q: float) -> float:
    """The middle of the bin that holds it; the last bin holds 1 alone."""
    bin_ = _place(sums[_CONFIDENCE_AT:_LATENCY_AT], q)
    return min(1.0, (bin_ + 0.5) / (CONFIDENCE_BINS - 1))


def _latency_quantile_ms(sums: Ints, q: float) -> float:
    """Within 1 %: see pipeline.core.histogram."""
    place = _place(sums[_LATENCY_AT:], q)
    return latency_estimate_us(place - 1 if place else ZERO_BUCKET) / 1000


def class_distance(mix: Ints, reference: Ints, min_count: int) -> tuple[float | None, int]:
    """(Jensen-Shannon distance of two mixes of classes, size of the smaller sample); None if that is < `min_count`.

    The square root of the divergence in bits: 0 for equal shares, 1 for mixes without a class in common.
    """
    count = min(int(mix.sum()), int(reference.sum()))
    if count < max(1, min_count):
        return None, count
    size = max(len(mix), len(reference))
    p, q = (_shares(counts, size) for counts in (mix, reference))
    middle = (p + q) / 2
    divergence = sum(0.5 * float(np.sum(s[s > 0] * np.log2(s[s > 0] / middle[s > 0]))) for s in (p, q))
    return sqrt(min(1.0, max(0.0, divergence))), count


def largest_changes(mix: Ints, reference: Ints, at_most: int = 5) -> list[tuple[int, float, float]]:
    """(class, share, share in the reference) of the classes whose share changed most."""
    size = max(len(mix), len(reference))
    p, q = (_shares(counts, size) for counts in (mix, reference))
    order = np.argsort(-np.abs(p - q), kind="stable")[:at_most]
    return [(int(i), float(p[i]), float(q[i])) for i in order if p[i] != q[i]]


def _shares(counts: Ints, size: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    shares = np.zeros(size)
    shares[: len(counts)] = counts / counts.sum()
    return shares
