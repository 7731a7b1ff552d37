"""How rare a score is: the tail of its hourly maxima, learned for every stream by itself.

Peaks over a threshold with an exponential excess: an hour whose maximum is above u comes with rate t (the number of
exceedances an hour), and the excess has the mean b. So a score v comes once in exp(surprise) hours, where
surprise = (v - u) / b - ln t. u follows the upper quantile of the maxima; theory is the start, and counts for
PRIOR_HOURS of data. Hours that the caller leaves out (alerts, maintenance) teach nothing.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.core.detection.state import Arrays, Bools, Field, Floats

PRIOR_HOURS = 24.0
HOURS_MAX = 672.0  # what is older than some four weeks fades
_EXCEEDANCES_MIN = 7.0  # theory counts for as many when a threshold is set
_STEP_MIN = 0.02


@dataclass(frozen=True, slots=True)
class Prior:
    """What theory expects: at `level` there is one exceedance in 1 / `rate` hours, with this mean excess."""

    level: float
    rate: float
    excess: float


def fields(shape: tuple[int, ...], prior: Prior) -> dict[str, Field]:
    """The state of a tail: its level u, 1 / b, and the surprise at 0, so that a score costs two operations."""
    slope = 1 / prior.excess
    return {
        "level": Field(shape, prior.level),
        "slope": Field(shape, slope),
        "at_zero": Field(shape, -prior.level * slope - np.log(prior.rate)),
    }


def learn(view: Arrays, maxima: Floats, hours: Floats, taught: Bools, above_share: float) -> None:
    """One hour more. `hours`: learned from so far; `taught`: whether this one counts. Both broadcast.

    `above_share` of all maxima are to be above u: the fewer, the closer to the rare ones that matter; the more, the
    sooner something is known.
    """
    level, slope, at_zero = view["level"], view["slope"], view["at_zero"]
    excess_mean = 1 / slope
    rate = np.exp(np.minimum(-at_zero - level * slope, 1.0))
    above = maxima > level
    gain = taught / (hours + PRIOR_HOURS + 1)
    share = -np.expm1(-rate)
    excess_sum = excess_mean * _maximum_excess(rate)  # expected excess of an hour's maximum, 0 where it is not above
    share = share + gain * (above - share)
    excess_sum = excess_sum + gain * (np.where(above, maxima - level, 0) - excess_sum)
    rate = -np.log1p(-np.clip(share, 1e-5, 0.95))
    excess_mean = np.maximum(excess_sum / _maximum_excess(rate), 1e-3)
    # Move u; in an exponential tail the rate at the new level follows from the old.
    step = taught * np.maximum(_STEP_MIN, 2.0 / (hours + 3)) * excess_mean * (above - above_share)
    moved = np.maximum(level + step, 0)
    rate = rate * np.exp(np.clip((level - moved) / excess_mean, -2, 2))
    level[...] = moved
    slope[...] = 1 / excess_mean
    at_zero[...] = -level * slope - np.log(rate)


def _maximum_excess(rate: Floats) -> Floats:
    """E (max - u)+ / b of an hour with Poisson(rate) exceedances with exponential excess: Ein(rate)."""
    r = np.minimum(rate, 3.0)
    return r * (1 - r * (1 / 4 - r * (1 / 18 - r * (1 / 96 - r * (1 / 600 - r / 4320)))))


def threshold(view: Arrays, hours: Floats, asked_per_hour: float, above_share: float) -> Floats:
    """The score that is passed `asked_per_hour` times an hour, given what is known.

    b is known from k exceedances only: the predictive tail is Lomax (1 + x / k b)^-k, not exponential. With little
    data that is far more careful; with much it is the same.
    """
    level, slope, at_zero = view["level"], view["slope"], view["at_zero"]
    rate_log = -at_zero - level * slope
    k = hours * above_share + _EXCEEDANCES_MIN
    out: Floats = level + k / slope * np.expm1((rate_log - np.log(asked_per_hour)) / k)
    return out
