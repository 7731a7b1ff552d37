"""From a breach to a finding: which member says so, since when, how big, seen and expected."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.detection import bank, ladder
from pipeline.core.detection.anomaly import Deviation, hours_between, natural
from pipeline.core.detection.baseline import Residuals
from pipeline.core.detection.recovery import Recovery, statistics
from pipeline.core.detection.scoring import BANK, FAMILIES
from pipeline.core.detection.signals import GAUSSIANS, SIGNALS_OF_CHANNEL, Channel, Signals
from pipeline.core.detection.state import Arrays, Bools, Floats
from pipeline.core.isolation import attempt
from pipeline.core.windows.log_clock import WINDOW_MS

Failure = tuple[int, Exception]  # of a column

_TOLD_EVERY = 6  # windows
_ENDING = 2  # windows; a mean over more than that has much of the fault in it


@dataclass(frozen=True, slots=True)
class Scene:
    """A window of some models with all that was computed of it."""

    index: int
    window: Signals
    residuals: Residuals
    views: Mapping[str, Arrays]
    member_scores: Floats  # (members, models)
    scale_scores: Floats  # (scales, signals, models)
    scores: Floats  # (families, channels, models)
    asked_per_model_week: float


def explain(scene: Scene, began: Bools, ended: Bools) -> Iterator[tuple[int, Deviation | Exception]]:
    """A finding for every breach that begins or ends, and for those that last once a minute; or why there is none."""
    told = began | ended if scene.index % _TOLD_EVERY else scene.views["scoring"]["breached"] | ended
    for channel, column in np.argwhere(told).tolist():
        yield column, attempt(_deviation, scene, channel, column, bool(ended[channel, column]))


def accuse(scene: Scene, began: Bools, recovery: Recovery) -> list[Failure]:
    """Write down of every breach that begins since when it is, what it is about, and what the fault looks like."""
    failed: list[Failure] = []
    for channel, column in np.argwhere(began).tolist():
        error = attempt(_accuse, scene, channel, column, recovery)
        if error is not None:
            failed.append((column, error))
    return failed


def lost(scores: Floats) -> list[Failure]:
    """Models whose score is no number: nothing of them would ever be found again."""
    if np.isfinite(scores).all():
        return []
    columns = np.flatnonzero(~np.isfinite(scores).all(axis=(0, 1))).tolist()
    return [(column, ArithmeticError("its score is no number")) for column in columns]


def _accuse(scene: Scene, channel: int, column: int, recovery: Recovery) -> None:
    family = _family(scene, channel, column)
    signal, _, onset, worth = _winner(scene, family, channel, column)
    scene.views["scoring"]["onset"][channel, column] = onset
    windows = scene.index - onset + 1
    sigmas = _recent_sigmas(scene, signal, column, windows)
    (_,), (weight,), (precision,) = statistics(scene.residuals, np.array([signal]), np.array([column]))
    if signal < GAUSSIANS:
        size = sigmas / max(float(precision), 1e-9)
    else:
        expected = max(float(scene.residuals.expected[signal, column]), 1e-9)
        size = max(1 + sigmas * float(scene.residuals.unit[signal, column]) / expected, 0.0)
    weight = windows * float(weight)
    recovery.begin(scene.views["recovery"], (channel, column), signal, worth, size * weight, weight)


def _family(scene: Scene, channel: int, column: int) -> int:
    """Which of them is further over its threshold."""
    scoring = scene.views["scoring"]
    scores, thresholds = scene.scores[:, channel, column], scoring["threshold"][:, channel, column]
    return int(np.argmax((scores - thresholds) * scoring["slope"][:, channel, column]))


def _deviation(scene: Scene, channel: int, column: int, ended: bool) -> Deviation:
    scoring = scene.views["scoring"]
    scores, thresholds = scene.scores[:, channel, column], scoring["threshold"][:, channel, column]
    family = _family(scene, channel, column)
    signal, member, onset, _ = _winner(scene, family, channel, column)
    onset = int(scoring["onset"][channel, column])
    windows = scene.index - onset + 1
    if ended:
        signal = int(scene.views["recovery"]["culprit"][channel, column])
        windows = min(windows, _ENDING)
    seen = _seen(scene, signal, column, windows)
    if not ended:
        seen = _seen_lately(scene, channel, column, seen)
    surprise = scores[family] * scoring["slope"][family, channel, column] + scoring["at_zero"][family, channel, column]
    return Deviation(
        channel=Channel(channel),
        at_ms=(scene.index + 1) * WINDOW_MS,
        breached=not ended,
        since_ms=onset * WINDOW_MS,
        signal=seen.signal,
        value=seen.value,
        expected=seen.expected,
        sigmas=seen.sigmas,
        count=seen.count,
        family=FAMILIES[family],
        member=member,
        score=float(scores[family]),
        threshold=float(thresholds[family]),
        hours_between=hours_between(float(surprise)),
        asked_per_model_week=scene.asked_per_model_week,
    )


def unwatched(index: int, channel: int, onset: int, asked_per_model_week: float) -> Deviation:
    """What is said when a model is forgotten while something is going on."""
    signal = SIGNALS_OF_CHANNEL[channel].start
    return Deviation(
        channel=Channel(channel),
        at_ms=(index + 1) * WINDOW_MS,
        breached=None,
        since_ms=onset * WINDOW_MS,
        signal=signal,
        value=0.0,
        expected=0.0,
        sigmas=0.0,
        count=0.0,
        family="",
        member="",
        score=0.0,
        threshold=0.0,
        hours_between=0.0,
        asked_per_model_week=asked_per_model_week,
    )


def _winner(scene: Scene, family: int, channel: int, column: int) -> tuple[int, str, int, float]:
    """The signal and member with the highest score, the first window that it is about, and what its evidence is worth.

    That is how steep its tail is: where noise lasts, less than theory says.
    """
    if family == BANK:
        members = bank.MEMBERS_OF_CHANNEL[channel]
        member = members.start + int(np.argmax(scene.member_scores[members, column]))
        signal = int(bank.SIGNAL_OF_MEMBER[member])
        since = scene.index - max(int(scene.views["bank"]["windows"][member, column]), 1) + 1
        return signal, bank.member_name(member), since, float(scene.views["bank"]["slope"][member, column])
    signals = SIGNALS_OF_CHANNEL[channel]
    of_channel = scene.scale_scores[:, signals, column]
    scale, row = np.unravel_index(int(np.argmax(of_channel)), of_channel.shape)
    windows, signal, state = int(ladder.SCALE_WINDOWS[scale]), signals.start + int(row), scene.views["ladder"]
    worth = float(state["slope"][scale, signal, column] / (windows * state["variance"][scale, signal, column]))
    return signal, f"last {windows} windows", scene.index - windows + 1, worth


@dataclass(frozen=True, slots=True)
class _Seen:
    """A signal as it was lately, in the unit that people know."""

    signal: int
    value: float
    expected: float
    sigmas: float
    count: float  # 0: the window held nothing of it


def _seen(scene: Scene, signal: int, column: int, windows: int) -> _Seen:
    n, expected = float(scene.window.n[signal, column]), float(scene.residuals.expected[signal, column])
    sigmas = _recent_sigmas(scene, signal, column, windows)
    unit = float(scene.residuals.unit[signal, column]) if n > 0 else _usual_unit(scene, signal, column)
    x = expected + sigmas * unit
    return _Seen(signal, natural(signal, x, n), natural(signal, expected, n), sigmas, n)


def _usual_unit(scene: Scene, signal: int, column: int) -> float:
    """The standard deviation of a usual window: one that holds nothing has none."""
    baseline = scene.views["baseline"]
    if signal >= GAUSSIANS:
        return float(scene.residuals.unit[signal, column])
    return float(baseline["spread"][signal, column]) / math.sqrt(max(float(baseline["exposure"][signal, column]), 1.0))


def _seen_lately(scene: Scene, channel: int, column: int, now: _Seen) -> _Seen:
    """What was told of the breach, where there is nothing in this window to tell of it; remembers it otherwise."""
    told, cell = scene.views["recovery"], (channel, column)
    if now.count > 0:
        told["told_signal"][cell] = now.signal
        told["told"][:, channel, column] = now.value, now.expected, now.sigmas, now.count
    elif told["told"][3, channel, column] > 0:
        return _Seen(int(told["told_signal"][cell]), *map(float, told["told"][:, channel, column]))
    return now


def _recent_sigmas(scene: Scene, signal: int, column: int, windows: int) -> float:
    """The mean residual of about the last `windows`, in standard deviations of a window."""
    scale = int(np.clip(np.log2(max(windows, 1)), 0, ladder.SCALES - 1))
    rate = float(ladder.FAST_RATES[scale, 0, 0])
    return float(scene.views["ladder"]["fast"][scale, signal, column]) / (1 - (1 - rate) ** max(windows, 1))
