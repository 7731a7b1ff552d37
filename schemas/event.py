"""One inference as an event: topic inference.events, schema version 1.

Every bound here is part of the contract: what is outside is refused, with a reason.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from schemas.rejection import Reason, Rejected, decode_leniently
from schemas.tolerance import Adjusted, Leniency, plain

SCHEMA_VERSION = 1
TIME_MS_MAX = 4_102_444_800_000  # year 2100: what ClickHouse's time columns hold with room to spare
LATENCY_MS_MAX = 86_400_000.0  # one day: what is longer is a broken clock, not a latency

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=256)]
Tag = Annotated[str, Meta(max_length=100)]
Tags = Annotated[list[Tag], Meta(max_length=100)]
MetadataValue = Annotated[str, Meta(max_length=1000)] | int | float | bool
Metadata = Annotated[dict[Annotated[str, Meta(max_length=100)], MetadataValue], Meta(max_length=100)]


class Prediction(msgspec.Struct, gc=False, frozen=True):
    """One detection. `x`, `y` are the centre and `width`, `height` the size of the box, in pixels."""

    class_name: Name = msgspec.field(name="class")
    confidence: Annotated[float, Meta(ge=0, le=1)]
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    # Kept as they were given, whatever they are.
    class_id: Raw | UnsetType = UNSET
    detection_id: Raw | UnsetType = UNSET
    tracker_id: Raw | UnsetType = UNSET
    points: Raw | UnsetType = UNSET
    keypoints: Raw | UnsetType = UNSET


class Image(msgspec.Struct, gc=False, frozen=True):
    """The picture that was looked at; `url` says where it is kept, if it is."""

    width: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    height: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    url: Annotated[str, Meta(max_length=4096)] | None = None


class InferenceEvent(msgspec.Struct, gc=False, frozen=True):
    """One request to a model: what it saw, how sure it was, how long it took."""

    event_id: Id
    event_time_ms: int  # UTC, when the inference was made
    workspace: Name
    model_id: Name
    schema: int = SCHEMA_VERSION
    device_id: Label | None = None
    latency_ms: Annotated[float, Meta(ge=0, le=LATENCY_MS_MAX)] | None = None  # None: unknown
    predictions: list[Prediction] = []
    error: Annotated[str, Meta(max_length=10_000)] | None = None
    image: Image | None = None
    metadata: Metadata | None = None
    tags: Tags | None = None
    source: Label | None = None
    deployment: Label | None = None
    server_version: Label | None = None


class _WithMetadata(msgspec.Struct, gc=False):
    metadata: dict[str, Raw]


class TimeLimits(msgspec.Struct, frozen=True):
    """How far an event's own time may lie from its record's broker timestamp, in ms."""

    age_ms_max: int = 30 * 86_400_000
    ahead_ms_max: int = 60_000  # an open future window holds the low-water mark back, so this stays small


_decode_json = msgspec.json.Decoder(InferenceEvent).decode


_LENIENCY = Leniency(
    integers=frozenset({"event_time_ms", "schema"}),
    optional=frozenset({"predictions", "schema"}),
    objects={"image": Leniency(integers=frozenset({"width", "height"}))},
    rows={"predictions": Leniency(shares=frozenset({"confidence"}))},
    maps=frozenset({"metadata"}),
)


def decode(
    raw: bytes | None, broker_time_ms: int, limits: TimeLimits
) -> InferenceEvent | Adjusted[InferenceEvent] | Rejected:
    """The event in `raw`, or why it is refused. Never raises. A function of its arguments alone."""
    event = decode_leniently(_decode_json, raw, _LENIENCY)
    if isinstance(event, Rejected):
        return _with_key(event, raw) if event.field == "metadata[...]" else event
    return check(event.value if isinstance(event, Adjusted) else event, broker_time_ms, limits) or event


_metadata_of = msgspec.json.Decoder(_WithMetadata).decode
_value_of = msgspec.json.Decoder(MetadataValue).decode


def _with_key(rejected: Rejected, raw: bytes | None) -> Rejected:
    """The same, with the key of the value that was refused: msgspec does not tell."""
    for key, value in _metadata_of(raw or b"").metadata.items():
        try:
            _value_of(value)
        except msgspec.ValidationError:
            return Rejected(rejected.reason, f"metadata[{plain(key)}]")
    return rejected


def check(event: InferenceEvent, broker_time_ms: int, limits: TimeLimits) -> Rejected | None:
    """What types and bounds cannot say."""
    if event.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    lead_ms = event.event_time_ms - broker_time_ms
    if not (0 <= event.event_time_ms <= TIME_MS_MAX and -limits.age_ms_max <= lead_ms <= limits.ahead_ms_max):
        return Rejected(Reason.OUT_OF_RANGE, "event_time_ms")
    return None
