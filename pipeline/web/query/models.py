"""The subjects `models`, one model, and `classes`: which there are, and how they do."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from pipeline.core.asking import catalogue
from pipeline.core.asking.language import Filter, Term, Value
from pipeline.core.asking.numbers import NumbersAt, Stretch, place, select
from pipeline.core.asking.question import KEYS_MAX, Question
from pipeline.core.asking.sql import Bound
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told

NUMBERS = (
    "inferences", "errors", "empties", "detections", "devices",
    "latency_mean_ms", "latency_p50_ms", "latency_p95_ms", "confidence_mean",
)  # fmt: skip
CLASS_NUMBERS = ("detections", "inferences", "confidence_mean", "confidence_p5", "confidence_p50")
CLASSES_MAX = 500


class ModelSummary(msgspec.Struct, frozen=True):
    """One model, or one version of it, over the range of time; what cannot be said of it is null."""

    model_id: str
    name: str
    version: str
    first_seen: str | None
    last_seen: str | None
    inferences: int
    detections: int
    devices: int
    error_rate: float | None
    empty_rate: float | None
    latency_mean_ms: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    confidence_mean: float | None


class ModelList(msgspec.Struct, frozen=True):
    """All models, those seen last first, also those that did nothing in the range; there are no pages of them.

    `left_out`: how many are not told, of more than a thousand.
    """

    items: list[ModelSummary]
    left_out: int = 0
    next: str | None = None


class ClassSummary(msgspec.Struct, frozen=True, rename={"name": "class"}):
    """One class. `share`: of all detections; `share_before`: in the time before, of the same length."""

    name: str
    detections: int
    inferences: int
    share: float
    share_before: float | None
    share_change: float | None
    confidence_mean: float | None
    confidence_p5: float | None
    confidence_p50: float | None


class ClassCounts(msgspec.Struct, frozen=True):
    """The most frequent first. `detections`: of all classes together; `left_out`: how many classes are not told."""

    items: list[ClassSummary]
    detections: int
    left_out: int = 0
    next: str | None = None


class ModelDetails(msgspec.Struct, frozen=True):
    """A model: its versions (one, where the version was asked), and the classes of them all."""

    name: str
    versions: list[ModelSummary]
    classes: ClassCounts


@get(May.QUERY, "/models")
async def list_models(asked: Asked, about: About) -> ModelList:
    """The models of a workspace, and how they do."""
    return ModelList(*await _summaries(asked, about, about.filter))


@get(May.QUERY, ["/models/{model_id:str}", "/models/{model_id:str}/{version:str}"])
async def show_model(asked: Asked, about: About, model_id: str, version: str = "") -> ModelDetails:
    """One model: `helmets` with all its versions, `helmets/3` alone."""
    whole = f"{model_id}/{version}" if version else model_id
    narrowed = about.filter.also(Term("model", (Value(whole),)))
    async with asyncio.TaskGroup() as group:
        versions = group.create_task(_summaries(asked, about, narrowed))
        classes = group.create_task(_classes(asked, about, narrowed))
    found, _ = versions.result()
    if not found:
        raise Refused(404, "not_found", f"there is no model {whole}")
    return ModelDetails(found[0].name, found, classes.result())


@get(May.QUERY, "/classes")
async def list_classes(asked: Asked, about: About) -> ClassCounts:
    """The classes that were seen: how often, how surely, and what has changed."""
    return await _classes(asked, about, about.filter)


async def _summaries(asked: Asked, about: About, wanted: Filter) -> tuple[list[ModelSummary], int]:
    """And how many are left out."""
    at = place(wanted, ("model",), NUMBERS)
    about.check(at)
    bound = Bound()
    text = select(wanted, about.over, NUMBERS, bound, {"model": "model_id"}, at)
    known = Filter(tuple(term for term in wanted.terms if term.field in ("model", "device")))
    there, rows = await asked.store.ask_all(catalogue.models(known), Question(text, bound.parameters, KEYS_MAX))
    numbers = {row[0]: dict(zip(NUMBERS, row[1:], strict=True)) for row in rows}
    is_whole = known == wanted  # else only those that the filter finds in the range
    items = [
        _summary(names, numbers.get(names[0], {}), (first, last))
        for *names, first, last, _ in there
        if is_whole or names[0] in numbers
    ]
    return items, there[0][-1] - len(there) if there else 0


def _summary(names: Sequence[str], numbers: Mapping[str, Any], seen_s: tuple[int, int]) -> ModelSummary:
    count = numbers.get("inferences", 0)
    said = {
        "inferences": 0,
        "detections": 0,
        "devices": 0,
        **dict(zip(("model_id", "name", "version"), names, strict=True)),
        **dict.fromkeys(name for name in NUMBERS if name.startswith(("latency", "confidence"))),
        **numbers,
        "first_seen": told(seen_s[0] * 1000),
        "last_seen": told(seen_s[1] * 1000),
        "error_rate": numbers["errors"] / count if count else None,
        "empty_rate": numbers["empties"] / count if count else None,
    }
    return msgspec.convert(said, ModelSummary)


async def _classes(asked: Asked, about: About, wanted: Filter) -> ClassCounts:
    at = place(wanted, ("class",), CLASS_NUMBERS)
    about.check(at)
    stretches = (about.over, about.before) if about.are_kept(about.before.start_ms, at) else (about.over,)
    now, before = (*await asked.store.ask_all(*(_class_question(wanted, over, at) for over in stretches)), [])[:2]
    total, total_before = (sum(int(row[1]) for row in rows) for rows in (now, before))
    earlier = {row[0]: row[1] / total_before for row in before} if total_before else {}
    items = [_class(row, total, earlier) for row in sorted(now, key=lambda row: (-row[1], row[0]))]
    return ClassCounts(items[:CLASSES_MAX], total, max(0, len(items) - CLASSES_MAX))


def _class(row: tuple[Any, ...], total: int, earlier: dict[str, float]) -> ClassSummary:
    name, detections, inferences, *confidence = row
    share = detections / total
    was = earlier.get(name, 0.0) if earlier else None
    return ClassSummary(name, detections, inferences, share, was, None if was is None else share - was, *confidence)


def _class_question(wanted: Filter, over: Stretch, at: NumbersAt) -> Question:
    bound = Bound()
    return Question(select(wanted, over, CLASS_NUMBERS, bound, {"class": "class"}, at), bound.parameters, KEYS_MAX)


ROUTES: Sequence[HTTPRouteHandler] = (list_models, show_model, list_classes)
