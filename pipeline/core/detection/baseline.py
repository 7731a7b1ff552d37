"""What is normal for a signal at this time of day: a profile of 96 slots, a slow level, a spread; learned as it goes.

    expected = profile(time of day) + level                     means and logarithms of quantiles
    expected = n * profile(time of day) * level * day factor    counts; the factor (weekday, weekend) for traffic only

A slot that is new begins with what the slot before it ended with, so on its first day a model is compared with its last
quarter of an hour. Errors are too rare for a profile: they have a level only.

What is normal is learned once a minute, from all its windows (of a new model: in every window). In between it
stands still, so the windows of a minute can be judged together, with the same result as one by one. Arrays of several
windows begin with these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipeline.core.detection import learning
from pipeline.core.detection.learning import ECHO, EXPOSURE, NOTES, OFF, RELEARN_WINDOWS, SIZE, TAUGHT, interpolated
from pipeline.core.detection.moment import SLOTS, WINDOWS_PER_DAY, Moment
from pipeline.core.detection.signals import COUNTS, GAUSSIANS, SIGNALS, Signal
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, KeyedState

WARM_WINDOWS = 12  # until a signal has a spread to be judged by
MINUTE_WINDOWS = 6
_CARRIED_WINDOWS = learning.CARRIED_WINDOWS
_Z_MAX = np.float32(8.0)
_ROBUST_Z_MAX = np.float32(4.5)  # for what looks at more than a window or two: no single one is to decide
_DOUBT = 1.5  # standard deviations of what is known of the level of errors
_ERROR_RATE = 0.01  # the unit of the level of errors
_ECHO_NOISE = np.float32(0.01)
_WANDER_WINDOWS = np.float32(64.0)
_HALF_NORMAL = np.float32(1.2533)  # sd / E|x| of a normal deviate
_SMALL_COUNT = np.float32(0.25)  # variance that every count has: one single event is no deviation
_TINY = np.float32(1e-9)
_MEAN_SD_MIN = np.array([0.001, 0.005, 0.005], np.float32)[:, None]  # of a window: nothing is infinitely sure

_COUNT = slice(GAUSSIANS, SIGNALS)
_TRAFFIC = Signal.TRAFFIC - GAUSSIANS  # rows among the counts


def _first_profile() -> Floats:
    profile = np.zeros((SLOTS, SIGNALS), np.float32)
    profile[:, Signal.ERRORS] = _ERROR_RATE
    return profile


@dataclass(frozen=True, slots=True)
class Residuals:
    """Windows against their baseline; arrays of (windows, signals, models), or of one window without the first."""

    z: Floats  # standardised, clipped
    robust_z: Floats  # clipped further
    expected: Floats
    judged: Bools  # there is something to judge, and enough is known to judge it
    precision: Floats  # (.., GAUSSIANS, ..): sqrt(n) / spread, so that effect * precision is in standard deviations
    count_scaled: Floats  # (.., COUNTS, ..): count and expected count, over the dispersion
    expected_scaled: Floats
    unit: Floats  # standard deviation of x
    trust: Floats  # factor of the evidence, 1 on average
    notes: Floats  # (.., NOTES, signals, models): what is to be learned, if it is

    def at(self, window: int) -> "Residuals":
        """Those of one window."""
        return Residuals(*(getattr(self, field.name)[window] for field in fields(self)))


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
                "notes": Field((NOTES, SIGNALS)),  # of this minute
            }
        )

    def arrive(self, view: Arrays, x: Floats, moment: Moment) -> None:
        """A window more, with these signals (SIGNALS, models)."""
        view["age"] += 1
        quiet = view["quiet"]
        quiet += 1
        quiet *= x[Signal.TRAFFIC] <= 0
        view["day_windows"][moment.day_type] += 1

    def open(self, view: Arrays, moment: Moment) -> None:
        """A slot or a kind of day that is new begins. Never within a minute."""
        _open_slot(view, moment)
        _open_day(view, moment)

    def steady(self, view: Arrays, moment: Moment) -> int:
        """For how many windows, the one that arrived included, what is normal stays as it is."""
        age = view["age"]
        coming_of_age = (age <= WINDOWS_PER_DAY) & (age > WINDOWS_PER_DAY - MINUTE_WINDOWS)
        if age.min() < learning.EAGER_WINDOWS or coming_of_age.any() or view["relearn"].max() > 0:
            return 1
        if not _day_known(view, moment).all():
            return 1
        return MINUTE_WINDOWS - moment.index % MINUTE_WINDOWS

    def residuals(self, view: Arrays, x: Floats, n: Floats, moments: Sequence[Moment]) -> Residuals:
        """Windows (windows, SIGNALS, models) against what is expected of them, the first being the one that arrived."""
        counts = x[:, _COUNT]
        expected, observed = _expected(view, n, moments), n > 0
        judged_by = _doubted(view, expected)
        root_n = np.sqrt(n[:, :GAUSSIANS])
        precision = root_n / np.maximum(np.maximum(view["spread"][:GAUSSIANS], _TINY), _MEAN_SD_MIN * root_n)
        difference, deviation = x - judged_by, np.empty_like(x)
        np.multiply(difference[:, :GAUSSIANS], root_n, out=deviation[:, :GAUSSIANS])
        np.divide(
            difference[:, _COUNT],
            np.sqrt(np.maximum(expected[:, _COUNT], _SMALL_COUNT)),
            out=deviation[:, _COUNT],
        )
        dispersion = np.square(np.maximum(view["spread"][_COUNT], 1))
        unit = np.empty_like(x)
        np.divide(1, np.maximum(precision, _TINY), out=unit[:, :GAUSSIANS])
        np.sqrt(dispersion * expected[:, _COUNT] + _SMALL_COUNT, out=unit[:, _COUNT])
        judged = observed & _judged(view)
        judged[:, Signal.TRAFFIC] &= _day_known(view, moments[0])
        z = difference
        z[:, :GAUSSIANS] *= precision
        z[:, _COUNT] = _deviance_root(counts, judged_by[:, _COUNT], dispersion)
        np.maximum(np.minimum(z, _Z_MAX, out=z), -_Z_MAX, out=z)
        z *= judged
        robust_z = np.maximum(np.minimum(z, _ROBUST_Z_MAX), -_ROBUST_Z_MAX)
        trust = _trust(view, n, expected)
        scaled = judged[:, _COUNT] * trust[:, _COUNT] / dispersion
        return Residuals(
            z=z,
            robust_z=robust_z,
            expected=expected,
            judged=judged,
            precision=precision * judged[:, :GAUSSIANS],
            count_scaled=_bounded(view, counts, judged_by[:, _COUNT], unit[:, _COUNT]) * scaled,
            expected_scaled=judged_by[:, _COUNT] * scaled,
            unit=unit,
            trust=trust,
            notes=_notes(view, x, n, expected, observed, deviation, robust_z),
        )

    def learn(self, view: Arrays, notes: Floats, robust_z: Floats, learns: Bools | None, moment: Moment) -> None:
        """Note a window where `learns` (SIGNALS, models; None: everywhere); take notes into what is normal when due."""
        noted, last_z = view["notes"], view["last_z"]
        noted += notes if learns is None else notes * learns
        last_z[...] = robust_z
        learning.learn(view, moment, (moment.index + 1) % MINUTE_WINDOWS == 0)

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


def _expected(view: Arrays, n: Floats, moments: Sequence[Moment]) -> Floats:
    """What is expected of x."""
    profile, level = interpolated(view, moments), view["level"]
    expected = np.empty_like(n)
    np.add(profile[:, :GAUSSIANS], level[:GAUSSIANS], out=expected[:, :GAUSSIANS])
    scale = n[:, _COUNT] * level[_COUNT]
    scale[:, _TRAFFIC] *= view["day_factor"][moments[0].day_type]
    np.multiply(scale, profile[:, _COUNT], out=expected[:, _COUNT])
    return expected


def _doubted(view: Arrays, expected: Floats) -> Floats:
    """What x is judged by. Of the level of rare events little is known for long: by how much can it be exceeded?"""
    told = np.minimum(view["seen"][Signal.ERRORS], learning.ERROR_WINDOWS_MAX) * expected[:, Signal.ERRORS]
    out = expected.copy()
    out[:, Signal.ERRORS] *= 1 + _DOUBT / np.sqrt(1 + told)
    return out


def _judged(view: Arrays) -> Bools:
    """Of what enough is known."""
    out: Bools = (view["seen"] >= WARM_WINDOWS) & (view["relearn"] <= 0)
    return out


def _bounded(view: Arrays, counts: Floats, expected: Floats, unit: Floats) -> Floats:
    """One burst is no lasting change: it counts as far as it is plain, no further.

    On the first day that holds for a fall, too: nobody knows yet how often windows stray.
    """
    stray = _ROBUST_Z_MAX * unit
    most = expected + np.maximum(stray, np.float32(0.2) * expected) + 2
    out: Floats = np.minimum(counts, most)
    young = view["age"] < WINDOWS_PER_DAY
    if young.any():
        np.maximum(out, np.where(young, expected - stray, 0), out=out)
    return out


def _notes(
    view: Arrays, x: Floats, n: Floats, expected: Floats, observed: Bools, deviation: Floats, robust_z: Floats
) -> Floats:
    """What there is to learn of each window, as sums that add up over a minute: see learning.py."""
    notes = np.empty((len(x), NOTES, *x.shape[1:]), np.float32)
    exposure, off = notes[:, EXPOSURE], notes[:, OFF]
    exposure[...] = n
    exposure[:, Signal.TRAFFIC] = x[:, Signal.TRAFFIC]
    np.subtract(x, expected, out=off)
    off[:, :GAUSSIANS] *= n[:, :GAUSSIANS]
    size = np.abs(deviation, out=notes[:, SIZE])
    size *= _HALF_NORMAL
    np.minimum(size, np.where(view["seen"] > 30, 4 * view["spread"], np.float32(np.inf)), out=size)
    echo = notes[:, ECHO]
    np.multiply(robust_z[0], view["last_z"], out=echo[0])
    np.multiply(robust_z[1:], robust_z[:-1], out=echo[1:])
    notes[:, TAUGHT] = 1
    notes *= observed[:, None]
    return notes


def _trust(view: Arrays, n: Floats, expected: Floats) -> Floats:
    """How much a window with this exposure is to say, compared with a usual one.

    Where neighbours are alike, what moves them is not chance among n: it does not shrink when n grows, and the evidence
    must not grow with n. The sum of chance and wander is what counts, over the time that a small change needs.
    """
    echo = np.clip(view["echo"] - _ECHO_NOISE, 0, np.float32(0.9))
    wander = _WANDER_WINDOWS * echo / (1 - echo)
    amount = n.copy()
    amount[:, Signal.TRAFFIC] = expected[:, Signal.TRAFFIC]
    relative = amount / np.maximum(view["exposure"], _TINY)
    out: Floats = (1 + wander) / (1 + wander * np.minimum(relative, 100))
    return out


def _deviance_root(x: Floats, expected: Floats, dispersion: Floats) -> Floats:
    """Like (x - expected) / sd, but half its square is the evidence that a Poisson count gives, however rare it is."""
    mean = np.maximum(expected, np.float32(0.02))
    difference = x - mean
    evidence: Floats = np.maximum(x, _TINY)
    evidence /= mean
    np.log(evidence, out=evidence)
    evidence *= x
    evidence -= difference
    np.maximum(evidence, 0, out=evidence)
    evidence *= 2
    evidence /= dispersion
    np.sqrt(evidence, out=evidence)
    out: Floats = np.copysign(evidence, difference, out=evidence)
    return out


def _open_slot(view: Arrays, moment: Moment) -> None:
    closed = view["slot_windows"][moment.slot] <= 0
    if not closed.any():
        return
    new, before = np.flatnonzero(closed), (moment.slot - 1) % SLOTS
    carried = view["slot_windows"][before, new] > 0
    view["slot_windows"][moment.slot, new] = np.where(carried, _CARRIED_WINDOWS, 1)
    profile = view["profile"]
    profile[moment.slot][:, new] = np.where(carried, profile[before][:, new], profile[moment.slot][:, new])


def _open_day(view: Arrays, moment: Moment) -> None:
    """The kind of day that was first seen for a whole day is the reference, with factor 1."""
    today = view["day_windows"][moment.day_type]
    if today.min() > 1:
        return
    reference, other = view["reference_day"], view["day_windows"][1 - moment.day_type]
    first = (today == 1) & (other < WINDOWS_PER_DAY)
    reference[first] = moment.day_type
    other[first] = 0
    view["day_factor"][:, first] = 1


def _day_known(view: Arrays, moment: Moment) -> Bools:
    """Whether the traffic of a kind of day that just began can be judged yet."""
    today = view["day_windows"][moment.day_type]
    out: Bools = (today > RELEARN_WINDOWS) | (view["age"] <= today + 1)
    return out
