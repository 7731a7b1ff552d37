"""The kinds of records that come in, and how one is looked at: by the same code as in the pipeline, byte for byte.

What is sound is passed on as it was written. Only where a field is missing that the door can know (when, where, which
id) is it written in, in front of the others.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import event, heartbeat, metadata
from schemas.event import InferenceEvent, TimeLimits
from schemas.heartbeat import Heartbeat
from schemas.metadata import InferenceMetadata
from schemas.rejection import Reason, Rejected
from schemas.topics import EVENTS, HEARTBEATS, METADATA, Topic

OTHER_WORKSPACE = "other_workspace"

Sound = InferenceEvent | Heartbeat | InferenceMetadata


@dataclass(frozen=True, slots=True)
class Kind:
    """One of them. `key(sound)` decides the partition; `known` are the fields that may be missing."""

    name: str  # the last part of its path
    topic: Topic
    struct: type[Sound]
    decode: Callable[[bytes, int], Any]
    key: Callable[[Any], str]
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why a record is not taken."""

    reason: str
    field: str


def kinds(limits: TimeLimits) -> Mapping[str, Kind]:
    """All of them, by name."""
    decode_event = event.decode
    found = (
        Kind(
            "events",
            EVENTS,
            InferenceEvent,
            lambda raw, now_ms: decode_event(raw, now_ms, limits),
            lambda sound: sound.device_id or sound.event_id,
            ("event_id", "event_time_ms", "workspace"),
        ),
        Kind(
            "heartbeats",
            HEARTBEATS,
            Heartbeat,
            lambda raw, _: heartbeat.decode(raw),
            lambda sound: sound.device_id,
            ("sent_at_ms", "workspace"),
        ),
        Kind(
            "metadata",
            METADATA,
            InferenceMetadata,
            lambda raw, _: metadata.decode(raw),
            lambda sound: sound.inference_id,
            ("sent_at_ms", "workspace"),
        ),
    )
    return {kind.name: kind for kind in found}


def looked_at(kind: Kind, raw: bytes, workspace: str, now_ms: int) -> tuple[Sound, bytes] | NotTaken:
    """The record and the bytes that go to Kafka, or why not."""
    found = kind.decode(raw, now_ms)
    if type(found) is not kind.struct:
        for _ in kind.known:  # the decoder names one at a time
            if not isinstance(found, Rejected) or found.reason is not Reason.MISSING_FIELD:
                break
            if found.field not in kind.known:
                break
            raw = _with_field(raw, found.field, _value(found.field, workspace, now_ms))
            found = kind.decode(raw, now_ms)
        if isinstance(found, Rejected):
            return NotTaken(found.reason.value, found.field)
        if type(found) is not kind.struct:
            found = found.value  # a record that was adjusted says so beside its value
    if found.workspace != workspace:
        return NotTaken(OTHER_WORKSPACE, "workspace")
    return found, raw


def _value(field: str, workspace: str, now_ms: int) -> str | int:
    if field == "workspace":
        return workspace
    return secrets.token_hex(16) if field == "event_id" else now_ms


def _with_field(raw: bytes, name: str, value: str | int) -> bytes:
    """An object with one more field in front; it is sound JSON but for that."""
    rest = raw.lstrip()[1:]
    comma = b"" if rest.lstrip()[:1] == b"}" else b","
    return b"".join((b'{"', name.encode(), b'":', orjson.dumps(value), comma, rest))
