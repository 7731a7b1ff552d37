"""How what is normal is learned: from the notes of a minute, all its windows at once.

A note is a sum over windows, for every signal: of the exposure, of how far off the windows were, of the size of the
deviations, of the product of neighbours, and of how many windows they are. A minute of notes moves everything as far as
its windows would have moved it one by one, but for what they would have moved each other.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.core.detection.moment import SLOT_WINDOWS, WINDOWS_PER_DAY, Moment
from pipeline.core.detection.signals import GAUSSIANS, SIGNALS, Signal
from pipeline.core.detection.state import Arrays, Bools, Floats

NOTES = 5
EXPOSURE, OFF, SIZE, ECHO, TAUGHT = range(NOTES)

RELEARN_WINDOWS = 90  # after an operator accepted a new normal; what a new kind of day gets, too
EAGER_WINDOWS = 720  # of a model's life: every one is learned from at once
CARRIED_WINDOWS = 20.0  # how much the end of the last slot counts for in a new one
ERROR_WINDOWS_MAX = 2.0 * WINDOWS_PER_DAY
_SLOT_WINDOWS_MAX = 14.0 * SLOT_WINDOWS  # two weeks: then a slot forgets
_LEVEL_GAIN = np.float32(1 / WINDOWS_PER_DAY)
_COUNT = slice(GAUSSIANS, SIGNALS)
_TRAFFIC = Signal.TRAFFIC - GAUSSIANS  # row among the counts
_SEASONAL = np.ones((SIGNALS, 1), np.bool_)
_SEASONAL[Signal.ERRORS] = False
_BASE_MIN = np.float32(0.05)
_TINY = np.float32(1e-9)


def learn(view: Arrays, moment: Moment, minute_ends: bool) -> None:
    """Take the notes into what is normal and begin new ones: at the end of a minute, or where a model is new."""
    notes = view["notes"]
    if minute_ends:
        _take(view, notes, moment)
        notes[...] = 0
        return
    due = (view["age"] < EAGER_WINDOWS) | (view["relearn"] > 0).any(axis=0)
    if due.any():
        _take(view, notes * due, moment)
        notes *= ~due


def interpolated(view: Arrays, moments: Sequence[Moment]) -> Floats:
    """The profile at these moments."""
    known = view["slot_windows"]
    lefts, rights = [moment.left for moment in moments], [moment.right for moment in moments]
    fraction = np.array([moment.fraction for moment in moments])[:, None]
    left = (1 - fraction) * (known[lefts] > 0)
    right = fraction * (known[rights] > 0)
    share = (right / (left + right)).astype(np.float32)[:, None]
    a, b = view["profile"][lefts], view["profile"][rights]
    out: Floats = a + share * (b - a)
    return out


def _take(view: Arrays, notes: Floats, moment: Moment) -> None:
    taught, seen = notes[TAUGHT], view["seen"]
    _learn_anew(view, moment, (taught > 0) & (seen == 0))
    amount = notes[EXPOSURE]
    exposure = view["exposure"]
    exposure += np.maximum(1 / (seen + np.maximum(taught, 1)), _LEVEL_GAIN) * (amount - taught * exposure)
    view["echo"] += _LEVEL_GAIN * (notes[ECHO] - taught * view["echo"])
    _learn_spread(view, notes[SIZE], taught)
    profile = interpolated(view, [moment])[0]
    weight, off = _weighed(view, notes, moment)
    slot_off = off / np.maximum(weight, _TINY)
    slot_off[_COUNT] /= view["level"][_COUNT]
    _learn_level(view, profile, weight, off)
    slot, slot_windows = view["profile"][moment.slot], view["slot_windows"][moment.slot]
    gain = np.minimum(weight / (np.minimum(slot_windows, seen) + np.maximum(taught, 1)), 1) * _SEASONAL
    slot += gain * (slot_off + profile - slot)
    slot_windows += taught[Signal.TRAFFIC]
    np.minimum(slot_windows, np.float32(_SLOT_WINDOWS_MAX), out=slot_windows)
    _learn_day(view, amount[Signal.TRAFFIC], profile, moment, taught[Signal.TRAFFIC])
    seen += taught
    relearn = view["relearn"]
    np.maximum(relearn - taught, 0, out=relearn)


def _learn_anew(view: Arrays, moment: Moment, first: Bools) -> None:
    """A model that begins to report what it never did has no profile for it: it is learned like a new one."""
    late = first.any(axis=0) & (view["age"] > SLOT_WINDOWS)
    if late.any():
        view["age"][late] = 1
        view["slot_windows"][:, late] = 0
        view["slot_windows"][moment.slot, late] = CARRIED_WINDOWS


def _learn_spread(view: Arrays, size: Floats, taught: Floats) -> None:
    spread, seen = view["spread"], view["seen"]
    # The first observation makes the expectation, and says nothing of the spread.
    windows = np.minimum(np.maximum(seen + taught - 1, 1), np.float32(WINDOWS_PER_DAY / 2))
    spread += (seen > 0) / windows * (size - taught * spread)


def _weighed(view: Arrays, notes: Floats, moment: Moment) -> tuple[Floats, Floats]:
    """What the windows weigh: much, if there was much to see in them; and how far off they were, with these weights.

    That is in units of x for means and logarithms, and of what is usual (exposure and day) for counts.
    """
    taught, usual = notes[TAUGHT], np.maximum(view["exposure"], _TINY)
    weight = notes[EXPOSURE] / usual
    weight[Signal.TRAFFIC] = taught[Signal.TRAFFIC]
    usual[Signal.TRAFFIC] = view["day_factor"][moment.day_type]
    off = notes[OFF] / usual
    # Of windows with far more to see than usual no more than twice the usual counts.
    most = np.minimum(weight, 2 * taught)
    off *= most / np.maximum(weight, _TINY)
    return most, off


def _learn_level(view: Arrays, profile: Floats, weight: Floats, off: Floats) -> None:
    level, relearn = view["level"], view["relearn"]
    gain = np.where(relearn > 0, 1 / (RELEARN_WINDOWS + 1 - relearn), _LEVEL_GAIN)
    gain[Signal.ERRORS] = np.maximum(
        gain[Signal.ERRORS], 1 / (np.minimum(view["seen"][Signal.ERRORS], ERROR_WINDOWS_MAX) + 2)
    )
    gain /= np.maximum(gain * weight, 1)
    gain *= off
    # A count is off by a share of what it would be at level 1.
    usual = view["exposure"][_COUNT].copy()
    usual[_TRAFFIC] = 1
    base = usual * profile[_COUNT]
    gain[_COUNT] *= usual / np.maximum(base, _BASE_MIN)
    level += gain
    np.maximum(level[_COUNT], np.float32(1e-3), out=level[_COUNT])


def _learn_day(view: Arrays, traffic: Floats, profile: Floats, moment: Moment, taught: Floats) -> None:
    """The factor of a day that is not the reference: at first what the level does not explain, then slowly."""
    other = (taught > 0) & (view["reference_day"] != moment.day_type)
    if not other.any():
        return
    factor = view["day_factor"][moment.day_type]
    base = np.maximum(profile[Signal.TRAFFIC] * view["level"][Signal.TRAFFIC], _BASE_MIN)
    gain = np.minimum(taught / np.clip(view["day_windows"][moment.day_type], 1, 2.0 * WINDOWS_PER_DAY), 1)
    mean = traffic / np.maximum(taught, 1)
    factor += other * gain * (mean / base - factor)
    np.maximum(factor, np.float32(0.01), out=factor)
