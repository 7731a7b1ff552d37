"""Who may what: API keys, people and their roles. Topic inference.access (compacted).

Its keys are key/ID (an API key: only a hash of it), used/ID (when it was last used), user/NAME (a person),
signed-out/WHO (whose sessions are over).
"""

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.alert import END, TimeMs
from schemas.event import Name
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1
EVERY_WORKSPACE = "*"
KEY_PREFIX = "iw_"  # an API key is iw_ID_SECRET
KEY_RECORD, USE_RECORD, USER_RECORD, SIGNED_OUT_RECORD = "key/", "used/", "user/", "signed-out/"

KeyId = Annotated[str, Meta(pattern=f"^[a-z0-9]{{6,32}}{END}")]
Digest = Annotated[str, Meta(pattern=f"^[0-9a-f]{{64}}{END}")]  # sha256: a secret of 192 random bits needs no slow hash
UserName = Annotated[str, Meta(pattern=f"^[A-Za-z0-9][A-Za-z0-9._@+-]*{END}", max_length=128)]


class Scope(Enum):
    """What an API key is for."""

    INGEST = "ingest"  # send
    QUERY = "query"  # ask
    ADMIN = "admin"  # all of it, and rules, silences, keys


class UserRole(Enum):
    """What a person may do in a workspace."""

    VIEWER = "viewer"  # ask
    OPERATOR = "operator"  # and acknowledge, silence, mark
    ADMIN = "admin"  # all of it


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key. After a rotation the secret before is good until `previous_until_ms`."""

    id: KeyId
    name: Name
    digest: Digest
    workspace: Name  # or "*"
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=3)]
    created_at_ms: TimeMs
    expires_at_ms: TimeMs | None = None
    previous_digest: Digest | None = None
    previous_until_ms: TimeMs | None = None
    schema: int = SCHEMA_VERSION


class KeyUse(msgspec.Struct, frozen=True, kw_only=True):
    """When a key was used last, to the hour. Not a part of the key: a late word of its use must not revive it."""

    id: KeyId
    used_at_ms: TimeMs
    schema: int = SCHEMA_VERSION


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person: a password (argon2id; None: cannot log in by one) and a role in each workspace, or in "*"."""

    name: UserName
    roles: Annotated[dict[Name, UserRole], Meta(max_length=1000)]
    created_at_ms: TimeMs
    password_hash: Annotated[str, Meta(pattern=r"^\$argon2id\$", max_length=512)] | None = None
    schema: int = SCHEMA_VERSION


class SignedOut(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions of somebody that began up to a time are over, everywhere."""

    who: Annotated[str, Meta(min_length=1, max_length=300)]  # user/NAME, oidc/NAME, key/ID or local
    until_ms: TimeMs
    schema: int = SCHEMA_VERSION


Record = ApiKey | KeyUse | User | SignedOut
_DECODERS = {
    KEY_RECORD: msgspec.json.Decoder(ApiKey).decode,
    USE_RECORD: msgspec.json.Decoder(KeyUse).decode,
    USER_RECORD: msgspec.json.Decoder(User).decode,
    SIGNED_OUT_RECORD: msgspec.json.Decoder(SignedOut).decode,
}


def record_key(record: Record) -> bytes:
    """The record's key on the topic."""
    match record:
        case ApiKey():
            return f"{KEY_RECORD}{record.id}".encode()
        case KeyUse():
            return f"{USE_RECORD}{record.id}".encode()
        case User():
            return f"{USER_RECORD}{record.name}".encode()
        case SignedOut():
            return f"{SIGNED_OUT_RECORD}{record.who}".encode()


def decode(key: bytes, raw: bytes | None) -> Record | Rejected:
    """The record of `key`, or why it is refused. Never raises. A tombstone (None) is the caller's to know."""
    kind, slash, _ = key.decode(errors="replace").partition("/")
    decoder = _DECODERS.get(kind + slash)
    if decoder is None:
        return Rejected(Reason.OUT_OF_RANGE, "key")
    record: Record | Rejected = decode_or_reject(decoder, raw)  # type: ignore[arg-type]
    if isinstance(record, Rejected):
        return record
    if record.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    if record_key(record) != key:  # nobody's key under somebody else's name
        return Rejected(Reason.OUT_OF_RANGE, "key")
    return record


def encode(record: Record) -> bytes:
    """The value of a record of inference.access."""
    return msgspec.json.encode(record)
