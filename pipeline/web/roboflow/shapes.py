"""Predictions and values in every shape that Roboflow's servers write, as ours. Pure; nothing here raises.

An inference is never lost for what is odd about it: what cannot be kept is left out of it, and counted in `Left`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from schemas import event
from schemas.event import LATENCY_MS_MAX, TimeLimits
from schemas.rejection import Rejected
from schemas.tolerance import CONFIDENCE_TOLERANCE

EVENTS, HEARTBEATS, METADATA = "events", "heartbeats", "metadata"  # kinds of records, as in ingest/kinds.py
ID_LENGTH_MAX, NAME_LENGTH_MAX, LABEL_LENGTH_MAX, VALUE_LENGTH_MAX = 128, 256, 256, 1000
TAGS_MAX, TAG_LENGTH_MAX = 100, 100
UNKNOWN = "unknown"  # a model or a device that is not named
_PLACE = ("x", "y", "width", "height")
_AS_GIVEN = ("class_id", "detection_id", "tracker_id", "points", "keypoints")


class Left(Enum):
    """What was left out of an inference, or put in its place. A closed set: it labels a metric."""

    PREDICTION = "prediction"  # one without a class, or with a confidence outside 0..1
    LATENCY = "latency"  # below 0, or more than a day
    TIME = "time"  # of a broken clock: the time of arrival stands for it
    DETAILS = "details"  # boxes and points of an event that would be too large with them
    REPEAT = "repeat"  # an inference that was sent again
    INFERENCE = "inference"  # what is none at all


@dataclass(frozen=True, slots=True)
class Record:
    """One of ours, for the topic of its kind."""

    kind: str
    key: str
    value: bytes
    event_id: str = ""  # of an event


@dataclass(frozen=True, slots=True)
class Context:
    """Where and when something came in."""

    workspace: str
    now_ms: int
    limits: TimeLimits
    deployment: str = "edge"


def text(value: Any, length_max: int) -> str | None:
    """A text or a number as a text, cut; None for what is neither, or empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:length_max] or None


def number(value: Any) -> float | None:
    """A number that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def tags(value: Any) -> list[str]:
    """A list of tags, or a text of them with commas."""
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [cut for one in found[:TAGS_MAX] if (cut := text(one, TAG_LENGTH_MAX))]


def id_of(inference_id: str, index: int = 0) -> str:
    """Our event_id: theirs, so that what is said of it later finds it; of further images of a batch with a number."""
    found = inference_id if index == 0 else f"{inference_id}:{index}"
    return found if len(found) <= ID_LENGTH_MAX else hashlib.sha256(found.encode()).hexdigest()


def time_ms(seconds: float | None, context: Context, left: "Counter[Left]") -> int:
    """When it was, if that can be."""
    if seconds is not None and abs(seconds) < 1e12:
        lead_ms = round(seconds * 1000) - context.now_ms
        if -context.limits.age_ms_max <= lead_ms <= context.limits.ahead_ms_max:
            return max(0, round(seconds * 1000))
    left[Left.TIME] += 1
    return context.now_ms


def latency_ms(seconds: float | None, left: "Counter[Left]") -> float | None:
    """How long it took; None: nobody says."""
    if seconds is None:
        return None
    if 0 <= seconds * 1000 <= LATENCY_MS_MAX:
        return seconds * 1000
    left[Left.LATENCY] += 1
    return None


def predictions(found: Any, left: "Counter[Left]") -> list[dict[str, Any]]:
    """A list of detections, classes or keypoints, or classes by name (multi-label), as ours."""
    if isinstance(found, dict):
        rows = [{**one, "class": name} for name, one in found.items() if isinstance(one, dict)]
        left[Left.PREDICTION] += len(found) - len(rows)
    else:
        rows = found if isinstance(found, list) else []
    ours = [made for row in rows if (made := _prediction(row)) is not None]
    left[Left.PREDICTION] += len(rows) - len(ours)
    return ours


def _prediction(row: Any) -> dict[str, Any] | None:
    if not isinstance(row, dict):
        return None
    name = text(row.get("class", row.get("class_name")), NAME_LENGTH_MAX)
    confidence = number(row.get("confidence"))
    if name is None or confidence is None or not -CONFIDENCE_TOLERANCE <= confidence <= 1 + CONFIDENCE_TOLERANCE:
        return None
    made: dict[str, Any] = {"class": name, "confidence": min(1.0, max(0.0, confidence))}
    if len(row) == 2:  # as condensed, which is usual
        return made
    for field in _PLACE:
        if (value := number(row.get(field))) is not None:
            made[field] = value
    for field in _AS_GIVEN:
        if row.get(field) is not None:
            made[field] = row[field]
    return made


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of it may be metadata of an event: texts, numbers and yes or no."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            value = value[:VALUE_LENGTH_MAX] or None
        if isinstance(value, bool | str) or number(value) is not None:
            made[str(name)[:100]] = value
    return dict(list(made.items())[:100])


def event_record(fields: dict[str, Any], context: Context, left: "Counter[Left]") -> Record | None:
    """An event, sound by the pipeline's own code; None: not even bare (nothing here makes such a one)."""
    fields |= {"workspace": context.workspace, "schema": 1}
    key = fields.get("device_id") or fields["event_id"]
    for _ in range(2):
        value = orjson.dumps({name: given for name, given in fields.items() if given not in (None, [], {})})
        if not isinstance(event.decode(value, context.now_ms, context.limits), Rejected):
            return Record(EVENTS, key, value, fields["event_id"])
        left[Left.DETAILS] += 1
        bare = [{"class": one["class"], "confidence": one["confidence"]} for one in fields["predictions"]]
        fields = fields | {"predictions": bare, "metadata": None}
    return None


def loads(raw: bytes) -> Any:
    """JSON, and what Python writes beside it (NaN, lone surrogates), as null and "?". None: no JSON at all."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        lenient = json.loads(raw, parse_constant=lambda _: None)
        return orjson.loads(json.dumps(lenient, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
