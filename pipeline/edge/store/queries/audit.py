"""The audit's questions to ClickHouse: each compares two sides key by key and returns only the keys that differ.

Sides are compared by a hash of all columns. Of a histogram that is the sum of its entries' hashes, which needs no map:
merging the maps of 2 million events takes 5 s, this 0.1 s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.audit import latency_table
from pipeline.core.span import Span
from pipeline.edge.store.client import ClickHouse
from schemas.windows import SIZES, WINDOW_MS, WINDOW_S

KEYS_MAX = 2000  # differing keys that are followed one by one; with more the whole slice is asked again

# Memory stays bounded by spilling; the text of a question may hold KEYS_MAX keys.
LIMITS = {
    "max_bytes_before_external_group_by": 400_000_000,
    "max_bytes_before_external_sort": 400_000_000,
    "max_query_size": 4_000_000,
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of two sources that must say the same."""

    source: str
    time: str  # the column that a range of time is asked by
    window: str  # a row's window, as DateTime
    values: tuple[str, ...]  # aggregates, in the order of the comparison's columns
    digests: tuple[str, ...]  # the same, but a histogram as one number
    is_events: bool = False  # single events, of which only those that a cut has taken are due


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides that must agree in every column of every key."""

    name: str
    window_s: int
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    expected: Side
    actual: Side


@dataclass(frozen=True, slots=True)
class Key:
    """A key that differs: its names, its window, and a hash by which it is asked again."""

    names: tuple[str, ...]
    window_s: int
    hash: int


_MODEL_KEYS = ("workspace", "model_id", "device_id")
_MODEL_COLUMNS = (
    "inference_count", "error_count", "empty_count", "detection_count", "latency_count", "latency_us_sum",
    "latency_us_min", "latency_us_max", "latency_histogram", "confidence_ppm_sum", "confidence_ppm_min",
    "confidence_ppm_max", "confidence_histogram",
)  # fmt: skip
_CLASS_KEYS = ("workspace", "model_id", "class")
_CLASS_COLUMNS = (
    "detection_count", "inference_count", "confidence_ppm_sum", "confidence_ppm_min", "confidence_ppm_max",
    "confidence_histogram",
)  # fmt: skip

_LEAST, _BUCKETS = latency_table()
# roundDown is a search in a sorted list of integers: exact, where log() may be an ulp off.
_LATENCY_BUCKET = (
    f"transform(roundDown(assumeNotNull(latency_us), {_LEAST}), {_LEAST}, "
    f"CAST({_BUCKETS} AS Array(Int32)), toInt32(-1))"
)
_CONFIDENCES = "`detections.confidence_ppm`"
_BIN = "toInt32(intDiv({ppm}, 10000))"
_ROWS_WINDOW = f"toDateTime(intDiv(toUnixTimestamp64Milli(event_time), {WINDOW_MS}) * {WINDOW_S}, 'UTC')"


def _optional(aggregate: str) -> str:
    """NULL as -1, so that nothing is not 0, and both sides have one type."""
    return f"ifNull(toInt64({aggregate}), -1)"


def _model_rows() -> Side:
    bins = f"arrayMap(c -> {_BIN.format(ppm='c')}, {_CONFIDENCES})"
    values = {
        "inference_count": "count()",
        "error_count": "countIf(error != '')",
        "empty_count": "countIf(empty(`detections.class`))",
        "detection_count": "sum(length(`detections.class`))",
        "latency_count": "count(latency_us)",
        "latency_us_sum": "toUInt64(ifNull(sum(latency_us), 0))",
        "latency_us_min": _optional("min(latency_us)"),
        "latency_us_max": _optional("max(latency_us)"),
        "latency_histogram": f"sumMapIf([{_LATENCY_BUCKET}], [toUInt64(1)], isNotNull(latency_us))",
        "confidence_ppm_sum": f"sumArray({_CONFIDENCES})",
        "confidence_ppm_min": _optional(f"minOrNullArray({_CONFIDENCES})"),
        "confidence_ppm_max": _optional(f"maxOrNullArray({_CONFIDENCES})"),
        "confidence_histogram": f"sumMap({bins}, arrayMap(c -> toUInt64(1), {_CONFIDENCES}))",
    }
    digests = values | {
        "latency_histogram": f"sumIf(sipHash64({_LATENCY_BUCKET}), isNotNull(latency_us))",
        "confidence_histogram": f"sum(arraySum(b -> sipHash64(b), {bins}))",
    }
    return _side("inferences", "event_time", _ROWS_WINDOW, _MODEL_COLUMNS, values, digests)


def _class_rows() -> Side:
    # `nth` is 1 at a class's first detection in an inference, so it counts inferences.
    source = (
        f"inferences ARRAY JOIN `detections.class` AS class, {_CONFIDENCES} AS ppm, "
        "arrayEnumerateUniq(`detections.class`) AS nth"
    )
    bin_ = _BIN.format(ppm="ppm")
    values = {
        "detection_count": "count()",
        "inference_count": "countIf(nth = 1)",
        "confidence_ppm_sum": "sum(ppm)",
        "confidence_ppm_min": _optional("min(ppm)"),
        "confidence_ppm_max": _optional("max(ppm)"),
        "confidence_histogram": f"sumMap([{bin_}], [toUInt64(1)])",
    }
    digests = values | {"confidence_histogram": f"sum(sipHash64({bin_}))"}
    return _side(source, "event_time", _ROWS_WINDOW, _CLASS_COLUMNS, values, digests)


def _windows(table: str, columns: Sequence[str], window: str = "window_start") -> Side:
    values, digests = {}, {}
    for column in columns:
        if column.endswith("histogram"):
            values[column] = f"(mapKeys(sumMap({column})), mapValues(sumMap({column})))"
            entries = f"mapKeys({column}), mapValues({column})"
            digests[column] = f"sum(arraySum((k, n) -> n * sipHash64(k), {entries}))"
        elif column.endswith(("_min", "_max")):
            values[column] = digests[column] = _optional(f"{column[-3:]}({column})")
        else:
            values[column] = digests[column] = f"sum({column})"
    return _side(table, "window_start", window, columns, values, digests)


def _side(
    source: str,
    time: str,
    window: str,
    columns: Sequence[str],
    values: Mapping[str, str],
    digests: Mapping[str, str],
) -> Side:
    return Side(
        source,
        time,
        window,
        values=tuple(values[c] for c in columns),
        digests=tuple(digests[c] for c in columns),
        is_events=time == "event_time",
    )


def _rollups(table: str, keys: tuple[str, ...], columns: tuple[str, ...]) -> list[Comparison]:
    out = []
    for size in SIZES[1:]:
        floor = f"toDateTime(intDiv(toUnixTimestamp(window_start), {size.seconds}) * {size.seconds}, 'UTC')"
        name, sums = table + size.suffix, _windows(table, columns, floor)
        out.append(Comparison(name, size.seconds, keys, columns, sums, _windows(name, columns)))
    return out


WINDOWS = (
    Comparison(
        "model_windows", WINDOW_S, _MODEL_KEYS, _MODEL_COLUMNS, _model_rows(), _windows("model_windows", _MODEL_COLUMNS)
    ),
    Comparison(
        "class_windows", WINDOW_S, _CLASS_KEYS, _CLASS_COLUMNS, _class_rows(), _windows("class_windows", _CLASS_COLUMNS)
    ),
)
ROLLUPS = (
    *_rollups("model_windows", _MODEL_KEYS, _MODEL_COLUMNS),
    *_rollups("class_windows", _CLASS_KEYS, _CLASS_COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Due:
    """The events that the windows must hold: by partition, those of offsets that the aggregator's cuts have `taken`.

    Later ones may be on their way, as corrections. Events older than `not_before_ms` are of an earlier topic.
    """

    taken: Mapping[int, int]
    not_before_ms: int

    def _condition(self) -> str:
        partitions, offsets = list(self.taken), list(self.taken.values())
        return (
            f"(kafka_offset < transform(kafka_partition, {partitions}, CAST({offsets} AS Array(UInt64)), toUInt64(0)) "
            f"OR kafka_time < fromUnixTimestamp64Milli(toInt64({self.not_before_ms}), 'UTC'))"
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """How many keys there are, how many of them differ, and the first KEYS_MAX + 1 of those."""

    count: int
    differing: int
    keys: list[Key]


def _select(of: Comparison, side: Side, answer: str, span: Span, due: Due, only: Sequence[Key]) -> str:
    keys = ", ".join(of.keys)
    where, having = "", ""
    if side.is_events:
        where = f"AND {due._condition()}"
    if only:
        windows = ", ".join(f"toDateTime({w}, 'UTC')" for w in sorted({key.window_s for key in only}))
        where += f" AND w IN ({windows})"
        having = f"HAVING sipHash64({keys}, w) IN ({', '.join(str(key.hash) for key in only)})"
    return (
        f"SELECT {keys}, {side.window} AS w, {answer} FROM {side.source} "
        f"WHERE {side.time} >= toDateTime({span.start}, 'UTC') AND {side.time} < toDateTime({span.end}, 'UTC') {where} "
        f"GROUP BY {keys}, w {having}"
    )


async def compare(store: ClickHouse, of: Comparison, span: Span, due: Due, only: Sequence[Key] = ()) -> Compared:
    """The keys of a stretch of time, or only some of them."""
    keys = ", ".join(of.keys)
    sides = " UNION ALL ".join(
        _select(of, side, f"sipHash64({', '.join(side.digests)}) AS digest", span, due, only)
        for side in (of.expected, of.actual)
    )
    ((count, differing, found),) = await store.ask(
        f"SELECT count(), countIf(differs), groupArrayIf({KEYS_MAX + 1})(({keys}, toUnixTimestamp(w), hash), differs) "
        f"FROM (SELECT {keys}, w, sipHash64({keys}, w) AS hash, count() != 2 OR min(digest) != max(digest) AS differs "
        f"FROM ({sides}) GROUP BY {keys}, w)"
    )
    return Compared(count, differing, [Key(tuple(names), window_s, hash_) for *names, window_s, hash_ in found])


async def details(
    store: ClickHouse, of: Comparison, span: Span, due: Due, only: Sequence[Key]
) -> dict[tuple[int, int], list[str]]:
    """The values of some keys as text, by (hash, side); side 0 is the expected one."""
    keys = ", ".join(of.keys)
    sides = []
    for number, side in enumerate((of.expected, of.actual)):
        texts = ", ".join(f"toString({value})" for value in side.values)
        sides.append(_select(of, side, f"{number} AS side, [{texts}] AS answer", span, due, only))
    rows = await store.ask(f"SELECT sipHash64({keys}, w), side, answer FROM ({' UNION ALL '.join(sides)})")
    return {(hash_, side): values for hash_, side, values in rows}
