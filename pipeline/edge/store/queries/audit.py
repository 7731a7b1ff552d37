"""The audit's questions to ClickHouse: each compares two sides key by key and returns only the keys that differ.

Sides are compared by a hash of all columns. Of a histogram that is the sum of its entries' hashes, which needs no map:
merging the maps of 2 million events takes 5 s, this 0.1 s.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.audit import latency_table
from pipeline.core.span import Span
from pipeline.edge.store.client import ClickHouse
from schemas.windows import CLASSES, MODELS, SIZES, WINDOW_MS, WINDOW_S, Measure, Summary, WindowSize, WindowTable

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


_Said = Mapping[tuple[Measure, Summary], str]  # what a column says of a measure, as an aggregate of single events


def _of_numbers(measure: Measure, value: str, suffix: str = "", bins: str = "") -> dict[tuple[Measure, Summary], str]:
    """Aggregates of a value; or, with the suffix `Array`, of an array of them. `bins`: the buckets, an array."""
    square = f"arrayMap(v -> toUInt128(v) * v, {value})" if suffix else f"toUInt128({value}) * {value}"
    return {
        (measure, Summary.SUM): f"toUInt64(ifNull(sum{suffix}({value}), 0))",
        (measure, Summary.SQUARES): f"toUInt128(ifNull(sum{suffix}({square}), 0))",
        (measure, Summary.MIN): _optional(f"minOrNull{suffix}({value})"),
        (measure, Summary.MAX): _optional(f"maxOrNull{suffix}({value})"),
        (measure, Summary.HISTOGRAM): f"sumMap({bins}, arrayMap(b -> toUInt64(1), {bins}))",
    }


_LATENCY_BINS = f"if(isNull(latency_us), [], [{_LATENCY_BUCKET}])"
_CONFIDENCE_BINS = f"arrayMap(c -> {_BIN.format(ppm='c')}, {_CONFIDENCES})"
_OF_EVENTS: _Said = {
    (Measure.INFERENCE, Summary.COUNT): "count()",
    (Measure.ERROR, Summary.COUNT): "countIf(error != '')",
    (Measure.EMPTY, Summary.COUNT): "countIf(empty(`detections.class`))",
    (Measure.LATENCY, Summary.COUNT): "count(latency_us)",
    (Measure.CONFIDENCE, Summary.COUNT): "sum(length(`detections.class`))",
    **_of_numbers(Measure.LATENCY, "latency_us", bins=_LATENCY_BINS),
    **_of_numbers(Measure.CONFIDENCE, _CONFIDENCES, "Array", _CONFIDENCE_BINS),
}
_DIGESTS_OF_EVENTS: _Said = {
    **_OF_EVENTS,
    (Measure.LATENCY, Summary.HISTOGRAM): f"sumIf(sipHash64({_LATENCY_BUCKET}), isNotNull(latency_us))",
    (Measure.CONFIDENCE, Summary.HISTOGRAM): f"sum(arraySum(b -> sipHash64(b), {_CONFIDENCE_BINS}))",
}
# `nth` is 1 at a class's first detection in an inference, so it counts inferences.
_DETECTIONS = (
    f"inferences ARRAY JOIN `detections.class` AS class, {_CONFIDENCES} AS ppm, "
    "arrayEnumerateUniq(`detections.class`) AS nth"
)
_DETECTION_BIN = _BIN.format(ppm="ppm")
_OF_DETECTIONS: _Said = {
    (Measure.INFERENCE, Summary.COUNT): "countIf(nth = 1)",
    (Measure.CONFIDENCE, Summary.COUNT): "count()",
    **_of_numbers(Measure.CONFIDENCE, "ppm", bins=f"[{_DETECTION_BIN}]"),
}
_DIGESTS_OF_DETECTIONS: _Said = {
    **_OF_DETECTIONS,
    (Measure.CONFIDENCE, Summary.HISTOGRAM): f"sum(sipHash64({_DETECTION_BIN}))",
}


def _events(table: WindowTable, source: str, said: _Said, digests: _Said) -> Side:
    """What the windows of a table must say, from single events."""
    values, hashed = (tuple(of[c.measure, c.summary] for c in table.columns) for of in (said, digests))
    return Side(source, "event_time", _ROWS_WINDOW, values, hashed, is_events=True)


def _windows(table: WindowTable, suffix: str = "", window: str = "window_start") -> Side:
    """What the windows of a table say."""
    values, digests = [], []
    for column in table.columns:
        name, value = column.name, f"{column.summary.merge}({column.name})"
        if column.summary is Summary.HISTOGRAM:
            values.append(f"(mapKeys({value}), mapValues({value}))")
            digests.append(f"sum(arraySum((k, n) -> n * sipHash64(k), mapKeys({name}), mapValues({name})))")
        else:
            values.append(_optional(value) if column.is_optional else value)
            digests.append(values[-1])
    return Side(table.name + suffix, "window_start", window, tuple(values), tuple(digests))


def _comparison(table: WindowTable, size: WindowSize, expected: Side) -> Comparison:
    columns, actual = tuple(column.name for column in table.columns), _windows(table, size.suffix)
    return Comparison(actual.source, size.seconds, table.keys, columns, expected, actual)


def _rollups(table: WindowTable) -> Iterator[Comparison]:
    for size in SIZES[1:]:
        floor = f"toDateTime(intDiv(toUnixTimestamp(window_start), {size.seconds}) * {size.seconds}, 'UTC')"
        yield _comparison(table, size, _windows(table, window=floor))


WINDOWS = (
    _comparison(MODELS, SIZES[0], _events(MODELS, "inferences", _OF_EVENTS, _DIGESTS_OF_EVENTS)),
    _comparison(CLASSES, SIZES[0], _events(CLASSES, _DETECTIONS, _OF_DETECTIONS, _DIGESTS_OF_DETECTIONS)),
)
ROLLUPS = (*_rollups(MODELS), *_rollups(CLASSES))


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
