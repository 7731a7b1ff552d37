"""What is normal for a signal at this time of day: a profile of 96 slots, a slow level, a spread; learned as it goes.

    expected = profile(time of day) + level                     means and logarithms of quantiles
    expected = n * profile(time of day) * level * day factor    counts; the factor (weekday, weekend) for traffic only

A slot that is new begins with what the slot before it ended with, so on its first day a model is compared with its last
quarter of an hour. Errors are too rare for a profile: they have a level only.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.core.detection.moment import SLOT_WINDOWS, SLOTS, WINDOWS_PER_DAY, Moment
from pipeline.core.detection.signals import COUNTS, GAUSSIANS, SIGNALS, Signal
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, KeyedState

WARM_WINDOWS = 12  # until a signal has a spread to be judged by
RELEARN_WINDOWS = 90  # after an operator accepted a new normal; what a new kind of day gets, too
_SLOT_WINDOWS_MAX = 14.0 * SLOT_WINDOWS  # two weeks: then a slot forgets
_CARRIED_WINDOWS = 20.0  # how much the end of the last slot counts for in a new one
_Z_MAX = 8.0
_ROBUST_Z_MAX = 4.5  # for what looks at more than a window or two: no single one is to decide
_LEVEL_GAIN = np.float32(1 / WINDOWS_PER_DAY)
_ERROR_WINDOWS_MAX = 2.0 * WINDOWS_PER_DAY
_DOUBT = 1.5  # standard deviations of what is known of the level of errors
_ERROR_RATE = 0.01  # the unit of the level of errors
_ECHO_NOISE = 0.01
_WANDER_WINDOWS = 64.0
_HALF_NORMAL = 1.2533  # sd / E|x| of a normal deviate
_SMALL_COUNT = 0.25  # variance that every count has: one single event is no deviation
_MEAN_SD_MIN = np.array([0.001, 0.005, 0.005], np.float32)[:, None]  # of a window: nothing is infinitely sure

_COUNT = slice(GAUSSIANS, SIGNALS)
_TRAFFIC = Signal.TRAFFIC - GAUSSIANS  # rows among the counts
_SEASONAL = np.ones((SIGNALS, 1), np.bool_)
_SEASONAL[Signal.ERRORS] = False


def _first_profile() -> Floats:
    profile = np.zeros((SLOTS, SIGNALS), np.float32)
    profile[:, Signal.ERRORS] = _ERROR_RATE
    return profile


@dataclass(frozen=True, slots=True)
class Residuals:
    """A window against its baseline; arrays of (signals, models)."""

    z: Floats  # standardised, clipped
    robust_z: Floats  # clipped further
    expected: Floats
    observed: Bools  # there was something to observe
    judged: Bools  # and enough is known to judge it
    precision: Floats  # (GAUSSIANS, ): sqrt(n) / spread, so that effect * precision is in standard deviations
    count_scaled: Floats  # (COUNTS, ): count and expected count, over the dispersion
    expected_scaled: Floats
    deviation: Floats  # unclipped, in units of the spread's unit
    target: Floats  # what the profile is to learn
    unit: Floats  # standard deviation of x
    trust: Floats  # factor of the evidence, 1 on average


class Baseline:
    """The baselines of many models."""

    def __init__(self) -> None:
        level = np.repeat([0.0, 1.0], [GAUSSIANS, COUNTS])
        self.state = KeyedState(
            {
                "profile": Field((SLOTS, SIGNALS), _first_profile()),
                "slot_windows": Field((SLOTS,)),
                "level": Field((SIGNALS,), level),
                "spread": Field((SIGNALS,)),
                "seen": Field((SIGNALS,)),  # windows with something to observe
                "exposure": Field((SIGNALS,)),  # mean of n, or of the traffic
                "relearn": Field((SIGNALS,)),  # windows that the level is still learned quickly
                "last_z": Field((SIGNALS,)),
                "echo": Field((SIGNALS,)),  # autocorrelation of neighbouring windows
                "day_factor": Field((2,), 1.0),
                "day_windows": Field((2,)),
                "reference_day": Field((), -1, np.int8),
                "age": Field(()),  # windows, this one included
                "quiet": Field(()),  # windows since the last inference
            }
        )

    def residuals(self, view: Arrays, x: Floats, n: Floats, moment: Moment) -> Residuals:
        """This window against what is expected of it."""
        view["age"] += 1
        view["quiet"] += 1
        view["quiet"][x[Signal.TRAFFIC] > 0] = 0
        _open_slot(view, moment)
        day_known = _open_day(view, moment)
        expected, target = _expected(view, x, n, moment)
        observed = n > 0
        # Of the level of rare events little is known for long; what is judged is by how much it can be exceeded.
        told = np.minimum(view["seen"][Signal.ERRORS], _ERROR_WINDOWS_MAX) * expected[Signal.ERRORS]
        judged_by = expected.copy()
        judged_by[Signal.ERRORS] *= 1 + _DOUBT / np.sqrt(1 + told)
        root_n = np.sqrt(n[:GAUSSIANS])
        spread = np.maximum(view["spread"][:GAUSSIANS], _MEAN_SD_MIN * root_n)
        precision = root_n / np.maximum(spread, 1e-9)
        difference, deviation, unit = x - judged_by, np.empty_like(x), np.empty_like(x)
        deviation[:GAUSSIANS] = difference[:GAUSSIANS] * root_n
        deviation[_COUNT] = difference[_COUNT] / np.sqrt(np.maximum(expected[_COUNT], _SMALL_COUNT))
        dispersion = np.maximum(view["spread"][_COUNT], 1)
        dispersion *= dispersion
        unit[:GAUSSIANS] = 1 / np.maximum(precision, 1e-9)
        unit[_COUNT] = np.sqrt(dispersion * expected[_COUNT] + _SMALL_COUNT)
        judged = observed & (view["seen"] >= WARM_WINDOWS) & (view["relearn"] <= 0)
        judged[Signal.TRAFFIC] &= day_known
        z = difference
        z[:GAUSSIANS] *= precision
        z[_COUNT] = _deviance_root(x[_COUNT], judged_by[_COUNT], dispersion)
        np.clip(z, -_Z_MAX, _Z_MAX, out=z)
        z *= judged
        # One burst is no lasting change: it counts as far as it is plain, no further.
        # On the first day that holds for a fall, too: nobody knows yet how often windows stray.
        young = view["age"] < WINDOWS_PER_DAY
        stray = _ROBUST_Z_MAX * unit[_COUNT]
        most = judged_by[_COUNT] + np.maximum(stray, 0.2 * judged_by[_COUNT]) + 2
        least = np.where(young, judged_by[_COUNT] - stray, 0)
        trust = _trust(view, n, expected)
        scaled = judged[_COUNT] * trust[_COUNT] / dispersion
        return Residuals(
            z=z,
            robust_z=np.clip(z, -_ROBUST_Z_MAX, _ROBUST_Z_MAX),
            expected=expected,
            observed=observed,
            judged=judged,
            precision=(precision * judged[:GAUSSIANS]).astype(np.float32),
            count_scaled=np.clip(x[_COUNT], least, most) * scaled,
            expected_scaled=judged_by[_COUNT] * scaled,
            deviation=deviation,
            target=target,
            unit=unit,
            trust=trust,
        )

    def learn(self, view: Arrays, x: Floats, n: Floats, moment: Moment, residuals: Residuals, learns: Bools) -> None:
        """Take this window into what is normal, where `learns` (SIGNALS, models)."""
        taught = learns & residuals.observed
        seen = view["seen"]
        _learn_anew(view, moment, taught & (seen == 0))
        weight = _learn_exposure(view, x, n, taught)
        _learn_echo(view, residuals, taught)
        _learn_spread(view, residuals, taught)
        _learn_level(view, x, residuals, weight)
        slot, slot_windows = view["profile"][moment.slot], view["slot_windows"][moment.slot]
        gain = np.minimum(weight / (np.minimum(slot_windows, seen) + 1), 1) * _SEASONAL
        slot += gain * (residuals.target - slot)
        slot_windows += taught[Signal.TRAFFIC]
        np.minimum(slot_windows, _SLOT_WINDOWS_MAX, out=slot_windows)
        _learn_day(view, x, residuals, moment, taught[Signal.TRAFFIC])
        seen += taught
        view["relearn"] -= taught & (view["relearn"] > 0)

    def accept(self, column: int, signals: slice) -> None:
        """The level of these signals may move to where they are now, within a quarter of an hour."""
        self.state["relearn"][signals, column] = RELEARN_WINDOWS

    def seat(self, column: int, signal: int, share: float) -> None:
        """Another class is watched as this signal; so far it has had this share."""
        state = self.state
        state["profile"][:, signal, column] = share
        state["level"][signal, column] = 1
        state["spread"][signal, column] = 1
        state["relearn"][signal, column] = RELEARN_WINDOWS


def _expected(view: Arrays, x: Floats, n: Floats, moment: Moment) -> tuple[Floats, Floats]:
    """What is expected of x, and what x would have the profile be."""
    profile, level = _interpolated(view, moment), view["level"]
    expected, target = np.empty_like(x), np.empty_like(x)
    np.add(profile[:GAUSSIANS], level[:GAUSSIANS], out=expected[:GAUSSIANS])
    np.subtract(x[:GAUSSIANS], level[:GAUSSIANS], out=target[:GAUSSIANS])
    scale = n[_COUNT] * level[_COUNT]
    scale[_TRAFFIC] *= view["day_factor"][moment.day_type]
    np.multiply(scale, profile[_COUNT], out=expected[_COUNT])
    np.divide(x[_COUNT], np.maximum(scale, 1e-9), out=target[_COUNT])
    return expected, target


def _trust(view: Arrays, n: Floats, expected: Floats) -> Floats:
    """How much a window with this exposure is to say, compared with a usual one.

    Where neighbours are alike, what moves them is not chance among n: it does not shrink when n grows, and the evidence
    must not grow with n. The sum of chance and wander is what counts, over the time that a small change needs.
    """
    echo = np.clip(view["echo"] - _ECHO_NOISE, 0, 0.9)
    wander = _WANDER_WINDOWS * echo / (1 - echo)
    amount = n.copy()
    amount[Signal.TRAFFIC] = expected[Signal.TRAFFIC]
    relative = amount / np.maximum(view["exposure"], 1e-9)
    out: Floats = (1 + wander) / (1 + wander * np.minimum(relative, 100))
    return out


def _deviance_root(x: Floats, expected: Floats, dispersion: Floats) -> Floats:
    """Like (x - expected) / sd, but half its square is the evidence that a Poisson count gives, however rare it is."""
    mean = np.maximum(expected, 0.02)
    evidence = x * np.log(np.maximum(x, 1e-9) / mean) - (x - mean)
    out: Floats = np.copysign(np.sqrt(2 * np.maximum(evidence, 0) / dispersion), x - mean)
    return out


def _open_slot(view: Arrays, moment: Moment) -> None:
    new = np.flatnonzero(view["slot_windows"][moment.slot] <= 0)
    if not len(new):
        return
    before = (moment.slot - 1) % SLOTS
    carried = view["slot_windows"][before, new] > 0
    view["slot_windows"][moment.slot, new] = np.where(carried, _CARRIED_WINDOWS, 1)
    profile = view["profile"]
    profile[moment.slot][:, new] = np.where(carried, profile[before][:, new], profile[moment.slot][:, new])


def _open_day(view: Arrays, moment: Moment) -> Bools:
    """Whether the traffic of a kind of day that just began can be judged yet.

    The kind of day that was first seen for a whole day is the reference, with factor 1.
    """
    windows, reference = view["day_windows"], view["reference_day"]
    today, other = windows[moment.day_type], windows[1 - moment.day_type]
    today += 1
    first = (today == 1) & (other < WINDOWS_PER_DAY)
    if first.any():
        reference[first] = moment.day_type
        other[first] = 0
        view["day_factor"][:, first] = 1
    known: Bools = (today > RELEARN_WINDOWS) | (view["age"] <= today + 1)
    return known


def _interpolated(view: Arrays, moment: Moment) -> Floats:
    known = view["slot_windows"]
    left = (1 - moment.fraction) * (known[moment.left] > 0)
    right = moment.fraction * (known[moment.right] > 0)
    share = (right / (left + right)).astype(np.float32)
    a, b = view["profile"][moment.left], view["profile"][moment.right]
    out: Floats = a + share * (b - a)
    return out


def _learn_anew(view: Arrays, moment: Moment, first: Bools) -> None:
    """A model that begins to report what it never did has no profile for it: it is learned like a new one."""
    late = first.any(axis=0) & (view["age"] > SLOT_WINDOWS)
    if late.any():
        view["age"][late] = 1
        view["slot_windows"][:, late] = 0
        view["slot_windows"][moment.slot, late] = _CARRIED_WINDOWS


def _learn_exposure(view: Arrays, x: Floats, n: Floats, taught: Bools) -> Floats:
    """The usual exposure; returns what the window weighs: much, if there was much to see in it."""
    exposure = view["exposure"]
    amount = n.copy()
    amount[Signal.TRAFFIC] = x[Signal.TRAFFIC]
    exposure += np.maximum(1 / (view["seen"] + 1), _LEVEL_GAIN) * (amount - exposure) * taught
    relative = n / np.maximum(exposure, 1e-9)
    relative[Signal.TRAFFIC] = 1
    weight: Floats = np.minimum(relative, 2) * taught
    return weight


def _learn_echo(view: Arrays, residuals: Residuals, taught: Bools) -> None:
    echo, last = view["echo"], view["last_z"]
    echo += taught * _LEVEL_GAIN * (residuals.robust_z * last - echo)
    last[...] = residuals.robust_z


def _learn_spread(view: Arrays, residuals: Residuals, taught: Bools) -> None:
    spread, seen = view["spread"], view["seen"]
    size = np.abs(residuals.deviation) * _HALF_NORMAL
    np.minimum(size, np.where(seen > 30, 4 * spread, np.inf), out=size)
    # The first observation makes the expectation, and says nothing of the spread.
    spread += (taught & (seen > 0)) / np.clip(seen, 1, WINDOWS_PER_DAY / 2) * (size - spread)


def _learn_level(view: Arrays, x: Floats, residuals: Residuals, weight: Floats) -> None:
    level, relearn = view["level"], view["relearn"]
    gain = np.where(relearn > 0, 1 / (RELEARN_WINDOWS + 1 - relearn), _LEVEL_GAIN)
    gain[Signal.ERRORS] = np.maximum(
        gain[Signal.ERRORS], 1 / (np.minimum(view["seen"][Signal.ERRORS], _ERROR_WINDOWS_MAX) + 2)
    )
    gain *= weight
    difference = x - residuals.expected
    base = residuals.expected[_COUNT] / level[_COUNT]
    difference[_COUNT] /= np.maximum(base, 0.05)
    level += np.minimum(gain, 1) * difference
    np.maximum(level[_COUNT], 1e-3, out=level[_COUNT])


def _learn_day(view: Arrays, x: Floats, residuals: Residuals, moment: Moment, taught: Bools) -> None:
    """The factor of a day that is not the reference: at first what the level does not explain, then slowly."""
    other = taught & (view["reference_day"] != moment.day_type)
    if not other.any():
        return
    factor = view["day_factor"][moment.day_type]
    base = np.maximum(residuals.expected[Signal.TRAFFIC] / factor, 0.05)
    gain = 1 / np.clip(view["day_windows"][moment.day_type], 1, 2.0 * WINDOWS_PER_DAY)
    factor += other * gain * (x[Signal.TRAFFIC] / base - factor)
    np.maximum(factor, 0.01, out=factor)
