"""A ladder of time scales: what the last 1, 2, 4 .. 256 windows say, less what was said well before them.

A fast mean minus a lagged slow one refers to itself, so it needs no season to see what is sudden; each scale is
measured by its own spread, so that slow wandering blinds the long scales only.
"""

import math

import numpy as np

from pipeline.core.detection import tail
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import SIGNALS, SIGNALS_OF_CHANNEL
from pipeline.core.detection.state import Arrays, Bools, Field, Floats, KeyedState

SCALES = 9
SCALE_WINDOWS = 2 ** np.arange(SCALES)
_LAG = 2  # the slow mean is fed by the mean two scales longer, so it lags
_SLOW = 8  # and is eight times as slow
FAST = SCALES + _LAG


def _rates(windows: np.ndarray) -> Floats:
    return np.repeat((2 / (windows + 1)).astype(np.float32), SIGNALS).reshape(-1, SIGNALS, 1)


FAST_RATES = _rates(2.0 ** np.arange(FAST))
_SLOW_RATES = _rates(2.0 ** np.arange(SCALES) * _SLOW)

# Windows until a scale may speak. The two shortest must know first how often single windows stray.
_DAYS = np.array([1, 1, 0, 0, 0, 0, 0, 1, 2]) * WINDOWS_PER_DAY
NEED = (_DAYS + np.array([0, 0, 60, 180, 360, 720, 2160, 0, 0])).astype(np.float32)[:, None, None]
_SPREAD_EVERY = 4  # windows
_HALF = np.float32(0.5)
_FIRST_OF_CHANNEL = [signals.start for signals in SIGNALS_OF_CHANNEL]
_SPREAD_WINDOWS = (60.0 * SCALE_WINDOWS + 2000).astype(np.float32)[:, None]
_SPREAD_PRIOR = (20.0 * SCALE_WINDOWS).astype(np.float32)[:, None]

_WHITE = (1 / SCALE_WINDOWS).astype(np.float32)[:, None, None]  # variance if windows are independent

# Half the square of a normal deviate passes h in a share e^-h of cases, at most.
_PRIOR = tail.Prior(level=math.log(WINDOWS_PER_HOUR), rate=1.0, excess=1.0)


class Ladder:
    """The scales of many models."""

    def __init__(self) -> None:
        shape = (SCALES, SIGNALS)
        self.state = KeyedState(
            {
                "fast": Field((FAST, SIGNALS)),
                "slow": Field(shape),
                "variance": Field(shape, np.broadcast_to(_WHITE[..., 0], shape)),
                "hour_max": Field(shape),
                **tail.fields(shape, _PRIOR),
            }
        )

    def step(self, view: Arrays, z: Floats, robust_z: Floats, work: Floats) -> Floats:
        """One window more, with its residuals (SIGNALS, models): the score of every scale and signal, in `work`."""
        fast, slow, hour_max = view["fast"], view["slow"], view["hour_max"]
        shortest, others = fast[:_LAG], fast[_LAG:]
        shortest += FAST_RATES[:_LAG] * (z - shortest)
        others += FAST_RATES[_LAG:] * (robust_z - others)
        slow += _SLOW_RATES * (others - slow)
        np.subtract(fast[:SCALES], slow, out=work)
        work *= work
        work /= view["variance"]
        work *= _HALF
        np.maximum(hour_max, work, out=hour_max)
        work *= view["slope"]
        work += view["at_zero"]
        return work

    def learns_in(self, index: int) -> bool:
        """Whether spreads are learned in this window; they are slow, and it is a quarter of the work."""
        return index % _SPREAD_EVERY == 0

    def learn(self, view: Arrays, learns: Bools, age: Floats) -> None:
        """The spread of each scale, where `learns` (SIGNALS, models)."""
        variance = view["variance"]
        square = np.square(view["fast"][:SCALES] - view["slow"])
        np.minimum(square, 9 * variance, out=square)
        square -= variance
        gain = _SPREAD_EVERY / (np.minimum(age, _SPREAD_WINDOWS) + _SPREAD_PRIOR)
        square *= gain[:, None]
        square *= learns
        variance += square
        np.maximum(variance, _WHITE, out=variance)

    def hold(self, view: Arrays, held: Bools) -> None:
        """Signals that are not judged now start anew."""
        view["fast"][:, held] = 0
        view["slow"][:, held] = 0


def channel_maxima(scores: Floats, out: Floats) -> None:
    """The highest score of each channel's signals and scales."""
    np.maximum.reduceat(scores.max(axis=0), _FIRST_OF_CHANNEL, axis=0, out=out)
