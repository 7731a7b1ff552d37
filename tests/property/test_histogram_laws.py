"""Laws of the histograms, on any latencies."""

from collections import Counter
from math import ceil

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.windows.histogram import (
    LATENCY_BOUNDS,
    confidence_bins,
    latency_buckets,
    latency_estimate_us,
)
from tests import recount
from tests.quantiles import latency_quantile_us

DAY_US = 86_400_000_000
ONE_PERCENT = 0.01 + 1e-9  # and what rounding may add

# Small ones, any at all, and those beside a bound.
latencies = (
    st.integers(0, 5000)
    | st.integers(0, DAY_US)
    | st.builds(
        lambda bound, by: min(int(bound) + by, DAY_US), st.sampled_from(LATENCY_BOUNDS.tolist()), st.integers(0, 1)
    )
)
some_latencies = st.lists(latencies, min_size=1, max_size=50)


def histogram(values: list[int]) -> Counter[int]:
    return Counter(latency_buckets(np.array(values, np.int64)).tolist())


@given(latencies)
def test_a_latency_is_in_the_bucket_of_exact_arithmetic_and_within_one_percent_of_it(us: int) -> None:
    (bucket,) = latency_buckets(np.array([us]))
    assert bucket == recount.latency_bucket(us)
    assert abs(latency_estimate_us(int(bucket)) - us) <= us * ONE_PERCENT


@given(some_latencies, st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values: list[int], q: float) -> None:
    exact = sorted(values)[max(1, ceil(q * len(values))) - 1]
    found = latency_quantile_us(histogram(values), q)
    assert found is not None
    assert abs(found - exact) <= exact * ONE_PERCENT


@given(some_latencies)
def test_a_larger_latency_is_in_no_lower_bucket(values: list[int]) -> None:
    buckets = latency_buckets(np.array(sorted(values))).tolist()
    assert buckets == sorted(buckets)


@given(some_latencies, some_latencies)
def test_histograms_merge_by_adding(a: list[int], b: list[int]) -> None:
    assert histogram(a) + histogram(b) == histogram(b + a)


@given(some_latencies, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quantile_is_no_smaller(values: list[int], p: float, q: float) -> None:
    low, high = (latency_quantile_us(histogram(values), x) for x in sorted((p, q)))
    assert low is not None
    assert high is not None
    assert low <= high


@given(st.integers(0, 1_000_000))
def test_a_confidence_is_in_the_bin_of_its_whole_percent(ppm: int) -> None:
    (found,) = confidence_bins(np.array([ppm])).tolist()
    assert 0 <= found <= 100
    assert found * 10_000 <= ppm < (found + 1) * 10_000
