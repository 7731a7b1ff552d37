"""The workspace: how much, how sure, how fast; what is wrong now; its models."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.web.console.visit import Looking, Page

SPARK_POINTS = 48
TILES = (  # title, number of the overview, how it is written, metric of its line, which way is bad
    ("Requests", "inferences", "count", "inference_count", 0),
    ("Average confidence", "confidence_mean", "confidence", "confidence_mean", -1),
    ("Average inference time", "latency_mean_ms", "ms", "latency_mean_ms", 1),
)
COLUMNS = (  # field, title, how it is written
    ("name", "Model", ""),
    ("inferences", "Requests", "count"),
    ("confidence_mean", "Confidence", "confidence"),
    ("latency_p50_ms", "Time p50", "ms"),
    ("latency_p95_ms", "Time p95", "ms"),
    ("error_rate", "Errors", "percent"),
    ("devices", "Devices", "count"),
    ("last_seen", "Last seen", ""),
)
DEFAULT_SORT = "-last_seen"


async def show(looking: Looking) -> Page:
    """The first page."""
    time, ask = looking.time, looking.asking
    told = await ask.all(
        overview=ask.get("overview", **time),
        models=ask.get("models", **time),
        alerts=ask.get("alerts"),
        devices=ask.get("devices", **time),
        **lines(looking, ""),
    )
    sort = looking.at.query.get("sort", DEFAULT_SORT)
    models = told["models"].value["items"] if told["models"].value else []
    devices = told["devices"].value["items"] if told["devices"].value else []
    return Page(
        "overview.html",
        "Overview",
        {
            "told": told,
            "tiles": TILES,
            "columns": COLUMNS,
            "sort": sort,
            "models": sorted_by(models, sort),
            "alerts": told["alerts"].value["items"] if told["alerts"].value else [],
            "silent": [one for one in devices if one["state"] in ("lost", "late")],
        },
    )


def lines(looking: Looking, of: str) -> Mapping[str, Any]:
    """The question for each tile's line."""
    return {
        f"line_{metric}": looking.asking.get(
            "series", metric=metric, points=str(SPARK_POINTS), filter=of, **looking.time
        )
        for *_, metric, _ in TILES
    }


def sorted_by(items: Sequence[Mapping[str, Any]], sort: str) -> list[Mapping[str, Any]]:
    """By a column of the table, what has no value last; by another, as they come."""
    field = sort.removeprefix("-")
    if field not in {name for name, *_ in COLUMNS}:
        return list(items)
    there = [one for one in items if one[field] is not None]
    there.sort(key=lambda one: one[field], reverse=sort.startswith("-"))
    return there + [one for one in items if one[field] is None]
