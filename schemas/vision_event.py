"""A vision event on its way to ClickHouse: topic inference.vision-events, version 1. Internal: the web side writes it.

A record is all that is known of an event: a later one of the same event_id stands in its place, and one that is
`deleted` hides it. `body` is the event as its sender wrote it; the other fields are what it is found by.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from schemas.event import TIME_MS_MAX, Id, Label, Name
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1

Scalars = dict[str, str]  # by name, each as JSON text: "a" in quotes, 3, true


class VisionRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One version of one event."""

    workspace: Name
    event_id: Id
    event_time_ms: Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
    use_case_id: Name
    event_type: Label
    device_id: Label = ""
    stream_id: Label = ""
    workflow_id: Label = ""
    external_id: str = ""
    classes: list[str] = []
    confidences: list[Annotated[float, Meta(ge=0, le=1)]] = []  # of the same detections
    event_data: Scalars = {}
    custom_metadata: Scalars = {}
    image_metadata: Scalars = {}
    warnings: list[str] = []
    deleted: bool = False
    body: Raw = Raw(b"{}")
    schema: int = SCHEMA_VERSION


_decode_json = msgspec.json.Decoder(VisionRecord).decode


def decode(raw: bytes | None) -> VisionRecord | Rejected:
    """The record in `raw`, or why it is refused. Never raises."""
    found = decode_or_reject(_decode_json, raw)
    if isinstance(found, Rejected):
        return found
    if found.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    if len(found.classes) != len(found.confidences):
        return Rejected(Reason.OUT_OF_RANGE, "confidences")
    return found


def encode(record: VisionRecord) -> bytes:
    """The value of a record of inference.vision-events."""
    return msgspec.json.encode(record)
