"""Synthetic model monitoring: what a model's windows look like, in a clean world and in a dirty one, and its faults.

Some 50 inferences a window with a day and a weekend, 2 detections each, 5 classes, log-normal latency, .3 % errors.
Clean: windows are independent. Dirty: traffic, confidence, latency, class mix and errors wander, and p95 spikes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtri

from pipeline.core.detection.moment import WINDOWS_PER_DAY
from pipeline.core.detection.signals import SIGNALS, Channel, Signal

Array = npt.NDArray[Any]

SHARES = np.array([0.45, 0.30, 0.15, 0.08, 0.02])
CONFIDENCE_SD = 0.12  # of one detection
LATENCY_SD = 0.35  # of the logarithm of one latency
TRAFFIC, DETECTIONS, ERRORS, EMPTY = 50.0, 2.0, 0.003, math.exp(-2)
FAULTY_CLASS = 2
FIRST_INDEX = (4 + 7 * 2900) * WINDOWS_PER_DAY  # a Monday, 00:00 UTC
MICROSECONDS_LOG = math.log(40_000)  # latency is around 40 ms


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: the size is a difference of confidence, a factor, or the new share of a class."""

    kind: str
    size: float
    ramp_windows: int = 0

    @property
    def channel(self) -> Channel:
        """Where it is to be seen."""
        return _CHANNELS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {_FORMATS[self.kind].format(self.size)}{' in 1 h' if self.ramp_windows else ''}"


_CHANNELS = {
    "confidence": Channel.CONFIDENCE,
    "latency": Channel.LATENCY,
    "p95": Channel.LATENCY,
    "traffic": Channel.TRAFFIC,
    "class": Channel.CLASSES,
    "errors": Channel.ERRORS,
    "empty": Channel.EMPTY,
}
_FORMATS = {
    "confidence": "-{:g}",
    "latency": "x{:g}",
    "p95": "x{:g}",
    "traffic": "x{:g}",
    "class": "15 -> {:.0%}",
    "errors": "x{:g}",
    "empty": "x{:g}",
}
FAULTS = (
    *(Fault("confidence", size) for size in (0.01, 0.02, 0.05, 0.15)),
    Fault("confidence", 0.05, 360),
    *(Fault("latency", size) for size in (1.05, 1.10, 1.25, 2.0)),
    Fault("p95", 1.25),
    *(Fault("traffic", size) for size in (0.9, 0.8, 0.5, 0.0)),
    *(Fault("class", size) for size in (0.18, 0.22, 0.30)),
    *(Fault("errors", size) for size in (2.0, 5.0, 20.0)),
    *(Fault("empty", size) for size in (1.25, 2.0)),
)
GROSS = (Fault("traffic", 0.0), Fault("confidence", 0.15), Fault("latency", 2.0))


