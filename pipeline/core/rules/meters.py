"""Every metric of a rule, from merged sums.

Sums of models, devices and classes have one layout: counts, then the bins of confidence, then the buckets of latency.
Only as much of it is kept as a metric needs. Sums of the mix of classes are detections by number of the class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from pipeline.core.tally import Ints
from pipeline.core.windows.histogram import CONFIDENCE_BINS, LATENCY_BOUNDS, ZERO_BUCKET, latency_estimate_us
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


@dataclass(frozen=True, slots=True)
class Meter:
    """How a metric is measured. `whole`: the sums of the model, where `sums` are those of one of its classes."""

    sample_size: Callable[[Ints, Ints], int]  # how many inferences, detections or latencies it is about
    of_sample: Callable[[Ints, int, int], float]  # sums, size of the sample, length of the window (s)
    asks_min_count: bool

    def measure(self, sums: Ints, whole: Ints, window_s: int, min_count: int) -> tuple[float | None, int]:
        """(value, sample size); None where the sample is smaller than `min_count` or there is none."""
        count = self.sample_size(sums, whole)
        if self.asks_min_count and count < max(1, min_count):
            return None, count
        return self.of_sample(sums, count, window_s), count


def _place(histogram: Ints, q: float) -> int:
    """Where the value of rank ceil(q n) is."""
    seen = histogram.cumsum()
    return int(seen.searchsorted(max(1, ceil(q * int(seen[-1])))))


def _confidence_quantile(sums: Ints, q: float) -> float:
    """The middle of the bin that holds it; the last bin holds 1 alone."""
    bin_ = _place(sums[_CONFIDENCE_AT:_LATENCY_AT], q)
    return min(1.0, (bin_ + 0.5) / (CONFIDENCE_BINS - 1))


def _latency_quantile_ms(sums: Ints, q: float) -> float:
    """Within 1 %: see pipeline.core.windows.histogram."""
    place = _place(sums[_LATENCY_AT:], q)
    return latency_estimate_us(place - 1 if place else ZERO_BUCKET) / 1000


def _inferences(sums: Ints, whole: Ints) -> int:
    return int(sums[INFERENCES])


def _detections(sums: Ints, whole: Ints) -> int:
    return int(sums[DETECTIONS])


def _all_detections(sums: Ints, whole: Ints) -> int:
    return int(whole[DETECTIONS])


def _latencies(sums: Ints, whole: Ints) -> int:
    return int(sums[LATENCIES])


def _confidences_binned(sums: Ints, whole: Ints) -> int:
    return int(sums[_CONFIDENCE_AT:_LATENCY_AT].sum())


def _latencies_binned(sums: Ints, whole: Ints) -> int:
    return int(sums[_LATENCY_AT:].sum())


def _meter(
    metric: Metric, sample_size: Callable[[Ints, Ints], int], of_sample: Callable[[Ints, int, int], float]
) -> tuple[Metric, Meter]:
    return metric, Meter(sample_size, of_sample, metric not in WITHOUT_MIN_COUNT)


# Not class_distance and silence_s, which are not about the sums of one window.
METERS: dict[Metric, Meter] = dict(
    (
        _meter(Metric.INFERENCE_COUNT, _inferences, lambda sums, count, _: float(count)),
        _meter(Metric.INFERENCE_RATE, _inferences, lambda sums, count, window_s: count / window_s),
        _meter(Metric.CONFIDENCE_MEAN, _detections, lambda sums, count, _: int(sums[CONFIDENCE_PPM]) / count / 1e6),
        _meter(Metric.CONFIDENCE_P5, _confidences_binned, lambda sums, *_: _confidence_quantile(sums, 0.05)),
        _meter(Metric.CONFIDENCE_P50, _confidences_binned, lambda sums, *_: _confidence_quantile(sums, 0.5)),
        _meter(Metric.LATENCY_MEAN_MS, _latencies, lambda sums, count, _: int(sums[LATENCY_US]) / count / 1000),
        _meter(Metric.LATENCY_P50_MS, _latencies_binned, lambda sums, *_: _latency_quantile_ms(sums, 0.5)),
        _meter(Metric.LATENCY_P95_MS, _latencies_binned, lambda sums, *_: _latency_quantile_ms(sums, 0.95)),
        _meter(Metric.LATENCY_P99_MS, _latencies_binned, lambda sums, *_: _latency_quantile_ms(sums, 0.99)),
        _meter(Metric.CLASS_COUNT, _detections, lambda sums, count, _: float(count)),
        _meter(Metric.CLASS_SHARE, _all_detections, lambda sums, count, _: int(sums[DETECTIONS]) / count),
        _meter(Metric.ERROR_RATE, _inferences, lambda sums, count, _: int(sums[ERRORS]) / count),
        _meter(Metric.EMPTY_RATE, _inferences, lambda sums, count, _: int(sums[EMPTY]) / count),
    )
)


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
