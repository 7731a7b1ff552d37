"""From member scores to breaches: for each model, channel and family (bank, ladder) a threshold of its own.

A family's score in a window is the highest of its members'. The tail of its hourly maxima says which score comes as
often as was asked; the asked rate is shared equally by all channels and both families.
"""

import math

import numpy as np

from pipeline.core.detection import tail
from pipeline.core.detection.moment import HOURS_PER_WEEK, WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import CHANNELS
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, Ints, KeyedState

BANK, LADDER = 0, 1
FAMILIES = ("bank", "ladder")
CALM_WINDOWS = 6  # below the lower threshold, until an alert ends
_MARGIN = 0.75  # tails are somewhat heavier than exponential, days differ: aim lower than asked
_LOWER = math.exp(3.0)  # times as frequent as asked: scores below this end an alert
_NEW_DAYS = (1, 3, 5)  # of a model's life: a season is known, more members speak
_NEW_DAY_HOURS = 12.0  # what the tails learned before count for then

# Members are scaled alike, so the best of some ten kinds of member exceeds this in a tenth of all hours.
_ABOVE_SHARE = 0.1
_PRIOR = tail.Prior(level=3.2, rate=0.105, excess=1.0)


class Scoring:
    """Thresholds and breaches of many models."""

    def __init__(self, asked_per_model_week: float) -> None:
        assert asked_per_model_week > 0
        self.asked_per_hour = _MARGIN * asked_per_model_week / HOURS_PER_WEEK / (len(FAMILIES) * CHANNELS)
        shape = (len(FAMILIES), CHANNELS)
        self.state = KeyedState(
            {
                "last": Field(shape),  # score
                "hour_max": Field(shape),
                **tail.fields(shape, _PRIOR),
                "threshold": Field(shape, np.inf),
                "lower": Field(shape, np.inf),
                "hours": Field((CHANNELS,)),  # that the tails were learned from
                "skip_hour": Field((CHANNELS,), False, np.bool_),
                "breached": Field((CHANNELS,), False, np.bool_),
                "calm": Field((CHANNELS,), 0, np.int16),
                "onset": Field((CHANNELS,), 0, np.int64),  # the first window of what is going on
            }
        )

    def add(self, count: int) -> None:
        """New models."""
        self.state.add(count)
        self._set_thresholds(self.state.view(self.state.size - count, self.state.size))

    def renew(self, columns: Ints) -> None:
        """These models begin anew."""
        self.state.renew(columns)
        self._set_thresholds(self.state.view(0, self.state.size))

    def step(self, view: Arrays, scores: Floats) -> tuple[Bools, Bools] | None:
        """One window more, with scores (families, CHANNELS, models): what began and what ended in it.

        None: nothing, and nothing is going on.
        """
        view["last"][...] = scores
        hour_max, breached, calm = view["hour_max"], view["breached"], view["calm"]
        np.maximum(hour_max, scores, out=hour_max)
        over = scores >= view["threshold"]
        if not over.any() and not breached.any():
            return None
        began: Bools = over.any(axis=0) & ~breached
        breached |= began
        below = (scores < view["lower"]).all(axis=0) & breached
        calm[...] = np.where(below, calm + 1, 0)
        ended = calm >= CALM_WINDOWS
        breached &= ~ended
        calm[ended] = 0
        return began, ended

    def end_hour(self, view: Arrays, age: Floats) -> tuple[Bools, Floats]:
        """Learn the tails of an hour; returns which channels' members learn too, and from how many hours so far."""
        hours = view["hours"]
        for days in _NEW_DAYS:
            crossed = (age >= days * WINDOWS_PER_DAY) & (age < days * WINDOWS_PER_DAY + WINDOWS_PER_HOUR)
            if crossed.any():
                hours[:, crossed] = np.minimum(hours[:, crossed], _NEW_DAY_HOURS)
        taught: Bools = ~view["skip_hour"] & (age >= WINDOWS_PER_HOUR)
        before = hours.copy()
        maxima = np.minimum(view["hour_max"], view["threshold"])
        tail.learn(view, maxima, before, taught, _ABOVE_SHARE)
        hours += taught
        np.minimum(hours, tail.HOURS_MAX, out=hours)
        self._set_thresholds(view)
        view["hour_max"][...] = 0
        # Of an alert the hour in which it began counts, up to the threshold: were it left out, a stream that strays
        # more often than asked would never be known to. The hours that follow say nothing of what is normal.
        view["skip_hour"][...] = view["breached"]
        return taught, before

    def surprise(self, column: int) -> float:
        """ln of the hours between two windows as strange as the last, where it was most so."""
        state = self.state
        scores = state["last"][..., column]
        return float((scores * state["slope"][..., column] + state["at_zero"][..., column]).max())

    def _set_thresholds(self, view: Arrays) -> None:
        hours, asked = view["hours"], self.asked_per_hour
        view["threshold"][...] = tail.threshold(view, hours, asked, _ABOVE_SHARE)
        view["lower"][...] = tail.threshold(view, hours, asked * _LOWER, _ABOVE_SHARE)
