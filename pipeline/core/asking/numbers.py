"""Numbers about many inferences as one SELECT: from windows where they can say it, else from the inferences themselves.

What is asked of detections (class, confidence) chooses detections, too: confidence and detections of `class:person`
are those of persons, whether windows of classes or rows are read. A percentile is the value of rank
ceil(percent * count / 100), within 1 % for latency and half a hundredth for confidence, as in the views *_stats.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pipeline.core.asking.language import Filter
from pipeline.core.asking.pieces import Kept, Piece, pieces
from pipeline.core.asking.question import WORKSPACE
from pipeline.core.asking.sql import Bound, chosen, where, window_where

KEYS = {"model": "model_id", "device": "device_id", "class": "class"}  # what numbers can be told apart by


class NumbersAt(Enum):
    """Where the answer comes from."""

    MODELS = "model_windows"
    CLASSES = "class_windows"
    ROWS = "inferences"


_FROM_BUCKETS = (
    "arrayElement(mapKeys(latency_map), arrayFirstIndex(rank -> rank >= intDiv(latencies * {percent} + 99, 100), "
    "arrayCumSum(mapValues(latency_map))))"
)
_MS = "if(latencies = 0, NULL, if({0} = -2147483648, 0, 2 * pow(1.01 / 0.99, {0}) / (1.01 / 0.99 + 1) / 1000))"
_BIN = (
    "if(detections = 0, NULL, least(arrayElement(mapKeys(confidence_map), arrayFirstIndex(rank -> rank >= "
    "intDiv(detections * {percent} + 99, 100), arrayCumSum(mapValues(confidence_map)))) * 10000 + 5000, 1000000) / 1e6)"
)
# name -> what of the inner SELECT it is made from, and how; of latency only the percentile: it depends on the place
NUMBERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "inferences": (("inferences",), "inferences"),
    "errors": (("errors",), "errors"),
    "empties": (("empties",), "empties"),
    "detections": (("detections",), "detections"),
    "latency_mean_ms": (("latencies", "latency_total"), "latency_total / nullIf(latencies, 0) / 1000"),
    "latency_p50_ms": (("latencies", "latency_map"), "50"),
    "latency_p95_ms": (("latencies", "latency_map"), "95"),
    "latency_p99_ms": (("latencies", "latency_map"), "99"),
    "confidence_mean": (("detections", "confidence_ppm"), "confidence_ppm / nullIf(detections, 0) / 1e6"),
    "confidence_p5": (("detections", "confidence_map"), _BIN.format(percent=5)),
    "confidence_p50": (("detections", "confidence_map"), _BIN.format(percent=50)),
    "devices": (("devices",), "devices"),
    "models": (("models",), "models"),
}
_OF_WINDOWS = {
    "inferences": "sum(inference_count)",
    "errors": "sum(error_count)",
    "empties": "sum(empty_count)",
    "detections": "sum(detection_count)",
    "latencies": "sum(latency_count)",
    "latency_total": "sum(latency_us_sum)",
    "latency_map": "sumMap(latency_histogram)",
    "confidence_ppm": "sum(confidence_ppm_sum)",
    "confidence_map": "sumMap(confidence_histogram)",
    "devices": "uniqExactIf(device_id, device_id != '')",
    "models": "uniqExact(model_id)",
}
_OF_ROWS = {
    "inferences": "count()",
    "errors": "countIf(error != '')",
    "empties": "countIf(empty(`detections.class`))",
    "detections": "sum(length(chosen))",
    "latencies": "count(latency_us)",
    "latency_total": "ifNull(sum(latency_us), 0)",
    "latency_map": "quantilesDD(0.01, 0.5, 0.95, 0.99)(latency_us)",  # no map, but what comes of it
    "confidence_ppm": "sum(arraySum(chosen))",
    "confidence_map": "CAST(sumMap(arrayMap(p -> toInt32(intDiv(p, 10000)), chosen), "
    "arrayMap(p -> toUInt64(1), chosen)), 'Map(Int32, UInt64)')",
    "devices": "uniqExactIf(device_id, device_id != '')",
    "models": "uniqExact(model_id)",
}
_NOT_OF_CLASSES = {"errors", "empties", "latencies", "latency_total", "latency_map", "devices"}
_ROW_LEVELS = {"50": 1, "95": 2, "99": 3}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of time in milliseconds, half-open, and what is needed to know where it is kept."""

    start_ms: int
    end_ms: int
    now_ms: int
    kept: Kept

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """As windows."""
        return pieces(self.start_ms // 1000, -(-self.end_ms // 1000), self.now_ms // 1000, self.kept)


def place(asked: Filter, keys: Iterable[str], numbers: Iterable[str]) -> NumbersAt:
    """Where these numbers, told apart by `keys`, can be asked."""
    fields, told = {term.field for term in asked.terms}, set(keys)
    if (fields | told) <= {"model", "device"}:
        return NumbersAt.MODELS
    parts = {part for number in numbers for part in NUMBERS[number][0]}
    of_class = [term for term in asked.terms if term.field == "class"]
    is_one = not any(term.negated or not term.values for term in of_class) and len(of_class) < 2
    # An inference with two of the classes would count twice.
    counts_once = "inferences" not in parts or "class" in told or _is_single(asked)
    if (fields | told) <= {"model", "class"} and is_one and counts_once and not parts & _NOT_OF_CLASSES:
        return NumbersAt.CLASSES
    return NumbersAt.ROWS


def _is_single(asked: Filter) -> bool:
    of_class = [term for term in asked.terms if term.field == "class"]
    return len(of_class) == 1 and len(of_class[0].values) == 1 and not getattr(of_class[0].values[0], "wild", True)


def select(
    asked: Filter,
    over: Stretch | Piece,
    numbers: Sequence[str],
    bound: Bound,
    keys: Mapping[str, str],
    at: NumbersAt | None = None,
) -> str:
    """The keys (name -> SQL of the source's columns) and the numbers, a row for each value of the keys."""
    at = at or place(asked, (name for name, column in KEYS.items() if column in keys.values()), numbers)
    parts = list(dict.fromkeys(part for number in numbers for part in NUMBERS[number][0]))
    how = _OF_ROWS if at is NumbersAt.ROWS else _OF_WINDOWS
    inner = [f"{column} AS {name}" for name, column in keys.items()] + [f"{how[part]} AS {part}" for part in parts]
    source = (
        _rows(asked, over, bound, "class" in keys.values())
        if at is NumbersAt.ROWS
        else _windows(at, asked, over, bound)
    )
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    outer = [*keys, *(f"{_made(number, at)} AS {number}_" for number in numbers)]
    return f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM ({source}){grouped})"


