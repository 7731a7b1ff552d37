"""What is asked of ClickHouse to tell what changed between two sides: three questions, whatever number of dimensions.

The first (`size`) counts the rows. Of very many only one in some is looked at, chosen by a hash of its place on Kafka:
the same ones each time. The second (`overview`) finds how many values each key of metadata has, and the 95th percentile
of a's latency. The third (`values`) brings the sums of every value of every dimension on both sides, and those of the
whole with them, so that they belong together while rows keep coming in. The whole is a dimension of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.core.asking.changed.explanation import Dimension, Pair, SideSums
from pipeline.core.asking.language import METADATA, Filter
from pipeline.core.asking.question import WORKSPACE, Question
from pipeline.core.asking.sql import Bound, where
from schemas.rule import Metric

VALUES_MAX = 1000  # of a dimension, those with the most observations; a key of metadata with more is no dimension
KEYS_MAX = 100
ROWS_MAX = (KEYS_MAX + 10) * VALUES_MAX
SECONDS_MAX = 30
LOOKED_AT_MAX = 1_000_000
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
class Subset:
    """Inferences of [start_ms, end_ms) that a filter holds for."""

    start_ms: int
    end_ms: int
    asked: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides. `a` None: all inferences of `common` that are not b."""

    common: Subset
    a: Subset | None
    b: Subset
    every: int = 1  # one in so many rows is looked at

    @property
    def scale_a(self) -> float:
        """By what a count of a is multiplied: as b's time is longer than a's."""
        if self.a is None:
            return float(self.every)
        return self.every * (self.b.end_ms - self.b.start_ms) / (self.a.end_ms - self.a.start_ms)

    def rows(self, bound: Bound, columns: str) -> str:
        """These columns of the rows of either side; in_a and in_b say of which."""
        in_b, common = of_subset(self.b, bound), of_subset(self.common, bound)
        in_a = f"{common} AND NOT in_b" if self.a is None else of_subset(self.a, bound)
        both = [self.common, self.b] if self.a is None else [self.a, self.b]
        start_ms, end_ms = min(side.start_ms for side in both), max(side.end_ms for side in both)
        sample = f" AND intHash32(kafka_offset) % {self.every} = 0" if self.every > 1 else ""
        return (
            f"SELECT {in_b} AS in_b, {in_a} AS in_a, {columns} FROM inferences"
            f" WHERE workspace = {WORKSPACE} AND {_between(start_ms, end_ms, bound)}"
            f" AND {where(self.common.asked, bound, WORKSPACE)} AND (in_a OR in_b){sample}"
        )


def size(sides: Sides) -> Question:
    """One row: how many rows both sides have."""
    bound = Bound()
    return Question(f"SELECT count() FROM ({sides.rows(bound, '1')})", bound.parameters, 1, SECONDS_MAX)


def of_many(sides: Sides, rows: int) -> Sides:
    """The same sides, of which not more is looked at than an answer in seconds takes."""
    return replace(sides, every=max(1, -(-rows // LOOKED_AT_MAX)))


def overview(sides: Sides) -> Question:
    """Rows (0, key of metadata, how many values it has, NULL), and (1, "", inferences, p95 of a's latency in us)."""
    bound = Bound()
    rows = sides.rows(bound, "metadata, latency_us")
    sql = (
        f"WITH found AS ({rows}) "
        f"SELECT 0, key, values, CAST(NULL AS Nullable(Float64)) AS p95 FROM ("
        f"SELECT pair.1 AS key, uniqCombined(12)(pair.2) AS values, count() AS n FROM ("
        f"SELECT arrayJoin(CAST(metadata AS Array(Tuple(String, String)))) AS pair FROM found)"
        f" GROUP BY key ORDER BY n DESC, key LIMIT {KEYS_MAX}) "
        f"UNION ALL SELECT 1, '', count(), if(countIf(in_a AND latency_us IS NOT NULL) = 0, NULL,"
        f" quantileDDIf(0.01, 0.95)(ifNull(latency_us, 0), in_a AND latency_us IS NOT NULL)) FROM found"
    )
    return Question(sql, bound.parameters, ROWS_MAX, SECONDS_MAX)


def values(sides: Sides, metric: Metric, keys: Sequence[str], slow_us: float) -> Question:
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
    rows = sides.rows(
        bound,
        f"arrayJoin(arrayConcat([{', '.join(pairs)}], arrayMap(t -> ('tag', '', t, {own}), {tags}),"
        f" {_classes(metric)}{of_metadata})) AS one,"
        f" toUInt64({n}) AS n, toUInt64({total}) AS total, toUInt128({squares}) AS squares",
    )
    summed = ", ".join(f"sumIf(one.{at}, in_{side}) AS {side}{at}" for side in "ab" for at in (4, 5, 6))
    known = ", ".join(f"sum({side}{at}) OVER (PARTITION BY dimension, key)" for side in "ab" for at in (4, 5, 6))
    sql = (
        f"SELECT dimension, key, value, a4, a5, a6, b4, b5, b6, {known} FROM ("
        f"SELECT one.1 AS dimension, one.2 AS key, one.3 AS value, {summed} FROM ({rows})"
        f" GROUP BY dimension, key, value)"
        f" ORDER BY dimension, key, a4 + b4 DESC, value LIMIT {VALUES_MAX} BY dimension, key"
    )
    return Question(sql, bound.parameters, ROWS_MAX, SECONDS_MAX)


def understood(rows: Iterable[Sequence[Any]], metric: Metric) -> tuple[Pair, list[Dimension]]:
    """The whole, and the dimensions, of what `values` brought."""
    found: dict[str, tuple[dict[str, Pair], Pair]] = {}
    for dimension, key, value, *numbers in rows:
        a, b, known_a, known_b = (SideSums(*(int(n) for n in numbers[at : at + 3])) for at in (0, 3, 6, 9))
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


def of_subset(subset: Subset, bound: Bound) -> str:
    """The condition that a row of it meets; the workspace is the caller's to ask for."""
    return f"({_between(subset.start_ms, subset.end_ms, bound)} AND {where(subset.asked, bound, WORKSPACE)})"


def _between(start_ms: int, end_ms: int, bound: Bound) -> str:
    start, end = (f"fromUnixTimestamp64Milli({bound.integer(at)})" for at in (start_ms, end_ms))
    return f"event_time >= {start} AND event_time < {end}"
