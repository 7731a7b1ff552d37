"""The subject `compare`: what changed between two sides, and which dimension makes the difference."""

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec
from litestar.handlers import HTTPRouteHandler

from pipeline.core.asking.changed import questions
from pipeline.core.asking.changed.explanation import COUNTED, Changed, Lot, ValueChange, Weight, explain
from pipeline.core.asking.changed.questions import VALUES_MAX, Sides, Subset
from pipeline.core.asking.language import METADATA, Filter, Term, Value, parse
from pipeline.core.asking.numbers import NumbersAt
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import asked_ms, told
from schemas.rule import Metric


class ComparedMetric(Enum):
    """What may be compared."""

    INFERENCE_COUNT = Metric.INFERENCE_COUNT.value
    CONFIDENCE_MEAN = Metric.CONFIDENCE_MEAN.value
    LATENCY_MEAN_MS = Metric.LATENCY_MEAN_MS.value
    LATENCY_P95_MS = Metric.LATENCY_P95_MS.value
    ERROR_RATE = Metric.ERROR_RATE.value
    EMPTY_RATE = Metric.EMPTY_RATE.value


class Against(Enum):
    """What b is compared with, if nothing else is said of a."""

    BEFORE = "before"  # the same length of time, right before it
    REST = "rest"  # all that it is taken from


_SAID = {
    Weight.DIFFERENT: "b differs from a",
    Weight.SAME: "the difference is within the noise of so few or so unequal observations",
    Weight.TOO_FEW: "a side has too few observations to say anything",
    Weight.EMPTY: "a side has nothing to compare",
}