def _made(number: str, at: NumbersAt) -> str:
    how = NUMBERS[number][1]
    if how not in _ROW_LEVELS:
        return how
    if at is NumbersAt.ROWS:
        return f"if(latencies = 0, NULL, latency_map[{_ROW_LEVELS[how]}] / 1000)"
    return _MS.format(_FROM_BUCKETS.format(percent=how))


def _windows(at: NumbersAt, asked: Filter, over: Stretch | Piece, bound: Bound) -> str:
    condition = window_where(asked, bound)
    parts = (over,) if isinstance(over, Piece) else over.pieces
    texts = [
        f"SELECT * FROM {at.value}{part.size.suffix} WHERE workspace = {WORKSPACE} AND "
        f"window_start >= toDateTime({part.start_s}, 'UTC') "
        f"AND window_start < toDateTime({part.end_s}, 'UTC') AND {condition}"
        for part in parts
    ]
    return " UNION ALL ".join(texts) or f"SELECT * FROM {at.value} WHERE 0"


def _rows(asked: Filter, over: Stretch | Piece, bound: Bound, by_class: bool) -> str:
    start_ms, end_ms = (
        (over.start_s * 1000, over.end_s * 1000) if isinstance(over, Piece) else (over.start_ms, over.end_ms)
    )
    wanted = chosen(asked, bound)
    classes = ", arrayJoin(arrayDistinct(`detections.class`)) AS class" if by_class else ""
    own = f"({wanted}) AND c = class" if by_class else wanted
    picked = (
        "`detections.confidence_ppm`"
        if own == "1"
        else f"arrayFilter((p, c) -> {own}, `detections.confidence_ppm`, `detections.class`)"
    )
    some = " AND notEmpty(chosen)" if by_class else ""
    return (
        f"SELECT model_id, device_id, error, latency_us, event_time, `detections.class`{classes}, {picked} AS chosen "
        f"FROM inferences WHERE workspace = {WORKSPACE} AND {in_time(start_ms, end_ms)} "
        f"AND {where(asked, bound, WORKSPACE)}{some}"
    )


def in_time(start_ms: int, end_ms: int) -> str:
    """The condition on event_time."""
    return f"event_time >= {moment(start_ms)} AND event_time < {moment(end_ms)}"


def moment(at_ms: int) -> str:
    """A time in SQL."""
    return f"fromUnixTimestamp64Milli({at_ms}, 'UTC')"
