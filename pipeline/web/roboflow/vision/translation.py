"""A vision event as records of ours. Pure.

Each is a version of itself on inference.vision-events, with its JSON as it was sent. Each but feedback is an inference
as well, so that windows, lists and alerts know of it: its model is its use case, and the model's version the workflow.
Feedback is metadata of the event that it is about.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from msgspec import Raw

from pipeline.web.images.gallery import address
from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.shapes import Context, Record
from pipeline.web.roboflow.vision import given
from pipeline.web.roboflow.vision.given import Warnings
from schemas import vision_event
from schemas.rejection import Rejected
from schemas.vision_event import VisionRecord

SOURCE = "vision-event"
FEEDBACK = "operator_feedback"
TYPES = ("quality_check", "inventory_count", "safety_alert", "custom", FEEDBACK)
AGE_MS_MAX, AHEAD_MS_MAX = 366 * 86_400_000, 86_400_000
NOT_COUNTED = "timestamp: too old, or too far ahead, to count in windows: it can only be found"


class Size(Protocol):
    """What is known of a picture that was sent before."""

    @property
    def width(self) -> int:
        """Pixels."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def metadata(self) -> Mapping[str, str | int | float | bool]:
        """What was said of it."""


class RefusedVisionEventError(Exception):
    """An event that cannot be taken: the field, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field = field


@dataclass(frozen=True, slots=True)
class Translated:
    """What becomes of one event."""

    event_id: str
    version: Record  # on inference.vision-events
    beside: list[Record] = field(default_factory=list)  # the inference, or metadata of another one
    warnings: list[str] = field(default_factory=list)


VERSION = "vision"  # the kind of the record


def sources_of(event: Any) -> list[str]:
    """The ids of the pictures that an event names."""
    found = event.get("images") if isinstance(event, dict) else None
    rows = found[: given.IMAGES_MAX] if isinstance(found, list) else []
    names = [one.get(name) for one in rows if isinstance(one, dict) for name in ("sourceId", "inputSourceId")]
    return [name for name in names if isinstance(name, str) and 0 < len(name) <= shapes.ID_LENGTH_MAX]


def translate(event: Any, context: Context, pictures: Mapping[str, Size]) -> Translated:
    """The records of an event. `pictures`: those of its sources that are kept. Raises RefusedVisionEventError."""
    if not isinstance(event, dict):
        raise RefusedVisionEventError("", "an event is an object")
    warnings = Warnings()
    event_id, event_type, use_case_id = _id(event), _type(event), _use_case(event)
    time_ms = _time_ms(event, context)
    images = given.images(event.get("images"), warnings)
    seen = given.detections(images, warnings)
    data = given.event_data(event.get("eventData"), event_type, warnings)
    metadata = given.custom(event.get("customMetadata"), "customMetadata", warnings)
    names = {name: given.label(event, name, warnings) for name in ("deviceId", "streamId", "workflowId")}
    known = [pictures[name] for name in sources_of({"images": images}) if name in pictures]
    beside: list[Record] = []
    if event_type == FEEDBACK:
        beside = _feedback(event, data, context, warnings)
    else:
        fields = {
            "event_id": event_id,
            "event_time_ms": time_ms,
            "model_id": model_of(use_case_id, names["workflowId"]),
            "device_id": names["deviceId"] or None,
            "predictions": seen,
            "image": _image(images, pictures, context.workspace),
            "source": SOURCE,
            "metadata": _said(event_type, names["streamId"], data, metadata),
        }
        beside = _inference(fields, context, warnings)
    record = VisionRecord(
        workspace=context.workspace,
        event_id=event_id,
        event_time_ms=time_ms,
        use_case_id=use_case_id,
        event_type=event_type,
        device_id=names["deviceId"],
        stream_id=names["streamId"],
        workflow_id=names["workflowId"],
        external_id=str(data.get("externalId", ""))[: given.EXTERNAL_LENGTH_MAX],
        classes=[one["class"] for one in seen],
        confidences=[one["confidence"] for one in seen],
        event_data=given.scalars(data),
        custom_metadata=given.scalars(metadata),
        image_metadata=given.scalars({key: value for one in known for key, value in one.metadata.items()}),
        warnings=warnings.told,
        body=Raw(orjson.dumps(event | {"eventId": event_id, "useCaseId": use_case_id})),
    )
    return Translated(event_id, _sound(record), beside, warnings.told)


def hidden(workspace: str, event_id: str, event_time_ms: int, use_case_id: str) -> Record:
    """The record that hides an event."""
    record = VisionRecord(
        workspace=workspace,
        event_id=event_id,
        event_time_ms=event_time_ms,
        use_case_id=use_case_id,
        event_type="",
        deleted=True,
    )
    return Record(VERSION, event_id, vision_event.encode(record))


def model_of(use_case_id: str, workflow_id: str) -> str:
    """The model that an event counts for: the use case, and the workflow as its version."""
    version = workflow_id.replace("/", "-")
    whole = f"{use_case_id}/{version}" if version else use_case_id
    return whole if len(whole) <= shapes.NAME_LENGTH_MAX else use_case_id


def _sound(record: VisionRecord) -> Record:
    value = vision_event.encode(record)
    match vision_event.decode(value):
        case Rejected(reason, where):
            raise RefusedVisionEventError(where, f"the event is {reason.value.replace('_', ' ')}")
        case _:
            return Record(VERSION, record.event_id, value)


def _id(event: dict[str, Any]) -> str:
    found = event.get("eventId")
    if found is None:
        return str(uuid.uuid4())
    if not isinstance(found, str) or not 1 <= len(found) <= shapes.ID_LENGTH_MAX:
        raise RefusedVisionEventError("eventId", f"a text of 1 to {shapes.ID_LENGTH_MAX} characters")
    return found


def _type(event: dict[str, Any]) -> str:
    found = event.get("eventType")
    if found not in TYPES:
        raise RefusedVisionEventError("eventType", f"one of {', '.join(TYPES)}")
    return str(found)


def _use_case(event: dict[str, Any]) -> str:
    found = event.get("useCaseId")
    if not isinstance(found, str) or not 1 <= len(found) <= given.LABEL_LENGTH_MAX:
        raise RefusedVisionEventError("useCaseId", f"a text of 1 to {given.LABEL_LENGTH_MAX} characters")
    return found


def _time_ms(event: dict[str, Any], context: Context) -> int:
    found = given.moment_ms(event.get("timestamp"))
    if found is None:
        raise RefusedVisionEventError("timestamp", "a time as ISO 8601, such as 2026-11-22T19:06:41.509Z")
    if not -AGE_MS_MAX <= found - context.now_ms <= AHEAD_MS_MAX:
        raise RefusedVisionEventError("timestamp", "between a year ago and tomorrow")
    return found


def _image(images: Sequence[dict[str, Any]], pictures: Mapping[str, Size], workspace: str) -> dict[str, Any] | None:
    """The first that is kept here."""
    for name in sources_of({"images": list(images)}):
        if (found := pictures.get(name)) is not None:
            return {"width": found.width, "height": found.height, "url": address(workspace, name)}
    return None


def _said(event_type: str, stream_id: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What one searches the inference by; an event's own word on a name counts."""
    return shapes.flat({"event_type": event_type, "stream_id": stream_id, **data, **metadata})


