"""A use case: what vision events are about. Topic inference.use-cases (compacted), keyed by [workspace, id] as JSON."""

from enum import Enum

import msgspec

from schemas.alert import TimeMs
from schemas.event import Name
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1


class UseCaseStatus(Enum):
    """Whether it is in use."""

    ACTIVE = "active"
    INACTIVE = "inactive"  # archived: not listed unless asked for; takes events all the same


class UseCase(msgspec.Struct, frozen=True, kw_only=True):
    """One of a workspace."""

    workspace: Name
    id: Name
    name: Name
    created_at_ms: TimeMs
    status: UseCaseStatus = UseCaseStatus.ACTIVE
    schema: int = SCHEMA_VERSION


_decode_json = msgspec.json.Decoder(UseCase).decode


def record_key(workspace: str, use_case_id: str) -> bytes:
    """Its record's key on the topic: no workspace's name can be written so that it looks like another's use case."""
    return msgspec.json.encode([workspace, use_case_id])


def decode(key: bytes, raw: bytes | None) -> UseCase | Rejected:
    """The use case in `raw`, or why it is refused. Never raises."""
    found = decode_or_reject(_decode_json, raw)
    if isinstance(found, Rejected):
        return found
    if found.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    if record_key(found.workspace, found.id) != key:
        return Rejected(Reason.OUT_OF_RANGE, "key")
    return found


def encode(use_case: UseCase) -> bytes:
    """The value of a record of inference.use-cases."""
    return msgspec.json.encode(use_case)
