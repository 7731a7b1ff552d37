"""What is watched in a window of a model, all its devices together: 15 signals in 6 channels.

A signal is an observation `x` and the exposure `n` behind it: a mean or a quantile of n values (Gaussian), or a count
out of n (Poisson). n = 0 says that there was nothing to observe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import Ragged, joined
from pipeline.core.detection.state import Floats, Ints
from pipeline.core.tally import group_sum
from pipeline.core.windows.histogram import GAMMA, LATENCY_BOUNDS, ZERO_BUCKET
from schemas.aggregate import Rows

_KEYS_MAX = len(LATENCY_BOUNDS)
_GAMMA_LOG = np.log(GAMMA)
CLASS_SEATS = 8  # classes watched by name; all others are one signal


class Channel(IntEnum):
    """What a finding is about."""

    CONFIDENCE = 0
    LATENCY = 1
    TRAFFIC = 2
    ERRORS = 3
    EMPTY = 4
    CLASSES = 5


class Signal(IntEnum):
    """Rows of the arrays. From TRAFFIC on counts; CLASS is the first of CLASS_SEATS, after them all other classes."""

    CONFIDENCE = 0  # mean, 0..1
    LATENCY_P50 = 1  # natural logarithm of microseconds
    LATENCY_P95 = 2
    TRAFFIC = 3  # inferences a window
    ERRORS = 4  # of n inferences
    EMPTY = 5  # inferences without a detection, of n
    CLASS = 6  # detections of a class, of n detections


OTHER_SEAT = CLASS_SEATS
GAUSSIANS = 3
SIGNALS = Signal.CLASS + CLASS_SEATS + 1
COUNTS = SIGNALS - GAUSSIANS
CHANNELS = len(Channel)
CHANNEL_OF_SIGNAL: Ints = np.array([0, 1, 1, 2, 3, 4] + [5] * (CLASS_SEATS + 1), np.int64)
_FIRST_SIGNAL = np.searchsorted(CHANNEL_OF_SIGNAL, np.arange(CHANNELS + 1)).tolist()
SIGNALS_OF_CHANNEL = tuple(slice(_FIRST_SIGNAL[c], _FIRST_SIGNAL[c + 1]) for c in range(CHANNELS))


@dataclass(frozen=True, slots=True)
class Signals:
    """One window of many models: arrays of (SIGNALS, models)."""

    x: Floats
    n: Floats

    @classmethod
    def nothing(cls, models: int) -> "Signals":
        """A window without an inference. That is an observation of the traffic, and of nothing else."""
        x, n = np.zeros((SIGNALS, models), np.float32), np.zeros((SIGNALS, models), np.float32)
        n[Signal.TRAFFIC] = 1
        return cls(x, n)


@dataclass(frozen=True, slots=True)
class ModelRows:
    """Rows of model_windows of one window: one for each device. `model` is the column of the row's model."""

    model: Ints
    numbers: dict[str, Ints]
    latency: Ragged

    @classmethod
    def of(cls, rows: Rows, chosen: Ints, model: Ints) -> "ModelRows":
        """Those of `rows` that are `chosen`."""
        numbers = {name: rows.numbers[name][chosen] for name in _SUMMED}
        return cls(model, numbers, Ragged(*rows.histograms["latency_histogram"]).take(chosen))


_SUMMED = ("inference_count", "error_count", "empty_count", "detection_count", "latency_count", "confidence_ppm_sum")


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Rows of class_windows of one window: the model's column, the seat of the class in it, its detections."""

    model: Ints
    seat: Ints
    detection_count: Ints


def signals(models: Sequence[ModelRows], classes: Sequence[ClassRows], size: int) -> Signals:
    """The signals of `size` models from all the rows of a window. Rows of one model add up."""
    out = Signals.nothing(size)
    x, n = out.x, out.n
    total = dict.fromkeys(_SUMMED, np.zeros(size))
    for part in models:
        total = {name: total[name] + np.bincount(part.model, part.numbers[name], size) for name in _SUMMED}
    detections, inferences = total["detection_count"], total["inference_count"]
    x[Signal.CONFIDENCE] = total["confidence_ppm_sum"] / np.maximum(detections, 1) / 1e6
    n[Signal.CONFIDENCE] = detections
    x[Signal.TRAFFIC] = inferences
    x[Signal.ERRORS], n[Signal.ERRORS] = total["error_count"], inferences
    x[Signal.EMPTY], n[Signal.EMPTY] = total["empty_count"], inferences
    n[Signal.CLASS :] = detections
    for rows in classes:
        flat = np.bincount(rows.seat * size + rows.model, rows.detection_count, (CLASS_SEATS + 1) * size)
        x[Signal.CLASS :] += flat.reshape(CLASS_SEATS + 1, size)
    if models:
        latency = joined([part.latency for part in models])
        owner = np.concatenate([part.model for part in models])[latency.row]
        x[Signal.LATENCY_P50 : Signal.TRAFFIC] = log_quantiles(owner, latency.keys, latency.counts, size, (50, 95))
        n[Signal.LATENCY_P50 : Signal.TRAFFIC] = total["latency_count"]
    return out


def log_quantiles(
    owner: Ints, keys: Ints, weights: Ints, size: int, percents: Sequence[int]
) -> npt.NDArray[np.float64]:
    """ln of the quantiles in microseconds, for each owner, from latency histograms end to end; 0 where there is none.

    A rank inside a bucket is a place inside it: steps of a whole bucket (2 %) would drown a small change. Ranks are
    whole hundredths: what an owner gets must not depend on who else is there.
    """
    out = np.zeros((len(percents), size))
    if not len(owner):
        return out
    # 0 us has no logarithm; it counts as less than 1 us, whose bucket is 0.
    keys = np.where(keys == ZERO_BUCKET, 0, keys)
    place = owner * _KEYS_MAX + keys
    if (place[1:] <= place[:-1]).any():
        # One entry a bucket: a place inside it must not depend on which device's row came first.
        place, group = np.unique(place, return_inverse=True)
        weights = group_sum(group, weights, len(place))
        owner, keys = np.divmod(place, _KEYS_MAX)
    seen = np.cumsum(weights)
    total = group_sum(owner, weights, size)
    present = np.flatnonzero(total)
    total = total[present]
    before = np.cumsum(total) - total  # of the owners before
    for row, percent in zip(out, percents, strict=True):
        rank = 100 * before + percent * total
        at = np.searchsorted(100 * seen, rank, side="left")
        inside = (rank - 100 * (seen[at] - weights[at])) / (100 * weights[at])
        row[present] = (keys[at] - 1 + inside) * _GAMMA_LOG
    return out