@dataclass(frozen=True, slots=True)
class Truth:
    """What the windows are drawn from; arrays of (windows, streams), shares (windows, streams, classes)."""

    traffic: Array
    confidence: Array
    latency: Array  # log factor
    tail: Array  # the same, on p95 only
    shares: Array
    season_shares: Array
    errors: Array
    empty: Array

    def part(self, start: int, end: int) -> "Truth":
        """The windows start to end."""
        return Truth(*(getattr(self, name)[start:end] for name in Truth.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to see: the detector's signals (windows, SIGNALS, streams)."""

    x: Array
    n: Array


class World:
    """Streams that go on for ever, a day at a time."""

    def __init__(self, streams: int, seed: int, *, dirty: bool) -> None:
        self._streams, self._dirty = streams, dirty
        self._rng = np.random.default_rng(seed)
        self._wander: dict[str, Array] = {}

    def days(self, count: int) -> Iterator[tuple[int, Truth, Seen]]:
        """Number of the day, its truth, what is seen of it without a fault."""
        for day in range(count):
            truth = self.day_truth(day)
            yield day, truth, look(truth, self._rng)

    def moment_truth(self, window: int, count: int) -> Truth:
        """`count` clean windows of the first day, from `window` on."""
        return self._clean(0, window, count)

    def day_truth(self, day: int) -> Truth:
        """What a day is drawn from."""
        truth = self._clean(day, 0, WINDOWS_PER_DAY)
        return self._soil(truth, (WINDOWS_PER_DAY, self._streams)) if self._dirty else truth

    def _clean(self, day: int, window: int, count: int) -> Truth:
        shape = (count, self._streams)
        of_day = np.arange(window, window + count)
        angle = np.broadcast_to((2 * np.pi * of_day / WINDOWS_PER_DAY)[:, None], shape)
        traffic = TRAFFIC * (1 + 0.5 * np.sin(angle - 2)) * (0.7 if day % 7 >= 5 else 1.0)
        shares = SHARES * np.exp(0.10 * np.sin(angle)[..., None] * np.array([1, -1, 0.5, -0.5, 0]))
        shares /= shares.sum(axis=-1, keepdims=True)
        zero, one = np.zeros(shape), np.ones(shape)
        return Truth(
            traffic=traffic,
            confidence=0.80 - 0.02 * np.cos(angle),
            latency=0.04 * np.sin(angle - 2),
            tail=zero,
            shares=shares,
            season_shares=shares,
            errors=ERRORS * one,
            empty=EMPTY * one,
        )

    def _soil(self, truth: Truth, shape: tuple[int, int]) -> Truth:
        rng = self._rng
        mix = np.stack([self._ar1(f"class {c}", shape, 0.03, 180) for c in range(len(SHARES))], axis=-1)
        shares = truth.shares * np.exp(mix)
        spikes = np.where(rng.random(shape) < 1e-3, np.log(rng.uniform(2, 4, shape)), 0.0)
        return replace(
            truth,
            traffic=truth.traffic * np.exp(self._ar1("traffic", shape, 0.08, 60)) * rng.gamma(400, 1 / 400, shape),
            confidence=truth.confidence + self._ar1("confidence", shape, 0.004, 180),
            latency=truth.latency + self._ar1("latency", shape, 0.02, 12),
            tail=spikes,
            shares=shares / shares.sum(axis=-1, keepdims=True),
            errors=truth.errors * np.exp(self._ar1("errors", shape, 0.3, 60)),
            empty=truth.empty * np.exp(self._ar1("empty", shape, 0.05, 60)),
        )

    def _ar1(self, name: str, shape: tuple[int, int], sd: float, windows: float) -> Array:
        a = math.exp(-1 / windows)
        last = self._wander.get(name)
        if last is None:
            last = self._rng.normal(size=shape[1]) * sd
        noise = self._rng.normal(size=shape) * sd * math.sqrt(1 - a * a)
        out, _ = lfilter([1.0], [1.0, -a], noise, axis=0, zi=(a * last)[None])
        self._wander[name] = out[-1]
        return np.asarray(out)


def with_fault(truth: Truth, fault: Fault) -> Truth:
    """The truth if the fault begins in the first window."""
    count = len(truth.traffic)
    share = np.minimum(1.0, (np.arange(count) + 1) / fault.ramp_windows) if fault.ramp_windows else np.ones(count)
    share = share[:, None]
    size = fault.size
    match fault.kind:
        case "confidence":
            return replace(truth, confidence=truth.confidence - size * share)
        case "latency":
            return replace(truth, latency=truth.latency + math.log(size) * share)
        case "p95":
            return replace(truth, tail=truth.tail + math.log(size) * share)
        case "traffic":
            return replace(truth, traffic=truth.traffic * (1 - (1 - size) * share))
        case "class":
            return replace(truth, shares=shifted(truth.shares, size))
        case "errors":
            return replace(truth, errors=np.minimum(1, truth.errors * size))
        case "empty":
            return replace(truth, empty=np.minimum(1, truth.empty * size))
    raise AssertionError(fault.kind)


def shifted(shares: Array, size: float) -> Array:
    """The shares if the odds of the faulty class change as much as a change to `size` would need."""
    usual = float(SHARES[FAULTY_CLASS])
    out = shares.copy()
    out[..., FAULTY_CLASS] *= (size / (1 - size)) / (usual / (1 - usual))
    return np.asarray(out / out.sum(axis=-1, keepdims=True))


def look(truth: Truth, rng: np.random.Generator) -> Seen:
    """Draw the windows."""
    shape = truth.traffic.shape
    x, n = np.zeros((shape[0], SIGNALS, shape[1]), np.float32), np.zeros((shape[0], SIGNALS, shape[1]), np.float32)
    inferences = rng.poisson(truth.traffic)
    detections = rng.poisson(DETECTIONS * inferences)
    n[:, Signal.TRAFFIC], x[:, Signal.TRAFFIC] = 1, inferences
    n[:, Signal.LATENCY_P50 : Signal.TRAFFIC] = n[:, Signal.ERRORS : Signal.CLASS] = inferences[:, None]
    n[:, Signal.CONFIDENCE] = detections
    n[:, Signal.CLASS :] = detections[:, None]
    x[:, Signal.CONFIDENCE] = truth.confidence + rng.normal(size=shape) * CONFIDENCE_SD / np.sqrt(
        np.maximum(detections, 1)
    )
    m = np.maximum(inferences, 1)
    rank50, rank95 = np.ceil(0.5 * m), np.ceil(0.95 * m)
    # Joint order statistics: U95 is Beta, and U50 / U95 is, too.
    u95 = rng.beta(rank95, m - rank95 + 1)
    u50 = u95 * np.where(rank95 > rank50, rng.beta(rank50, np.maximum(rank95 - rank50, 1)), 1.0)
    middle = MICROSECONDS_LOG + truth.latency
    x[:, Signal.LATENCY_P50] = middle + LATENCY_SD * ndtri(u50)
    x[:, Signal.LATENCY_P95] = middle + LATENCY_SD * ndtri(u95) + truth.tail
    x[:, Signal.ERRORS] = rng.binomial(inferences, truth.errors)
    x[:, Signal.EMPTY] = rng.binomial(inferences, truth.empty)
    left, left_share = detections.copy(), np.ones(shape)
    for c in range(len(SHARES)):
        share = truth.shares[..., c]
        last = c == len(SHARES) - 1
        drawn = left if last else rng.binomial(left, np.clip(share / left_share, 0, 1))
        x[:, Signal.CLASS + c] = drawn
        left, left_share = left - drawn, np.maximum(left_share - share, 1e-9)
    return Seen(x, n)
