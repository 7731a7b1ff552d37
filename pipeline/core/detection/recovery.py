"""When what went wrong is right again: a test of its own, for the sums that raised an alert are no judge of its end.

A gross fault fills the members for small effects, too, and those drain for hours; after some hours the ladder's slow
means have learned the fault, and its end is one more change to them (both measured: alerts lingered for 8 h). So for
every alert there is a CUSUM with the roles exchanged: the evidence that windows are as expected, rather than like the
fault as it was seen so far, forgotten at 0. When that is plain, the alert ends and the statistics that raised it start
anew. That is Page's scheme (Biometrika 41, 1954: a CUSUM, restarted after each alarm) applied to appearance and to
disappearance in turn, as for signals of unknown beginning and end (Tartakovsky, Nikiforov and Basseville, Sequential
Analysis, 2014). What it learns of the fault comes from whole excursions from 0, for those that are still open may be
the recovery; and an excursion that is plainly not normal itself is a smaller fault, not the end of one.
"""

import math

import numpy as np
import numpy.typing as npt

from pipeline.core.detection.baseline import Residuals
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import CHANNELS, GAUSSIANS
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, Ints, KeyedState

ENOUGH = math.log(28 * WINDOWS_PER_DAY)  # a fault is taken for over wrongly once in so many windows, at most
_STILL_WRONG = ENOUGH / 2
_WINDOWS_MIN = 6  # normal for so long, until an alert ends
_SIGMAS_MAX = 4.0  # residuals are clipped, so more is never seen
_RATIO_MIN, _RATIO_MAX = 0.01, 100.0

Cells = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # channels, columns


class Recovery:
    """The tests of many models, one for each channel. They rest where nothing is breached.

    `seen` and `weight` are sums over windows that say how far a signal is off: seen / weight is the mean difference of
    a Gaussian signal, and the ratio to what is expected of a count.
    """

    def __init__(self) -> None:
        shape = (CHANNELS,)
        self.state = KeyedState(
            {
                "culprit": Field(shape, 0, np.int8),  # the signal that the alert is about
                "worth": Field(shape),  # of a unit of evidence, as the culprit's own tail has it
                "fault_seen": Field(shape),
                "fault_weight": Field(shape),
                "evidence": Field(shape),  # that it is over
                "run_seen": Field(shape),  # since evidence was last 0
                "run_weight": Field(shape),
                "run": Field(shape, 0, np.int32),  # windows of it
                "told_signal": Field(shape, 0, np.int8),  # what was told of the alert, when there was something...
                "told": Field((4, *shape)),  # ...seen, expected, sigmas, count
            }
        )

    def begin(
        self, view: Arrays, cell: tuple[int, int], culprit: int, worth: float, seen: float, weight: float
    ) -> None:
        """An alert begins in a channel of a column; this is what its fault looked like."""
        for name in ("evidence", "run_seen", "run_weight", "run"):
            view[name][cell] = 0
        view["told"][:, cell[0], cell[1]] = 0
        view["culprit"][cell], view["worth"][cell] = culprit, min(worth, 1.0)
        view["fault_seen"][cell], view["fault_weight"][cell] = seen, weight

    def step(self, view: Arrays, cells: Cells, residuals: Residuals) -> Bools:
        """One window more of these alerts: which are over."""
        signal, columns = view["culprit"][cells].astype(np.int64), cells[1]
        seen, weight, sigma = statistics(residuals, signal, columns)
        fault_seen, fault_weight = view["fault_seen"][cells], view["fault_weight"][cells]
        against = _evidence(signal, fault_seen, fault_weight, seen, weight, sigma)
        evidence = view["evidence"][cells] - view["worth"][cells] * against
        run_seen, run_weight = view["run_seen"][cells] + seen, view["run_weight"][cells] + weight
        run = view["run"][cells] + (weight > 0)
        enough = (evidence >= ENOUGH) & (run >= _WINDOWS_MIN)
        own = _evidence(signal, run_seen, run_weight, run_seen, run_weight, np.zeros_like(sigma))
        lesser = enough & (view["worth"][cells] * own >= _STILL_WRONG)
        back = evidence <= 0
        kept = np.where(back, np.exp(-run / WINDOWS_PER_HOUR), np.where(lesser, 0, 1))
        anew = back | lesser
        view["fault_seen"][cells] = fault_seen * kept + anew * run_seen
        view["fault_weight"][cells] = fault_weight * kept + anew * run_weight
        view["evidence"][cells] = np.where(anew, 0, evidence)
        view["run_seen"][cells], view["run_weight"][cells] = ~anew * run_seen, ~anew * run_weight
        view["run"][cells] = ~anew * run
        over: Bools = enough & ~lesser
        return over


def statistics(residuals: Residuals, signal: Ints, columns: npt.NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """What this window adds to `seen` and `weight` of a signal of each column; the third: 1 / sd, 0 for counts."""
    gaussian = signal < GAUSSIANS
    of_mean, of_count = np.minimum(signal, GAUSSIANS - 1), np.maximum(signal - GAUSSIANS, 0)
    precision = residuals.precision[of_mean, columns]
    pull = precision * residuals.trust[of_mean, columns]
    seen = np.where(gaussian, pull * residuals.robust_z[of_mean, columns], residuals.count_scaled[of_count, columns])
    weight = np.where(gaussian, pull * precision, residuals.expected_scaled[of_count, columns])
    return seen, weight, np.where(gaussian, precision, 0)


def _evidence(
    signal: Ints, fault_seen: Floats, fault_weight: Floats, seen: Floats, weight: Floats, sigma: Floats
) -> Floats:
    """The log-likelihood ratio of a fault against what is expected."""
    size = fault_seen / np.maximum(fault_weight, 1e-9)
    most = _SIGMAS_MAX / np.maximum(sigma, 1e-9)
    shift = np.clip(size, -most, most)
    ratio = np.clip(size, _RATIO_MIN, _RATIO_MAX)
    of_count = np.log(ratio) * seen - (ratio - 1) * weight
    out: Floats = np.where(signal < GAUSSIANS, shift * seen - shift * shift * weight / 2, of_count)
    return out
