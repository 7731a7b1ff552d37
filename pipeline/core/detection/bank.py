"""A bank of CUSUMs: each sums the evidence for a change of one size in one direction, and forgets it at 0.

Effect sizes are dyadic, so that one of them is never far from the true one, and they are sizes that matter to people (a
confidence lower by .02, a latency higher by 12 %), not multiples of the noise: many detections make a small change
plain, few make it doubtful (n-aware).
"""

import math

import numpy as np

from pipeline.core.detection import tail
from pipeline.core.detection.baseline import Residuals
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import COUNTS, GAUSSIANS, SIGNALS_OF_CHANNEL
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, KeyedState

_LATENCY = np.log([1.03, 1.06, 1.12, 1.25, 1.6, 2.5])
_GAUSSIAN_EFFECTS = np.array([[0.005, 0.01, 0.02, 0.04, 0.08, 0.16], _LATENCY, _LATENCY], np.float32)
_TRAFFIC = [0.95, 0.9, 0.8, 0.5, 0.1, 1.06, 1.12, 1.25, 1.6, 2.5]
_ERRORS = [1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 16.0, 30.0, 80.0]  # fewer errors are no fault
_SHARE = [0.93, 0.85, 0.7, 0.4, 1.07, 1.15, 1.3, 1.6, 2.5, 6.0]
_COUNT_RATIOS = np.array([_TRAFFIC, _ERRORS] + [_SHARE] * (COUNTS - 2), np.float32)

EFFECTS, RATIOS = _GAUSSIAN_EFFECTS.shape[1], _COUNT_RATIOS.shape[1]
GAUSSIAN_MEMBERS = GAUSSIANS * 2 * EFFECTS  # up, then down, for each signal
MEMBERS = GAUSSIAN_MEMBERS + COUNTS * RATIOS
_SIGMA_MAX = np.float32(4.0)  # residuals are clipped, so a member for a larger effect could never speak

SIGNAL_OF_MEMBER = np.concatenate(
    [np.repeat(np.arange(GAUSSIANS), 2 * EFFECTS), np.repeat(np.arange(GAUSSIANS, GAUSSIANS + COUNTS), RATIOS)]
)
_FIRST_MEMBER = np.searchsorted(SIGNAL_OF_MEMBER, np.arange(GAUSSIANS + COUNTS + 1))
MEMBERS_OF_CHANNEL = tuple(slice(int(_FIRST_MEMBER[s.start]), int(_FIRST_MEMBER[s.stop])) for s in SIGNALS_OF_CHANNEL)

_FIRST_OF_CHANNEL = [members.start for members in MEMBERS_OF_CHANNEL]

# Windows until a member may speak: a small effect looks like a season until a day is known, and like a day that was
# a little different until several are.
_NEED_GAUSSIAN = np.array([5 * WINDOWS_PER_DAY, 3 * WINDOWS_PER_DAY, 2 * WINDOWS_PER_DAY, 240, 60, 60], np.float32)
_LOG_RATIO = np.abs(np.log(_COUNT_RATIOS))
_NEED_COUNT = np.select(
    [_LOG_RATIO < 0.1, _LOG_RATIO < 0.23, _LOG_RATIO < 0.3, _LOG_RATIO < 0.6],
    [5 * WINDOWS_PER_DAY, 3 * WINDOWS_PER_DAY, 2 * WINDOWS_PER_DAY, WINDOWS_PER_DAY],
    60,
)
NEED = np.concatenate([np.tile(_NEED_GAUSSIAN, 2 * GAUSSIANS), _NEED_COUNT.ravel().astype(np.float32)])[:, None]

# A CUSUM of a true log-likelihood ratio passes h less than once in e^h windows.
_PRIOR = tail.Prior(level=math.log(WINDOWS_PER_HOUR), rate=1.0, excess=1.0)

_EFFECTS = _GAUSSIAN_EFFECTS[:, :, None]
_LOG_RATIOS = np.log(_COUNT_RATIOS)[:, :, None]
_RATIOS_LESS_1 = (_COUNT_RATIOS - 1)[:, :, None]
_ZERO, _HALF = np.float32(0), np.float32(0.5)