class ComparedSide(msgspec.Struct, frozen=True):
    """One side: what it is, how much was observed, what it measures."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    filter: str
    rest: bool  # all of it that is not b
    count: int  # of inferences, detections or known latencies: what the metric is about
    value: float | None


class ComparedValue(msgspec.Struct, frozen=True):
    """One value of a dimension. `filter` leads to its inferences, where a filter can say it."""

    kind: str  # value, absent or other
    value: str | None
    filter: str | None
    a_count: int
    b_count: int
    a: float | None
    b: float | None
    contribution: float  # to the difference; those of a dimension that does not overlap add up to it
    mix: float  # of it, by being more or less frequent
    rate: float  # of it, by measuring otherwise
    excess: float  # beyond its part of the traffic and beyond noise


class ComparedDimension(msgspec.Struct, frozen=True):
    """How much it explains: 0 nothing, about 1 all of it, more where its values pull both ways."""

    dimension: str
    score: float
    overlapping: bool
    values: list[ComparedValue]


class LeftOut(msgspec.Struct, frozen=True):
    """A key of metadata that has too many values to be a dimension."""

    dimension: str
    values: int  # about so many


class WhatChanged(msgspec.Struct, frozen=True):
    """What changed."""

    metric: str
    verdict: str  # different, same, too_few or empty
    message: str
    measured: str  # what `value`, `difference` and contributions are of
    looked_at_every: int  # 1: at all; else only one in so many was looked at, and counted
    a: ComparedSide
    b: ComparedSide
    difference: float | None
    noise: float | None
    dimensions: list[ComparedDimension]
    left_out: list[LeftOut]


@get(May.QUERY, "/compare")
async def compare(
    asked: Asked,
    about: About,
    metric: ComparedMetric = ComparedMetric.INFERENCE_COUNT,
    against: Against | None = None,
    a_filter: str = "",
    a_from: str = "",
    a_to: str = "",
    b_filter: str = "",
    b_from: str = "",
    b_to: str = "",
) -> WhatChanged:
    """What changed between a and b, and what makes the difference."""
    about.check(NumbersAt.ROWS)
    common = Subset(about.start_ms, about.end_ms, about.filter)
    b = _subset(about, "b", b_filter, b_from, b_to)
    a: Subset | None = None
    if a_filter or a_from or a_to:
        a = _subset(about, "a", a_filter, a_from, a_to)
    elif against is Against.BEFORE or (against is None and not b_filter):
        a = Subset(max(0, 2 * b.start_ms - b.end_ms), b.start_ms, b.asked)
    if a is None and not b_filter and (b.start_ms, b.end_ms) == (common.start_ms, common.end_ms):
        raise Refused(400, "no_rest", "b is all there is: say what of it by b_filter, b_from or b_to")
    return await _compared(asked, Metric(metric.value), Sides(common, a, b))


def _subset(about: About, side: str, filter_: str, start: str, end: str) -> Subset:
    """What is said of a side, and else what both are taken from."""
    start_ms = asked_ms(f"{side}_from", start) if start else about.start_ms
    end_ms = asked_ms(f"{side}_to", end) if end else about.end_ms
    if start_ms >= end_ms:
        raise Refused(400, "bad_time", f"{side}_from must be before {side}_to")
    return Subset(start_ms, end_ms, parse(filter_))


async def _compared(asked: Asked, metric: Metric, sides: Sides) -> WhatChanged:
    ((size,),) = await asked.store.ask(questions.size(sides))
    sides = questions.of_many(sides, size)
    found = await asked.store.ask(questions.overview(sides))
    keys = {key: count for is_whole, key, count, _ in found if not is_whole}
    slow_us = next((p95 for is_whole, *_, p95 in found if is_whole), None) or 0.0
    ranked = [key for key, count in keys.items() if count <= VALUES_MAX]
    rows = await asked.store.ask(questions.values(sides, metric, ranked, slow_us))
    whole, dimensions = questions.understood(rows, metric)
    changed = explain(metric, whole, dimensions, sides.scale_a, sides.every)
    return WhatChanged(
        metric.value,
        changed.weight.value,
        _SAID[changed.weight],
        _measured(metric, sides, slow_us),
        sides.every,
        _side(sides.a or sides.common, sides.a is None, changed.a_count, changed.a),
        _side(sides.b, False, changed.b_count, changed.b),
        changed.difference,
        changed.noise,
        _dimensions(changed),
        [LeftOut(f"{METADATA}.{key}", count) for key, count in keys.items() if count > VALUES_MAX],
    )


def _measured(metric: Metric, sides: Sides, slow_us: float) -> str:
    if metric is Metric.LATENCY_P95_MS:
        return f"share of inferences slower than {slow_us / 1000:.6g} ms, the 95th percentile of a"
    if metric in COUNTED and sides.scale_a != sides.every:
        return f"{metric.value}; a's times {sides.scale_a / sides.every:.6g}, as b is longer or shorter"
    name: str = metric.value
    return name


def _side(of: Subset, rest: bool, count: int, value: float | None) -> ComparedSide:
    return ComparedSide(told(of.start_ms), told(of.end_ms), str(of.asked), rest, count, value)


def _dimensions(changed: Changed) -> list[ComparedDimension]:
    return [
        ComparedDimension(one.name, one.score, one.overlapping, [*_values(one.name, one.values)])
        for one in changed.dimensions
    ]


def _values(name: str, values: Iterable[ValueChange]) -> Iterable[ComparedValue]:
    for one in values:
        term = _term(name, one)
        yield ComparedValue(
            one.lot.value,
            one.value if one.lot is Lot.VALUE else None,
            str(Filter((term,))) if term else None,
            one.a_count,
            one.b_count,
            one.a,
            one.b,
            one.contribution,
            one.mix,
            one.rate,
            one.excess,
        )


def _term(dimension: str, one: ValueChange) -> Term | None:
    """What of the filter language leads to it."""
    field, _, key = dimension.partition(".")
    if one.lot is Lot.OTHER or (field == METADATA and not key):
        return None
    if one.lot is Lot.VALUE:
        return Term(field, (Value(one.value),), key)
    match field:
        case "metadata":
            return Term(field, (), key, negated=True)
        case "class":
            return Term("detection", negated=True)
        case "tag":
            return Term(field, (Value("*", True),), negated=True)
    return Term(field, (Value(""),))


ROUTES: Sequence[HTTPRouteHandler] = (compare,)
