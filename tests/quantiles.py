"""A quantile as the views of ClickHouse compute it from a histogram: for laws about what it promises."""

from collections.abc import Mapping

import numpy as np

from pipeline.core.windows.histogram import latency_estimate_us


def latency_quantile_us(histogram: Mapping[int, int], q: float) -> float | None:
    """The q-quantile in us, within 1 %: the estimate of the bucket that holds rank ceil(q n). None if empty."""
    count = sum(histogram.values())
    if not count:
        return None
    rank, seen = max(1, int(np.ceil(q * count))), 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return latency_estimate_us(bucket)
    raise AssertionError("the counts of a histogram add up to its total")