class Bank:
    """The CUSUMs of many models."""

    def __init__(self) -> None:
        self.state = KeyedState(
            {
                "sum": Field((MEMBERS,)),
                "windows": Field((MEMBERS,), 0, np.int32),  # since it last was 0
                "hour_max": Field((MEMBERS,)),
                **tail.fields((MEMBERS,), _PRIOR),
            }
        )

    def evidence(self, residuals: Residuals) -> Floats:
        """What windows say for each member: (windows, MEMBERS, models)."""
        windows, _, models = residuals.z.shape
        out = np.empty((windows, MEMBERS, models), np.float32)
        _gaussian_evidence(residuals, out[:, :GAUSSIAN_MEMBERS])
        _count_evidence(residuals, out[:, GAUSSIAN_MEMBERS:])
        return out

    def step(self, view: Arrays, evidence: Floats, work: Floats) -> Floats:
        """One window more, with its evidence (MEMBERS, models): the score of every member, in `work`."""
        sums, windows, hour_max = view["sum"], view["windows"], view["hour_max"]
        sums += evidence
        np.maximum(sums, _ZERO, out=sums)
        windows += 1
        windows *= sums > _ZERO
        np.maximum(hour_max, sums, out=hour_max)
        np.multiply(sums, view["slope"], out=work)
        work += view["at_zero"]
        return work

    def cap(self, view: Arrays, breached: Bools, scores_max: Floats) -> None:
        """Where a channel is breached, evidence piles up to this score only: it must go before the alert ends."""
        for channel in np.flatnonzero(breached.any(axis=1)).tolist():
            members, columns = MEMBERS_OF_CHANNEL[channel], np.flatnonzero(breached[channel])
            slope, at_zero = view["slope"][members, columns], view["at_zero"][members, columns]
            most = np.maximum((scores_max[channel, columns] - at_zero) / slope, 0)
            view["sum"][members, columns] = np.minimum(view["sum"][members, columns], most)

    def hold(self, view: Arrays, held: Bools) -> None:
        """Signals (SIGNALS, models) that are not judged now start at 0."""
        members = held[SIGNAL_OF_MEMBER]
        view["sum"][members] = 0
        view["windows"][members] = 0


def _gaussian_evidence(residuals: Residuals, out: Floats) -> None:
    pairs = out.reshape(len(out), GAUSSIANS, 2, EFFECTS, out.shape[2])
    sigmas = np.minimum(_EFFECTS * residuals.precision[:, :, None], _SIGMA_MAX)
    pull = sigmas * residuals.robust_z[:, :GAUSSIANS, None]
    sigmas *= sigmas
    sigmas *= _HALF
    np.subtract(pull, sigmas, out=pairs[:, :, 0])
    np.negative(pull, out=pull)
    np.subtract(pull, sigmas, out=pairs[:, :, 1])
    pairs *= residuals.trust[:, :GAUSSIANS, None, None]


def _count_evidence(residuals: Residuals, out: Floats) -> None:
    by_signal = out.reshape(len(out), COUNTS, RATIOS, out.shape[2])
    np.multiply(residuals.count_scaled[:, :, None], _LOG_RATIOS, out=by_signal)
    by_signal -= residuals.expected_scaled[:, :, None] * _RATIOS_LESS_1


def channel_maxima(scores: Floats, out: Floats) -> None:
    """The highest score of each channel's members."""
    np.maximum.reduceat(scores, _FIRST_OF_CHANNEL, axis=0, out=out)


def member_name(member: int) -> str:
    """What a member looks for, for people."""
    if member < GAUSSIAN_MEMBERS:
        signal, rest = divmod(member, 2 * EFFECTS)
        down, effect = divmod(rest, EFFECTS)
        size = float(_GAUSSIAN_EFFECTS[signal, effect])
        if signal == 0:
            return f"cusum {'-' if down else '+'}{size:g}"
        return f"cusum x{math.exp(-size if down else size):.2f}"
    signal, ratio = divmod(member - GAUSSIAN_MEMBERS, RATIOS)
    return f"cusum x{float(_COUNT_RATIOS[signal, ratio]):g}"
