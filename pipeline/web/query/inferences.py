"""The subjects `inferences` and one inference: with boxes, and with the metadata that came later."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from pipeline.core.asking import inferences
from pipeline.core.asking.inferences import PAGE_MAX, After, Sort
from pipeline.core.asking.numbers import NumbersAt
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.cursors import cursor as cursor_of
from pipeline.web.query.cursors import place_in
from pipeline.web.query.moments import told

_HOUR_MS = 3_600_000
_WIDTHS_MS = (_HOUR_MS, 24 * _HOUR_MS)  # what is looked at first: a page is often in the newest hour of a month


class FoundDetection(msgspec.Struct, frozen=True, rename={"name": "class"}, omit_defaults=True):
    """As the event had it: pixels, (x, y) is the middle of the box."""

    name: str
    confidence: float
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    class_id: Any = None
    detection_id: Any = None
    tracker_id: Any = None
    points: Any = None
    keypoints: Any = None


class ImageFacts(msgspec.Struct, frozen=True):
    """What is known of the picture; null where nothing is."""

    width: int | None
    height: int | None
    url: str | None


class InferenceDetails(msgspec.Struct, frozen=True):
    """One inference. `metadata`: what the event said, and the last word of what came later (those are named)."""

    event_id: str
    event_time: str
    model_id: str
    device_id: str | None
    latency_ms: float | None
    predictions: list[FoundDetection]
    error: str | None
    image: ImageFacts
    metadata: dict[str, str]
    metadata_added: list[str]
    tags: list[str]
    source: str
    deployment: str
    server_version: str
    kafka_partition: int
    kafka_offset: int


class InferenceList(msgspec.Struct, frozen=True):
    """A page. `next`: the cursor of the next one; null: this was the last."""

    items: list[InferenceDetails]
    next: str | None = None


class InferenceTotal(msgspec.Struct, frozen=True):
    """How many inferences a filter finds, exactly."""

    total: int


Limit = Annotated[int, Parameter(ge=1, le=PAGE_MAX, description="rows a page")]


@get(May.QUERY, "/inferences")
async def list_inferences(
    asked: Asked,
    about: About,
    sort: Annotated[
        str, Parameter(description="time, latency or confidence (of the least sure); -: largest first")
    ] = "-time",
    limit: Limit = 50,
    cursor: Annotated[str, Parameter(description="`next` of the page before")] = "",
) -> InferenceList:
    """The inferences that a filter finds, in pages."""
    about.check(NumbersAt.ROWS)
    by = _sort(sort)
    question = f"{by.value} {about.filter}"
    start_ms, end_ms, after = about.start_ms, about.end_ms, None
    if cursor:  # goes on in the time that the first page was about
        start_ms, end_ms, *last = place_in(cursor, question, 5)
        after = After(*last)
    rows: list[tuple[Any, ...]] = []
    for span_ms in _spans(by, start_ms, end_ms, after):
        rows = await asked.store.ask(inferences.page(about.filter, span_ms, by, after, limit + 1))
        if len(rows) > limit:
            break
    *_, partition, offset, value = rows[:limit][-1] if rows else (0, 0, 0)
    following = cursor_of(question, start_ms, end_ms, value, partition, offset) if len(rows) > limit else None
    return InferenceList(await _told(asked, rows[:limit]), following)


@get(May.QUERY, "/inferences/total")
async def count_inferences(asked: Asked, about: About) -> InferenceTotal:
    """How many inferences a filter finds; apart from the page, which does not wait for it."""
    about.check(NumbersAt.ROWS)
    ((count,),) = await asked.store.ask(inferences.total(about.filter, (about.start_ms, about.end_ms)))
    return InferenceTotal(count)


@get(May.QUERY, "/inferences/{event_id:str}")
async def show_inference(asked: Asked, event_id: str) -> InferenceDetails:
    """One inference; the newest, where an id came several times."""
    if found := await _told(asked, await asked.store.ask(inferences.one(event_id))):
        return found[0]
    raise Refused(404, "not_found", f"there is no inference {event_id}; they are kept for a while only")


def _sort(text: str) -> Sort:
    try:
        return Sort(text)
    except ValueError:
        raise Refused(400, "bad_sort", f"sort is one of {', '.join(one.value for one in Sort)}") from None


def _spans(by: Sort, start_ms: int, end_ms: int, after: After | None) -> Sequence[tuple[int, int]]:
    """The stretches of time to look at until a page is full."""
    if not by.is_by_time:
        return [(start_ms, end_ms)]
    if by is Sort.NEWEST:
        end_ms = end_ms if after is None else min(end_ms, after.value + 1)
        narrow = [(end_ms - width, end_ms) for width in _WIDTHS_MS if end_ms - width > start_ms]
    else:
        start_ms = start_ms if after is None else max(start_ms, after.value)
        narrow = [(start_ms, start_ms + width) for width in _WIDTHS_MS if start_ms + width < end_ms]
    return [*narrow, (start_ms, end_ms)]


async def _told(asked: Asked, rows: Sequence[tuple[Any, ...]]) -> list[InferenceDetails]:
    """As answers, with what was added later."""
    later: dict[str, dict[str, str]] = {}
    if rows:
        for event_id, field, value in await asked.store.ask(inferences.added([row[0] for row in rows])):
            later.setdefault(event_id, {})[field] = value
    return [_inference(row, later.get(row[0], {})) for row in rows]


def _inference(row: tuple[Any, ...], later: Mapping[str, str]) -> InferenceDetails:
    event_id, time_ms, model_id, device_id, latency_us, *columns, extra = row[:12]
    error, width, height, url, metadata, tags, source, deployment, version, partition, offset = row[12:23]
    return InferenceDetails(
        event_id=event_id,
        event_time=told(time_ms),
        model_id=model_id,
        device_id=device_id or None,
        latency_ms=None if latency_us is None else latency_us / 1000,
        predictions=_detections(columns, extra),
        error=error or None,
        image=ImageFacts(width or None, height or None, url or None),
        metadata={**metadata, **later},
        metadata_added=sorted(later),
        tags=tags,
        source=source,
        deployment=deployment,
        server_version=version,
        kafka_partition=partition,
        kafka_offset=offset,
    )


def _detections(columns: Sequence[Sequence[Any]], extra: str) -> list[FoundDetection]:
    more = msgspec.json.decode(extra) if extra else [{}] * len(columns[0])
    return [
        FoundDetection(name, ppm / 1_000_000, *(None if math.isnan(side) else side for side in box), **given)
        for name, ppm, *box, given in zip(*columns, more, strict=True)
    ]


ROUTES: Sequence[HTTPRouteHandler] = (list_inferences, count_inferences, show_inference)
