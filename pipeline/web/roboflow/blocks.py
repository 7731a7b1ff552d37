"""What blocks of workflows send: samples of the aggregator, values added later, and the webhook's own JSON. Pure."""

from collections import Counter
from typing import Any

import orjson

from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.shapes import METADATA, UNKNOWN, Context, Left, Record

SAMPLED, WEBHOOK = "roboflow-aggregator", "webhook"  # sources
SAMPLED_PREFIX = "sampled:"  # of the models that samples go under
ADDED_MAX = 10_000  # values in one request


class InvalidRequestError(Exception):
    """Not what the block sends; the text says why."""


def sampled(body: Any, context: Context, left: "Counter[Left]") -> list[Record]:
    """The aggregator's rows, under models of their own: it sends the best prediction of each class, not all.

    So no count, no mean and no alert of the model itself is touched. Their times have no zone: arrival stands for them.
    """
    rows = body.get("inference_results") if isinstance(body, dict) else None
    if not isinstance(rows, list):
        raise InvalidRequestError("inference_results is no list")
    by_inference: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        if not isinstance(row, dict):
            left[Left.INFERENCE] += 1
            continue
        model = shapes.text(row.get("model_id"), 10_000) or UNKNOWN
        by_inference.setdefault((model, str(row.get("inference_id") or "")), []).append(row)
    made = []
    for number, ((model, inference_id), theirs) in enumerate(by_inference.items()):
        known = inference_id or f"{context.now_ms}-{number}-{body.get('device_id')}"
        fields = {
            "event_id": shapes.id_of(f"{SAMPLED_PREFIX}{known}"),
            "event_time_ms": context.now_ms,
            "model_id": SAMPLED_PREFIX + model[-(shapes.NAME_LENGTH_MAX - len(SAMPLED_PREFIX)) :],
            "device_id": shapes.text(body.get("device_id"), shapes.LABEL_LENGTH_MAX),
            "predictions": shapes.predictions(theirs, left),
            "source": SAMPLED,
            "deployment": context.deployment,
            "server_version": shapes.text(body.get("inference_server_version"), shapes.LABEL_LENGTH_MAX),
            "metadata": shapes.flat({"model_type": theirs[0].get("model_type")}),
        }
        if (record := shapes.event_record(fields, context, left)) is not None:
            made.append(record)
    return made


def added(body: Any, context: Context) -> list[Record]:
    """Values for inferences that are known by their ids. Raises InvalidRequestError: then nothing of it is taken."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise InvalidRequestError("data is no list")
    made: list[Record] = []
    for one in data:
        ids, field, value = (one.get(name) for name in _ADDED) if isinstance(one, dict) else (None, None, None)
        if not isinstance(ids, list) or not isinstance(field, str) or not 1 <= len(field) <= 100:
            raise InvalidRequestError("inference_ids or field_name is missing")
        if not (kept := shapes.flat({field: value})):
            raise InvalidRequestError("field_value is no text, no number and not yes or no")
        if len(made) + len(ids) > ADDED_MAX or not all(isinstance(found, str) and found for found in ids):
            raise InvalidRequestError("inference_ids is no list of ids, or too long")
        for found in ids:
            value = {
                "schema": 1,
                "workspace": context.workspace,
                "inference_id": shapes.id_of(found),
                "field": field,
                "value": kept[field],
                "sent_at_ms": context.now_ms,
            }
            made.append(Record(METADATA, value["inference_id"], orjson.dumps(value)))
    return made


_ADDED = ("inference_ids", "field_name", "field_value")
_NAMES = {
    "event_id": ("event_id", "inference_id"),
    "model_id": ("model_id", "model"),
    "device_id": ("device_id", "device", "camera", "camera_id", "stream_id"),
    "time": ("event_time_ms", "timestamp"),
    "latency": ("latency_ms", "time"),
    "error": ("error", "error_message"),
    "rest": ("predictions", "image", "tags", "server_version", "workspace", "schema"),
}
_TAKEN = {name for names in _NAMES.values() for name in names}


def webhook(body: Any, usual: dict[str, str], new_id: str, context: Context, left: "Counter[Left]") -> Record:
    """One inference as a workflow's webhook sends it, in whatever names; what is not known by name is metadata.

    `usual`: what stands in the address, for what the body does not say. Raises InvalidRequestError.
    """
    if not isinstance(body, dict):
        raise InvalidRequestError("it is no JSON object")
    model = shapes.text(_first(body, "model_id") or usual.get("model_id"), shapes.NAME_LENGTH_MAX)
    if model is None:
        raise InvalidRequestError("model_id is missing: send it in the body or in the address (?model_id=)")
    seen, image = _seen(body)
    given_s = _seconds(_first(body, "time"))
    latency = body.get("latency_ms"), body.get("time")
    seconds = shapes.number(latency[1]) if latency[0] is None else (shapes.number(latency[0]) or 0.0) / 1000
    device = _first(body, "device_id") or usual.get("device_id")
    fields = {
        "event_id": shapes.id_of(shapes.text(_first(body, "event_id"), 10_000) or new_id),
        "event_time_ms": context.now_ms if given_s is None else shapes.time_ms(given_s, context, left),
        "model_id": model,
        "device_id": shapes.text(device, shapes.LABEL_LENGTH_MAX),
        "latency_ms": shapes.latency_ms(seconds, left),
        "predictions": shapes.predictions(seen, left),
        "error": shapes.text(_first(body, "error"), 10_000),
        "image": image,
        "tags": shapes.tags(body.get("tags")),
        "metadata": shapes.flat({name: value for name, value in body.items() if name not in _TAKEN}),
        "source": WEBHOOK,
        "deployment": context.deployment,
        "server_version": shapes.text(body.get("server_version"), shapes.LABEL_LENGTH_MAX),
    }
    if (record := shapes.event_record(fields, context, left)) is None:
        raise InvalidRequestError("it cannot be made an event")
    return record


def _first(body: dict[str, Any], field: str) -> Any:
    return next((body[name] for name in _NAMES[field] if body.get(name) not in (None, "")), None)


def _seen(body: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """The predictions, with or without the image's size around them (DetectionsToDictionary gives it)."""
    found, image = body.get("predictions"), body.get("image")
    if isinstance(found, dict) and "predictions" in found:
        found, image = found["predictions"], found.get("image", image)
    if not isinstance(image, dict):
        return found, None
    size = {side: round(value) for side in ("width", "height") if (value := shapes.number(image.get(side))) is not None}
    size = {side: value for side, value in size.items() if 0 <= value <= 1_000_000}
    url = image.get("url")
    return found, size | ({"url": url} if isinstance(url, str) and len(url) <= 4096 else {})


def _seconds(value: Any) -> float | None:
    """A time in seconds or milliseconds since 1970; None where it is none: a workflow's texts have no zone."""
    given = shapes.number(value)
    return given / 1000 if given is not None and given > 1e11 else given
