"""Bad input as a value: why a record was refused, and the decoding that never raises.

`Reason` is a closed set: it labels a metric and heads a dead letter.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec

RECORD_BYTES_MAX = 1 << 20  # 1 MiB

T = TypeVar("T")


class Reason(Enum):
    """Why a record was refused."""

    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"  # a number, a length or a count outside its bounds
    TOO_LARGE = "too_large"  # the record, in bytes
    UNKNOWN_SCHEMA = "unknown_schema"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused record: the reason, and the field as a path ("predictions[...].confidence"; "" is the whole)."""

    reason: Reason
    field: str


_PATH = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_MISSING = re.compile(r"^Object missing required field `(.*?)`")
_BOUND = re.compile(r"(?:[<>]=? |of length|multiple of|out of range)")


def decode_or_reject(decoder: Callable[[bytes], T], raw: bytes | None) -> T | Rejected:
    """`decoder(raw)`, or why not. Never raises, whatever the bytes."""
    if raw is None:
        return Rejected(Reason.NOT_JSON, "")
    if len(raw) > RECORD_BYTES_MAX:
        return Rejected(Reason.TOO_LARGE, "")
    try:
        return decoder(raw)
    except msgspec.ValidationError as error:
        return _classify(str(error))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Rejected(Reason.NOT_JSON, "")


def _classify(message: str) -> Rejected:
    """msgspec says in words what was wrong; tests/unit/test_event.py holds it to these words."""
    at = _PATH.search(message)
    path = at.group(1) if at else ""
    missing = _MISSING.match(message)
    if missing:
        return Rejected(Reason.MISSING_FIELD, f"{path}.{missing.group(1)}" if path else missing.group(1))
    return Rejected(Reason.OUT_OF_RANGE if _BOUND.search(message) else Reason.WRONG_TYPE, path)
