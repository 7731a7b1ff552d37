"""The subject `series`: a metric over time."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from pipeline.core.asking.language import Filter
from pipeline.core.asking.match import any_text
from pipeline.core.asking.numbers import KEYS
from pipeline.core.asking.pieces import points as points_of
from pipeline.core.asking.series import SERIES_MAX, SeriesAsked, values
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told
from schemas.rule import Metric

POINTS_MAX = 1000


class Series(msgspec.Struct, frozen=True):
    """One line. `key`: the model_id, device_id or class that it is about; null: all together."""

    key: str | None
    values: list[float | None]


class SeriesAnswer(msgspec.Struct, frozen=True):
    """A metric over time: `times` are the beginnings of the points, one value each; the largest series first.

    `source`: what was read. `left_out`: how many smaller series are not told.
    """

    metric: Metric
    by: str | None
    filter: str
    source: str
    step_s: int
    times: list[str]
    series: list[Series]
    left_out: int


@get(May.QUERY, "/series")
async def show_series(
    asked: Asked,
    about: About,
    metric: Annotated[Metric, Parameter(description="as in rules")],
    by: Annotated[str, Parameter(description="model (its versions), device or class")] = "",
    points: Annotated[int, Parameter(ge=1, le=POINTS_MAX, description="how many points at most")] = 120,
) -> SeriesAnswer:
    """Any metric of a rule over time, at the rollup that fits."""
    if by and by not in KEYS:
        raise Refused(400, "bad_by", f"by is one of {', '.join(KEYS)}")
    if by and metric is Metric.CLASS_DISTANCE:
        raise Refused(400, "bad_by", "class_distance is one series: name the model in the filter")
    if metric is Metric.CLASS_SHARE and by != "class":
        raise Refused(400, "bad_by", "class_share is told by class: say by=class; a class in the filter chooses")
    now_s = about.now_ms // 1000
    step_s, over = points_of(about.start_ms // 1000, -(-about.end_ms // 1000), points, now_s, about.kept)
    wanted = SeriesAsked(metric, about.filter, over, step_s, by)
    about.check(wanted.place)
    found = values(wanted, await asked.store.ask(wanted.question()), now_s)
    if metric is Metric.CLASS_SHARE:
        found = {name: line for name, line in found.items() if _is_chosen(name, about.filter)}
    lines = [Series(key if by else None, line) for key, line in found.items()]
    return SeriesAnswer(
        metric=metric,
        by=by or None,
        filter=str(about.filter),
        source=wanted.place.value + ("" if wanted.place.value == "inferences" else over.size.suffix),
        step_s=step_s,
        times=[told(point * 1000) for point in wanted.points],
        series=lines[:SERIES_MAX],
        left_out=max(0, len(lines) - SERIES_MAX),
    )


def _is_chosen(name: str, asked: Filter) -> bool:
    return all(any_text(term)(name) != term.negated for term in asked.terms if term.field == "class" and term.values)


ROUTES: Sequence[HTTPRouteHandler] = (show_series,)
