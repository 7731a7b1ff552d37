"""A value added to an inference afterwards (a label, a verdict): topic inference.metadata, version 1."""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.event import TIME_MS_MAX, Id, MetadataValue, Name
from schemas.rejection import Reason, Rejected, decode_leniently
from schemas.tolerance import Adjusted, Leniency

SCHEMA_VERSION = 1


class InferenceMetadata(msgspec.Struct, gc=False, frozen=True):
    """One field of one inference; the latest `sent_at_ms` wins."""

    workspace: Name
    inference_id: Id  # the event_id of the inference
    field: Annotated[str, Meta(min_length=1, max_length=100)]
    value: MetadataValue
    sent_at_ms: Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
    schema: int = SCHEMA_VERSION


_decode_json = msgspec.json.Decoder(InferenceMetadata).decode


_LENIENCY = Leniency(integers=frozenset({"sent_at_ms", "schema"}), optional=frozenset({"schema"}))


def decode(raw: bytes | None) -> InferenceMetadata | Adjusted[InferenceMetadata] | Rejected:
    """The metadata in `raw`, or why it is refused. Never raises."""
    added = decode_leniently(_decode_json, raw, _LENIENCY)
    value = added.value if isinstance(added, Adjusted) else added
    if isinstance(value, InferenceMetadata) and value.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    return added
