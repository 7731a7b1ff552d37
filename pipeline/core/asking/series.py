"""Any metric of a rule over time, at the rollup that fits, told apart by model, device or class.

One row a point and series: seconds, the series' key, the value, and how many it is about. A point without a row has no
value; counts are then 0. `class_share` is of all detections that the filter's other terms find.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.asking.language import Filter
from pipeline.core.asking.numbers import KEYS, NumbersAt, place, select
from pipeline.core.asking.pieces import DAY_S, Piece
from pipeline.core.asking.question import Question
from pipeline.core.asking.sql import Bound
from pipeline.core.rules import meters
from schemas.rule import Metric

ROWS_MAX = 500_000
SERIES_MAX = 50
_COUNTED = {
    Metric.INFERENCE_COUNT: "inferences",
    Metric.INFERENCE_RATE: "inferences",
    Metric.CLASS_COUNT: "detections",
    Metric.CLASS_SHARE: "detections",
    Metric.CLASS_DISTANCE: "detections",
    Metric.SILENCE_S: "inferences",
    Metric.ERROR_RATE: "errors",
    Metric.EMPTY_RATE: "empties",
}
_SHARES = {Metric.ERROR_RATE, Metric.EMPTY_RATE}  # of the inferences
ZERO_IS_SAID = {Metric.INFERENCE_COUNT, Metric.INFERENCE_RATE, Metric.CLASS_COUNT}


@dataclass(frozen=True, slots=True)
class SeriesAsked:
    """Which metric of what, over whole points of `step_s`, told apart by a name of KEYS or "" (one series)."""

    metric: Metric
    filter: Filter
    over: Piece
    step_s: int
    by: str

    @property
    def numbers(self) -> tuple[str, ...]:
        """What is asked for."""
        number = _COUNTED.get(self.metric, self.metric.value)
        if self.metric in (Metric.CLASS_COUNT, Metric.CLASS_SHARE, Metric.CLASS_DISTANCE):
            return (number,)
        about = "detections" if number.startswith("confidence") else "inferences"
        return (number,) if number == about else (number, about)

    @property
    def told_apart_by(self) -> tuple[str, ...]:
        """The keys of the answer's rows, beside the time."""
        if self.metric is Metric.CLASS_DISTANCE:
            return ("class",)
        return (self.by,) if self.by else ()

    @property
    def place(self) -> NumbersAt:
        """Where it is asked."""
        return place(self._asked, self.told_apart_by, self.numbers)

    @property
    def _asked(self) -> Filter:
        """A share is of all classes: which of them are told is chosen afterwards."""
        if self.metric is not Metric.CLASS_SHARE:
            return self.filter
        return Filter(tuple(term for term in self.filter.terms if term.field != "class"))

    @property
    def start_s(self) -> int:
        """Where rows begin: a distance of mixes compares with the day before."""
        return self.over.start_s - (DAY_S if self.metric is Metric.CLASS_DISTANCE else 0)

    def question(self) -> Question:
        """Rows of: second of the point, the key (if any), then `numbers`."""
        bound, at = Bound(), self.place
        time = "toUnixTimestamp(event_time)" if at is NumbersAt.ROWS else "toUnixTimestamp(window_start)"
        keys = {"point": f"intDiv({time}, {self.step_s}) * {self.step_s}"}
        for name in self.told_apart_by:
            keys["key"] = KEYS[name]
        over = Piece(self.over.size, self.start_s, self.over.end_s)
        return Question(select(self._asked, over, self.numbers, bound, keys, at), bound.parameters, ROWS_MAX, 20)

    @property
    def points(self) -> range:
        """The seconds at which points begin."""
        return range(self.over.start_s, self.over.end_s, self.step_s)


def values(asked: SeriesAsked, rows: Sequence[tuple[Any, ...]], now_s: int) -> dict[str, list[float | None]]:
    """By key, a value a point; the largest series first."""
    if asked.metric is Metric.CLASS_DISTANCE:
        return {"": _distances(asked, rows)}
    apart = len(asked.told_apart_by)
    table: dict[str, dict[int, tuple[Any, ...]]] = {}
    for point, *rest in rows:
        table.setdefault(rest[0] if apart else "", {})[point] = tuple(rest[apart:])
    totals = dict.fromkeys(asked.points, 0)
    for found in table.values():
        for point, numbers in found.items():
            totals[point] = totals.get(point, 0) + numbers[0] if asked.metric is Metric.CLASS_SHARE else 0
    size = {key: sum(numbers[-1] for numbers in found.values()) for key, found in table.items()}
    order = sorted(table, key=lambda key: (-size[key], key))
    if asked.metric is Metric.SILENCE_S:
        return {key: _silences(asked, table[key], now_s) for key in order}
    return {
        key: [_value(asked, table[key].get(point), totals.get(point, 0), point, now_s) for point in asked.points]
        for key in order
    }


def _value(asked: SeriesAsked, numbers: tuple[Any, ...] | None, total: int, point: int, now_s: int) -> float | None:
    if numbers is None:
        return 0.0 if asked.metric in ZERO_IS_SAID and point < now_s else None
    first, last = numbers[0], numbers[-1]
    if asked.metric is Metric.INFERENCE_RATE:
        return float(first / max(1, min(asked.step_s, now_s - point)))
    if asked.metric is Metric.CLASS_SHARE:
        return first / total if total else None
    if asked.metric in _SHARES:
        return first / last if last else None
    return None if first is None else float(first)


def _silences(asked: SeriesAsked, found: Mapping[int, tuple[Any, ...]], now_s: int) -> list[float | None]:
    """At the end of each point, since the end of the last one in which there was an inference."""
    out: list[float | None] = []
    last: int | None = None
    for point in asked.points:
        end = min(point + asked.step_s, now_s)
        if point in found:
            last = end
        out.append(None if last is None or point >= now_s else float(end - last))
    return out


def _distances(asked: SeriesAsked, rows: Sequence[tuple[Any, ...]]) -> list[float | None]:
    """The distance of each point's mix of classes from that of the day before it."""
    number = {name: i for i, name in enumerate(sorted({row[1] for row in rows}))}
    first = asked.start_s
    mixes = np.zeros(((asked.over.end_s - first) // asked.step_s, max(1, len(number))), np.int64)
    for point, name, detections in rows:
        mixes[(point - first) // asked.step_s, number[name]] += detections
    before = DAY_S // asked.step_s or 1
    sums = np.vstack([np.zeros_like(mixes[:1]), mixes.cumsum(axis=0)])
    lead = len(mixes) - len(asked.points)
    return [
        meters.class_distance(mixes[at], sums[at] - sums[max(0, at - before)], 1)[0] for at in range(lead, len(mixes))
    ]
