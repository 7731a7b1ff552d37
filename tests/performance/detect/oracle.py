"""The best that could be done: for each fault a CUSUM that knows its channel, direction, size and the true season."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pipeline.core.detection.signals import Signal
from tests.performance.detect.workload import (
    CONFIDENCE_SD,
    EMPTY,
    ERRORS,
    LATENCY_SD,
    MICROSECONDS_LOG,
    SHARES,
    Fault,
    Seen,
    Truth,
    shifted,
)

Array = npt.NDArray[Any]


def evidence(fault: Fault, seen: Seen, truth: Truth) -> Array:
    """The log-likelihood ratio of every window (windows, streams); `truth` is the world without the fault."""
    x, n, size = seen.x.astype(float), seen.n.astype(float), fault.size
    match fault.kind:
        case "confidence":
            shift = -size
            r = x[:, Signal.CONFIDENCE] - truth.confidence
            return np.asarray((shift * r - shift**2 / 2) * n[:, Signal.CONFIDENCE] / CONFIDENCE_SD**2)
        case "latency":
            return _quantile(x[:, Signal.LATENCY_P50], 0.5, math.log(size), x[:, Signal.TRAFFIC], truth)
        case "p95":
            return _quantile(x[:, Signal.LATENCY_P95], 0.95, math.log(size), x[:, Signal.TRAFFIC], truth)
        case "traffic":
            factor = max(size, 1e-3)
            return np.asarray(x[:, Signal.TRAFFIC] * math.log(factor) - truth.traffic * (factor - 1))
        case "class":
            usual, faulty = truth.season_shares, shifted(truth.season_shares, size)
            counts = np.moveaxis(x[:, Signal.CLASS : Signal.CLASS + len(SHARES)], 1, -1)
            return np.asarray((counts * np.log(faulty / usual)).sum(axis=-1))
        case "errors":
            return _binomial(x[:, Signal.ERRORS], n[:, Signal.ERRORS], ERRORS, ERRORS * size)
        case "empty":
            return _binomial(x[:, Signal.EMPTY], n[:, Signal.EMPTY], EMPTY, EMPTY * size)
    raise AssertionError(fault.kind)


def _quantile(x: Array, quantile: float, shift: float, count: Array, truth: Truth) -> Array:
    at = float(ndtri(quantile))
    density = math.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    variance = LATENCY_SD**2 * quantile * (1 - quantile) / density**2 / np.maximum(count, 1)
    r = x - MICROSECONDS_LOG - truth.latency - LATENCY_SD * at
    return np.asarray((shift * r - shift**2 / 2) / variance)


def _binomial(x: Array, n: Array, usual: float, faulty: float) -> Array:
    return np.asarray(x * math.log(faulty / usual) + (n - x) * math.log((1 - faulty) / (1 - usual)))


def cusum(evidence_: Array, start: Array) -> Array:
    """The sum after every window (windows, ...), beginning with `start`."""
    out = np.empty(evidence_.shape)
    now = start
    for i, e in enumerate(evidence_):
        now = out[i] = np.maximum(now + e, 0)
    return out


def threshold(hour_maxima: Array, alarms: float) -> float:
    """What the maxima of hours (hours, streams) pass in `alarms` runs of hours."""
    low, high = 0.0, float(hour_maxima.max()) * 1.0001
    for _ in range(50):
        middle = (low + high) / 2
        if runs(hour_maxima >= middle) > alarms:
            low = middle
        else:
            high = middle
    return high


def runs(hours: Array) -> int:
    """Runs of hours with an alarm (hours first): a lasting one counts once."""
    return int(hours[0].sum() + (hours[1:] & ~hours[:-1]).sum())
