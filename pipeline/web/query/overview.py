"""The subject `overview`: headline numbers, those of the time before, and the change."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from pipeline.core.asking.numbers import NumbersAt, Stretch, place, select
from pipeline.core.asking.question import Question
from pipeline.core.asking.sql import Bound
from pipeline.web.access.principal import May
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told

COUNTS = ("inferences", "errors", "empties", "detections", "models", "devices")
MEANS = ("latency_mean_ms", "latency_p50_ms", "latency_p95_ms", "confidence_mean")


class Headline(msgspec.Struct, frozen=True):
    """A number, what it was in the time before, and the change in percent; null where there is nothing to tell."""

    value: float | None
    previous: float | None
    change_percent: float | None


class Overview(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """Of one range of time. `source`: the windows or the inferences that were read."""

    start: str
    end: str
    filter: str
    source: str
    inferences: Headline
    detections: Headline
    models: Headline
    devices: Headline
    error_rate: Headline
    empty_rate: Headline
    latency_mean_ms: Headline
    latency_p50_ms: Headline
    latency_p95_ms: Headline
    confidence_mean: Headline


@get(May.QUERY, "/overview")
async def show_overview(asked: Asked, about: About) -> Overview:
    """Headline numbers, and how they have changed since the time before, of the same length."""
    at = place(about.filter, (), (*COUNTS, *MEANS))
    about.check(at)
    is_known = about.are_kept(about.before.start_ms, at)
    stretches = (about.over, about.before) if is_known else (about.over,)
    answers = await asked.store.ask_all(*(_question(about, over, at) for over in stretches))
    now, before = (dict(zip((*COUNTS, *MEANS), answer[0], strict=True)) for answer in (*answers, answers[0])[:2])
    now, before = _rated(now), _rated(before) if is_known else {}
    names = [name for name in Overview.__struct_fields__ if name not in ("start", "end", "filter", "source")]
    return Overview(
        told(about.start_ms),
        told(about.end_ms),
        str(about.filter),
        at.value,
        **{name: headline(now.get(name), before.get(name)) for name in names},
    )


def headline(value: float | None, previous: float | None) -> Headline:
    """With its change."""
    change = None if value is None or not previous else round(100 * (value / previous - 1), 2)
    return Headline(value, previous, change)


def _question(about: About, over: Stretch, at: NumbersAt) -> Question:
    bound = Bound()
    text = select(about.filter, over, (*COUNTS, *MEANS), bound, {}, at)
    return Question(text, bound.parameters)


def _rated(numbers: dict[str, Any]) -> dict[str, Any]:
    """With rates in place of counts that say little by themselves."""
    count = numbers["inferences"]
    return numbers | {
        "error_rate": numbers["errors"] / count if count else None,
        "empty_rate": numbers["empties"] / count if count else None,
    }


ROUTES: Sequence[HTTPRouteHandler] = (show_overview,)
