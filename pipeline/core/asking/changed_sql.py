"""What is asked of ClickHouse to tell what changed between two sides: two questions, whatever number of dimensions.

The first (`overview`) finds how many values each key of metadata has, and the 95th percentile of a's latency. The
second (`values`) brings the sums of every value of every dimension on both sides, and those of the whole with them, so
that they belong together while rows keep coming in. The whole is a dimension of its own, with one value.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.asking.changed import Dimension, Pair, Sums
from pipeline.core.asking.language import METADATA, Filter
from pipeline.core.asking.sql import Bound, where
from schemas.rule import Metric

VALUES_MAX = 1000  # of a dimension, those with the most observations; a key of metadata with more is no dimension
KEYS_MAX = 100
WHOLE = "whole"
EVERYTHING = Filter()

_TEXTS = {
    "model": "model_id",
    "device": "device_id",
    "source": "source",
    "deployment": "deployment",
    "server": "server_version",
}
_LATENCY = "ifNull(latency_us, 0)"
_SLOW = "ifNull(latency_us > {slow}, 0)"
_EMPTY = "empty(`detections.class`)"
_OBSERVED = {  # how many observations a row holds, their sum, the sum of their squares
    Metric.INFERENCE_COUNT: ("1", "0", "0"),
    Metric.CONFIDENCE_MEAN: (
        "length(`detections.confidence_ppm`)",
        "arraySum(`detections.confidence_ppm`)",
        "arraySum(p -> toUInt128(p) * p, `detections.confidence_ppm`)",
    ),
    Metric.LATENCY_MEAN_MS: ("latency_us IS NOT NULL", _LATENCY, f"toUInt128({_LATENCY}) * {_LATENCY}"),
    Metric.LATENCY_P95_MS: ("latency_us IS NOT NULL", _SLOW, _SLOW),
    Metric.ERROR_RATE: ("1", "error != ''", "error != ''"),
    Metric.EMPTY_RATE: ("1", _EMPTY, _EMPTY),
}
# A confidence is of one detection, so its classes share all detections out; all else is of the inference.
_BY_DETECTION = frozenset({Metric.CONFIDENCE_MEAN})


@dataclass(frozen=True, slots=True)
class Side:
    """Inferences of [start_ms, end_ms) that a filter holds for."""

    start_ms: int
    end_ms: int
    asked: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class Question:
    """SQL and what is bound in it."""

    sql: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """The two sides. `a` None: all inferences of `common` that are not b."""

    workspace: str
    common: Side
    a: Side | None
    b: Side

    @property
    def scale_a(self) -> float:
        """By how much longer b's time is than a's."""
        if self.a is None:
            return 1.0
        return (self.b.end_ms - self.b.start_ms) / (self.a.end_ms - self.a.start_ms)

    def rows(self, bound: Bound, columns: str) -> str:
        """These columns of the rows of either side; in_a and in_b say of which."""
        workspace = bound.text(self.workspace)
        in_b = _of(self.b, bound, workspace)
        in_a = f"NOT in_b AND {_of(self.common, bound, workspace)}" if self.a is None else _of(self.a, bound, workspace)
        sides = [self.common, self.b] if self.a is None else [self.a, self.b]
        start, end = min(side.start_ms for side in sides), max(side.end_ms for side in sides)
        return (
            f"SELECT {in_b} AS in_b, {in_a} AS in_a, {columns} FROM inferences"
            f" WHERE workspace = {workspace} AND {_between(start, end, bound)}"
            f" AND {where(self.common.asked, bound, workspace)} AND (in_a OR in_b)"
        )


def overview(compared: Compared) -> Question:
    """Rows (key of metadata, how many values it has, NULL), the most frequent first; and ("", rows, p95 of a in us)."""
    bound = Bound()
    rows = compared.rows(bound, "metadata, latency_us")
    sql = (
        f"WITH found AS ({rows}) "
        f"SELECT key, values, CAST(NULL AS Nullable(Float64)) AS p95 FROM ("
        f"SELECT pair.1 AS key, uniqCombined(12)(pair.2) AS values, count() AS n FROM ("
        f"SELECT arrayJoin(CAST(metadata AS Array(Tuple(String, String)))) AS pair FROM found)"
        f" GROUP BY key ORDER BY n DESC, key LIMIT {KEYS_MAX}) "
        f"UNION ALL SELECT '', count(), if(countIf(in_a AND latency_us IS NOT NULL) = 0, NULL,"
        f" quantileDDIf(0.01, 0.95)(ifNull(latency_us, 0), in_a AND latency_us IS NOT NULL)) FROM found"
    )
    return Question(sql, bound.parameters)


def values(compared: Compared, metric: Metric, keys: Sequence[str], slow_us: float) -> Question:
    """Rows (dimension, key, value, sums of a and of b, sums of the whole dimension on a and b)."""
    bound = Bound()
    n, total, squares = (text.replace("{slow}", bound.number(slow_us)) for text in _OBSERVED[metric])
    own = "n, total, squares"
    pairs = [f"('{WHOLE}', '', '', {own})"]
    pairs += [f"('{name}', '', CAST({column} AS String), {own})" for name, column in _TEXTS.items()]
    wanted = ", ".join(bound.text(key) for key in keys)
    of_metadata = (
        f", arrayMap(pair -> ('{METADATA}', pair.1, pair.2, {own}), arrayFilter(pair -> pair.1 IN ({wanted}),"
        f" CAST(metadata AS Array(Tuple(String, String)))))"
        if keys
        else ""
    )
    tags = "if(empty(tags), [''], arrayDistinct(CAST(tags AS Array(String))))"
    rows = compared.rows(
        bound,
        f"arrayJoin(arrayConcat([{', '.join(pairs)}], arrayMap(t -> ('tag', '', t, {own}), {tags}),"
        f" {_classes(metric)}{of_metadata})) AS one,"
        f" toUInt64({n}) AS n, toUInt64({total}) AS total, toUInt128({squares}) AS squares",
    )
    sides = ", ".join(f"sumIf(one.{at}, in_{side}) AS {side}{at}" for side in "ab" for at in (4, 5, 6))
    known = ", ".join(f"sum({side}{at}) OVER (PARTITION BY dimension, key)" for side in "ab" for at in (4, 5, 6))
    sql = (
        f"SELECT dimension, key, value, a4, a5, a6, b4, b5, b6, {known} FROM ("
        f"SELECT one.1 AS dimension, one.2 AS key, one.3 AS value, {sides} FROM ({rows})"
        f" GROUP BY dimension, key, value)"
        f" ORDER BY dimension, key, a4 + b4 DESC, value LIMIT {VALUES_MAX} BY dimension, key"
    )
    return Question(sql, bound.parameters)


def understood(rows: Iterable[Sequence[Any]], metric: Metric) -> tuple[Pair, list[Dimension]]:
    """The whole, and the dimensions, of what `values` brought."""
    found: dict[str, tuple[dict[str, Pair], Pair]] = {}
    for dimension, key, value, *numbers in rows:
        a, b, known_a, known_b = (Sums(*(int(n) for n in numbers[at : at + 3])) for at in (0, 3, 6, 9))
        name = f"{METADATA}.{key}" if dimension == METADATA else dimension
        found.setdefault(name, ({}, Pair(known_a, known_b)))[0][value] = Pair(a, b)
    whole = found.pop(WHOLE, ({}, Pair()))[1]
    dimensions = []
    for name, (of_values, known) in found.items():
        overlapping = name == "tag" or (name == "class" and metric not in _BY_DETECTION)
        dimensions.append(Dimension(name, of_values, overlapping, name.startswith(METADATA), known))
    return whole, dimensions


def _classes(metric: Metric) -> str:
    classes = "CAST(`detections.class` AS Array(String))"
    if metric not in _BY_DETECTION:
        return (
            f"arrayMap(c -> ('class', '', c, n, total, squares),"
            f" if(empty(`detections.class`), [''], arrayDistinct({classes})))"
        )
    return (
        f"arrayMap((c, p) -> ('class', '', c, toUInt64(1), toUInt64(p), toUInt128(p) * p),"
        f" {classes}, `detections.confidence_ppm`)"
    )


def _of(side: Side, bound: Bound, workspace: str) -> str:
    return f"({_between(side.start_ms, side.end_ms, bound)} AND {where(side.asked, bound, workspace)})"


def _between(start_ms: int, end_ms: int, bound: Bound) -> str:
    start, end = (f"fromUnixTimestamp64Milli({bound.integer(at)})" for at in (start_ms, end_ms))
    return f"event_time >= {start} AND event_time < {end}"
