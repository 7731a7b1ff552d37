"""Histograms that merge by adding: DDSketch's log buckets for latency, 101 linear bins for confidence.

DDSketch: Masson, Rim, Lee, VLDB 2019. Latency bucket b covers (g^(b-1), g^b] microseconds with g = 1.01/0.99, so
the estimate 2 g^b / (g + 1) is within 1 % of every value in it. Bounds come from exact integers, not from a
logarithm: an ulp may differ between machines, and then the same record would make different rows.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

ZERO_BUCKET = -(2**31)  # the bucket of 0 us
CONFIDENCE_BINS = 101
PPM_PER_BIN = 10_000
_G_NUMERATOR, _G_DENOMINATOR = 101, 99
_LATENCY_US_MAX = 86_400_000_000  # one day, schemas.event.LATENCY_MS_MAX


def _latency_bounds() -> Ints:
    """floor(g^b) for b = 0, 1, ... until the longest latency fits: whole microseconds <= g^b are <= floor(g^b)."""
    bounds: list[int] = []
    numerator = denominator = 1
    while not bounds or bounds[-1] < _LATENCY_US_MAX:
        bounds.append(numerator // denominator)
        numerator, denominator = numerator * _G_NUMERATOR, denominator * _G_DENOMINATOR
    return np.array(bounds, np.int64)


LATENCY_BOUNDS = _latency_bounds()  # index b -> the largest whole microsecond in bucket b
GAMMA = _G_NUMERATOR / _G_DENOMINATOR


def latency_buckets(latency_us: Ints) -> Ints:
    """The bucket of each latency, in microseconds."""
    buckets = np.searchsorted(LATENCY_BOUNDS, latency_us, side="left").astype(np.int64)
    buckets[latency_us == 0] = ZERO_BUCKET
    return buckets


def confidence_bins(confidence_ppm: Ints) -> Ints:
    """The bin of each confidence, in parts per million: 0..100."""
    return confidence_ppm // PPM_PER_BIN


def latency_estimate_us(bucket: int) -> float:
    """The value that stands for all of a bucket, in microseconds."""
    return 0.0 if bucket == ZERO_BUCKET else 2 * GAMMA**bucket / (GAMMA + 1)
