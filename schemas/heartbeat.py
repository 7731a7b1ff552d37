"""A device saying that it lives: topic inference.heartbeats, schema version 1."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.event import TIME_MS_MAX, Label, Name, Tags
from schemas.rejection import Reason, Rejected, decode_leniently
from schemas.tolerance import Adjusted, Leniency

SCHEMA_VERSION = 1


class Heartbeat(msgspec.Struct, gc=False, frozen=True):
    """One beat. `interval_ms` is the promise: the next one comes by then."""

    device_id: Name
    workspace: Name
    sent_at_ms: Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
    interval_ms: Annotated[int, Meta(ge=1, le=7 * 86_400_000)]
    schema: int = SCHEMA_VERSION
    server_id: Label | None = None
    version: Label | None = None
    tags: Tags | None = None
    boot_id: Label | None = None  # changes when the device restarts
    status: Literal["up", "stopping"] | None = None
    expected_downtime_ms: Annotated[int, Meta(ge=0, le=366 * 86_400_000)] | None = None


_decode_json = msgspec.json.Decoder(Heartbeat).decode


_LENIENCY = Leniency(
    integers=frozenset({"sent_at_ms", "interval_ms", "schema", "expected_downtime_ms"}), optional=frozenset({"schema"})
)


def decode(raw: bytes | None) -> Heartbeat | Adjusted[Heartbeat] | Rejected:
    """The heartbeat in `raw`, or why it is refused. Never raises."""
    beat = decode_leniently(_decode_json, raw, _LENIENCY)
    value = beat.value if isinstance(beat, Adjusted) else beat
    if isinstance(value, Heartbeat) and value.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    return beat
