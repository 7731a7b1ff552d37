"""What keeps alerts quiet: silences, maintenance, acknowledgements. Topic inference.silences (compacted, key = id)."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.alert import END, TimeMs
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1
ACKNOWLEDGEMENT_PREFIX = "ack/"

Author = Annotated[str, Meta(min_length=1, max_length=256)]
Comment = Annotated[str, Meta(max_length=10_000)]
Says = Literal["taken", "free", "over", "normal"]


class Matcher(msgspec.Struct, frozen=True):
    """One condition on an alert; what it may ask about is in schemas.alert.matchable. A regex must match all of it."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    value: Annotated[str, Meta(max_length=1000)]
    is_regex: bool = False
    is_equal: bool = True  # False: holds where the value does not match


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is told of alerts that all matchers hold for, from starts_at_ms until before ends_at_ms."""

    id: Annotated[str, Meta(pattern=f"^[A-Za-z0-9][A-Za-z0-9._-]*{END}", max_length=128)]
    matchers: Annotated[list[Matcher], Meta(min_length=1, max_length=50)]
    starts_at_ms: TimeMs
    ends_at_ms: TimeMs
    author: Author
    kind: Literal["silence", "maintenance"] = "silence"
    comment: Comment = ""
    schema: int = SCHEMA_VERSION


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of an episode of an alert: id is ack/FINGERPRINT/EPISODE.

    It is taken (somebody has it), free (nobody has it any more), over (whatever is still heard of it), or normal (this
    is how it is from now on).
    """

    id: Annotated[str, Meta(pattern="^ack/[0-9a-f]{16}/[0-9]{1,16}" + END)]
    author: Author
    at_ms: TimeMs
    comment: Comment = ""
    says: Says = "taken"
    schema: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """Of the alert."""
        return self.id.split("/")[1]

    @property
    def episode(self) -> int:
        """Of the alert."""
        return int(self.id.split("/")[2])


def acknowledgement_id(fingerprint: str, episode: int) -> str:
    """The id under which an episode is acknowledged."""
    return f"{ACKNOWLEDGEMENT_PREFIX}{fingerprint}/{episode}"


class _Identified(msgspec.Struct, frozen=True):
    id: str


_decode_id = msgspec.json.Decoder(_Identified).decode
_decode_silence = msgspec.json.Decoder(Silence).decode
_decode_acknowledgement = msgspec.json.Decoder(Acknowledgement).decode


def decode(raw: bytes | None) -> Silence | Acknowledgement | Rejected:
    """The record in `raw`, or why it is refused. Never raises. A tombstone (None) is the caller's to know."""
    identified = decode_or_reject(_decode_id, raw)
    if isinstance(identified, Rejected):
        return identified
    decode_json = _decode_acknowledgement if identified.id.startswith(ACKNOWLEDGEMENT_PREFIX) else _decode_silence
    value: Silence | Acknowledgement | Rejected = decode_or_reject(decode_json, raw)
    if isinstance(value, Rejected):
        return value
    if value.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    return _check(value) or value if isinstance(value, Silence) else value


def encode(value: Silence | Acknowledgement) -> bytes:
    """The record of inference.silences."""
    return msgspec.json.encode(value)


def _check(silence: Silence) -> Rejected | None:
    """What types and bounds cannot say."""
    if silence.ends_at_ms <= silence.starts_at_ms:
        return Rejected(Reason.OUT_OF_RANGE, "ends_at_ms")
    for i, matcher in enumerate(silence.matchers):
        try:
            re.compile(matcher.value if matcher.is_regex else "")
        except (re.error, RecursionError, OverflowError):
            return Rejected(Reason.OUT_OF_RANGE, f"matchers[{i}].value")
    return None
