"""Bounds of the buckets are exact, and every value is within 1 % of what stands for it."""

from fractions import Fraction

import numpy as np
import pytest

from pipeline.core.windows.histogram import (
    CONFIDENCE_BINS,
    GAMMA,
    LATENCY_BOUNDS,
    ZERO_BUCKET,
    confidence_bins,
    latency_buckets,
    latency_estimate_us,
)
from schemas.event import LATENCY_MS_MAX
from tests import recount
from tests.quantiles import latency_quantile_us

EXACT_GAMMA = Fraction(101, 99)
DAY_US = 86_400_000_000
ULPS = 1e-9  # what rounding may add to 1 %


def buckets(*latency_us: int) -> list[int]:
    return [int(b) for b in latency_buckets(np.array(latency_us, np.int64))]


def test_every_bound_is_the_whole_part_of_the_exact_power() -> None:
    power = Fraction(1)
    for bound in LATENCY_BOUNDS.tolist():
        assert bound == power.numerator // power.denominator
        power *= EXACT_GAMMA


def test_the_table_ends_with_the_longest_latency_that_an_event_may_have() -> None:
    assert LATENCY_MS_MAX * 1000 == DAY_US
    assert LATENCY_BOUNDS[-2] < DAY_US <= LATENCY_BOUNDS[-1]
    assert buckets(DAY_US) == [len(LATENCY_BOUNDS) - 1]


def test_a_bound_belongs_to_its_bucket_and_the_next_microsecond_to_a_later_one() -> None:
    wide = [b for b in range(1, len(LATENCY_BOUNDS)) if LATENCY_BOUNDS[b] > LATENCY_BOUNDS[b - 1]]
    bounds = LATENCY_BOUNDS[wide]
    assert latency_buckets(bounds).tolist() == wide
    assert (latency_buckets(bounds + 1) > np.array(wide)).all()


def test_buckets_are_those_of_exact_arithmetic_up_to_5000_us() -> None:
    assert buckets(*range(5001)) == [recount.latency_bucket(us) for us in range(5001)]


def test_every_latency_up_to_5000_us_is_within_one_percent_of_its_buckets_estimate() -> None:
    for us, bucket in zip(range(1, 5001), buckets(*range(1, 5001)), strict=True):
        assert abs(latency_estimate_us(bucket) - us) <= us * (0.01 + ULPS)


def test_the_estimate_is_what_the_contract_says() -> None:
    assert Fraction("1.01") / Fraction("0.99") == EXACT_GAMMA
    for bucket in (0, 1, 100, len(LATENCY_BOUNDS) - 1):
        exact = 2 * EXACT_GAMMA**bucket / (EXACT_GAMMA + 1)
        assert latency_estimate_us(bucket) == pytest.approx(float(exact), rel=1e-12)
    assert pytest.approx(float(EXACT_GAMMA), rel=1e-15) == GAMMA


def test_zero_has_a_bucket_of_its_own_below_all_others() -> None:
    assert buckets(0, 1, 2, 0) == [ZERO_BUCKET, 0, 35, ZERO_BUCKET]
    assert np.iinfo(np.int32).min == ZERO_BUCKET
    assert latency_estimate_us(ZERO_BUCKET) == 0.0


def test_bucketing_leaves_its_input_as_it_is_and_takes_none() -> None:
    values = np.array([0, 5, 0], np.int64)
    latency_buckets(values)
    assert values.tolist() == [0, 5, 0]
    assert buckets() == []


@pytest.mark.parametrize(
    ("ppm", "bin_"),
    [(0, 0), (9_999, 0), (10_000, 1), (19_999, 1), (500_000, 50), (989_999, 98), (990_000, 99), (999_999, 99)],
)
def test_a_confidence_bin_is_one_percent_wide_and_half_open(ppm: int, bin_: int) -> None:
    assert confidence_bins(np.array([ppm])).tolist() == [bin_]


def test_full_confidence_is_the_last_bin() -> None:
    assert confidence_bins(np.array([1_000_000])).tolist() == [CONFIDENCE_BINS - 1]


def test_an_empty_histogram_has_no_quantile() -> None:
    assert latency_quantile_us({}, 0.5) is None
    assert latency_quantile_us({3: 0}, 0.5) is None


@pytest.mark.parametrize(
    ("q", "bucket"), [(0.0, ZERO_BUCKET), (0.25, ZERO_BUCKET), (0.26, 10), (0.5, 10), (0.75, 10), (0.76, 99), (1.0, 99)]
)
def test_a_quantile_is_the_estimate_of_the_bucket_that_holds_its_rank(q: float, bucket: int) -> None:
    assert latency_quantile_us({99: 25, ZERO_BUCKET: 25, 10: 50}, q) == latency_estimate_us(bucket)
