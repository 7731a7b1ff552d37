"""Numenta's anomaly benchmark (NAB v1.1), from a copy of its repository: our own scorer, and our detector on it.

Nothing here was tuned on NAB. The raw score of a profile is -fn for every anomaly window missed, plus the best
sigmoid of each window found, plus fp times the sigmoid of every alarm outside; the threshold is the one that is best
for the whole corpus; 0 is what the null detector gets, 100 the perfect one.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.detection.detector import AutomaticDetector
from pipeline.core.detection.signals import Signal, Signals
from tests.performance.detect.workload import FIRST_INDEX

Array = npt.NDArray[Any]

PROFILES = {"standard": (1.0, 0.11), "reward_low_FP_rate": (1.0, 0.22), "reward_low_FN_rate": (2.0, 0.11)}  # fn, fp
_PROBATION, _PROBATION_ROWS = 0.15, 5000


@dataclass(frozen=True, slots=True)
class Series:
    """One file: values, seconds between rows, and what an alarm at each row is worth."""

    values: Array
    step_s: float
    window: Array  # number of the anomaly window, -1 outside
    worth: Array  # sigmoid: up to 1 at the start of a window, down to -1 far behind one
    scored: Array  # rows after the probation


class Corpus:
    """All files of a copy of the repository."""

    def __init__(self, root: Path) -> None:
        labels = json.loads((root / "labels" / "combined_windows.json").read_text())
        self.series: dict[str, Series] = {}
        self.window_count = 0
        for name in sorted(labels):
            self.series[name] = self._read(root / "data" / name, labels[name])
            self.window_count += len(labels[name])

    def _read(self, path: Path, labels: Sequence[Sequence[str]]) -> Series:
        with path.open() as file:
            rows = list(csv.DictReader(file))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        position = {time: row for row, time in enumerate(times)}
        spans = [tuple(position[datetime.fromisoformat(edge.split(".")[0])] for edge in span) for span in labels]
        count = len(rows)
        window, worth = np.full(count, -1), np.full(count, -1.0)
        last: tuple[int, int] | None = None
        for number, (start, end) in enumerate(spans):
            if last is not None:
                worth[last[0] + 1 : start] = _after(np.arange(last[0] + 1, start), *last)
            width = end - start + 1
            rows_inside = np.arange(start, end + 1)
            worth[start : end + 1] = sigmoid(-(end - rows_inside + 1) / width) / float(sigmoid(np.array(-1.0)))
            window[start : end + 1] = self.window_count + number
            last = (end, width)
        if last is not None:
            worth[last[0] + 1 :] = _after(np.arange(last[0] + 1, count), *last)
        probation = min(int(_PROBATION * count), int(_PROBATION * _PROBATION_ROWS))
        step = float(np.median(np.diff([time.timestamp() for time in times])))
        values = np.array([float(row["value"]) for row in rows])
        return Series(values, step, window, worth, np.arange(count) >= probation)

    def score(self, scores: Mapping[str, Array], profile: str) -> tuple[float, float]:
        """The normalised score at the best threshold, and that threshold."""
        fn, fp = PROFILES[profile]
        all_ = [(s.window[s.scored], s.worth[s.scored], scores[name][s.scored]) for name, s in self.series.items()]
        window, worth, value = (np.concatenate(part) for part in zip(*all_, strict=True))
        order = np.argsort(-value, kind="stable")
        window, worth, value = window[order], worth[order], value[order]
        gained = np.where(window < 0, worth * fp, 0.0)
        best = dict.fromkeys(np.unique(window[window >= 0]).tolist(), -fn)
        start = sum(best.values())
        for row in np.flatnonzero(window >= 0).tolist():
            number = int(window[row])
            if worth[row] > best[number]:
                gained[row] = worth[row] - best[number]
                best[number] = float(worth[row])
        last_of_value = np.r_[value[1:] != value[:-1], True]
        thresholds = np.r_[np.inf, value[last_of_value]]
        raw = np.r_[start, start + np.cumsum(gained)[last_of_value]]
        at = int(np.argmax(raw))
        null = -fn * self.window_count
        return float(100 * (raw[at] - null) / (self.window_count - null)), float(thresholds[at])


def sigmoid(x: Array) -> Array:
    """NAB's: 1 far inside, -1 far outside."""
    return np.asarray(np.where(x > 3.0, -1.0, 2 / (1 + np.exp(5 * np.minimum(x, 3.0))) - 1))


def _after(rows: Array, end: int, width: int) -> Array:
    return sigmoid((rows - end) / max(width - 1, 1))


def detect(series: Series) -> Array:
    """Our detector's score for every row: each row is a window in which one thing was measured, in its own unit."""
    known = series.values[~series.scored]
    spread = max(float(np.subtract(*np.percentile(known, [75, 25]))) / 1.35, float(np.std(known)) / 3, 1e-9)
    x = (series.values - float(np.median(known))) / spread
    detector = AutomaticDetector()
    detector.watch([("nab", "series")])
    stride = max(round(series.step_s / 10), 1)
    out = np.zeros(len(x))
    for row, value in enumerate(x):
        window = Signals.nothing(1)
        # The sizes of effects that the bank looks for are those of confidence, whose deviation is some .12.
        window.x[Signal.CONFIDENCE], window.n[Signal.CONFIDENCE] = 0.12 * value, 1
        detector.advance(FIRST_INDEX + row * stride, window, np.zeros(1, np.bool_))
        out[row] = detector.surprise(0)
    return out


def report(root: Path) -> list[tuple[str, float, float]]:
    """(profile, score, threshold) of our detector on a copy of the repository."""
    corpus = Corpus(root)
    scores = {name: detect(series) for name, series in corpus.series.items()}
    return [(profile, *corpus.score(scores, profile)) for profile in PROFILES]