def _inference(fields: dict[str, Any], context: Context, warnings: Warnings) -> list[Record]:
    ahead_ms = fields["event_time_ms"] - context.now_ms
    if not -context.limits.age_ms_max <= ahead_ms <= context.limits.ahead_ms_max:
        warnings.add(NOT_COUNTED)
        return []
    left: Counter[shapes.Left] = Counter()
    found = shapes.event_record(fields, context, left)
    if left[shapes.Left.DETAILS]:
        warnings.add("images: too large for an inference with all details: it has classes and confidences only")
    return [found] if found is not None else []


def _feedback(event: dict[str, Any], data: Mapping[str, Any], context: Context, warnings: Warnings) -> list[Record]:
    related, verdict = data.get("relatedEventId"), data.get("feedback")
    if not isinstance(related, str) or not 1 <= len(related) <= shapes.ID_LENGTH_MAX:
        warnings.add("eventData.relatedEventId: no id of an event")
        return []
    said = {"feedback": verdict, "feedback_comment": event.get("comment", data.get("comment"))}
    made = []
    for name, value in shapes.flat({key: one for key, one in said.items() if one is not None}).items():
        value = {
            "schema": 1,
            "workspace": context.workspace,
            "inference_id": related,
            "field": name,
            "value": value,
            "sent_at_ms": context.now_ms,
        }
        made.append(Record(shapes.METADATA, related, orjson.dumps(value)))
    return made
