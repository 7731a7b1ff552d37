"""Bad input as a value: why a record was refused, and the decoding that never raises.

`Reason` is a closed set: it labels a metric and heads a dead letter.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import TypeVar

import msgspec

from schemas.tolerance import Adjusted, Leniency, adjusted, number_that_is_none

RECORD_BYTES_MAX = 1 << 20  # 1 MiB
NESTING_MAX = 500  # lists and objects inside each other

T = TypeVar("T")


class Reason(Enum):
    """Why a record was refused."""

    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"  # a number, a length, a count or a choice outside its bounds
    TOO_LARGE = "too_large"  # the record, in bytes or in nesting
    UNKNOWN_SCHEMA = "unknown_schema"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refused record: the reason, and the field as a path: "predictions[0].confidence"; "" is the whole."""

    reason: Reason
    field: str


_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(.*?)`")
_BOUND = re.compile(
    r"^(?:Expected `.*?` (?:(?:of length )?[<>]=? |matching regex |that's a multiple of )"
    r"|Invalid enum value |(?:Number|Integer value) out of range)"
)
# A string without an end goes to the end of the record: otherwise the search would be quadratic.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEP)


def decode_leniently(
    decoder: Callable[[bytes], T], raw: bytes | None, leniency: Leniency
) -> T | Adjusted[T] | Rejected:
    """`decoder(raw)`, of the record as it is or as it can be adjusted, or why not. Never raises, whatever the bytes."""
    value = decode_or_reject(decoder, raw)
    if not isinstance(value, Rejected) or raw is None or value.reason is Reason.TOO_LARGE:
        return value
    if value.reason is Reason.NOT_JSON:
        return Rejected(Reason.NOT_JSON, number_that_is_none(raw) or value.field)
    found = adjusted(raw, leniency)
    if found is None:
        return value
    again = decode_or_reject(decoder, found[0])
    return again if isinstance(again, Rejected) else Adjusted(again, found[1])


def decode_or_reject(
    decoder: Callable[[bytes], T], raw: bytes | None, *, bytes_max: int = RECORD_BYTES_MAX
) -> T | Rejected:
    """`decoder(raw)`, or why not. Never raises, whatever the bytes."""
    if raw is None:
        return Rejected(Reason.NOT_JSON, "")
    if len(raw) > bytes_max or _nested_too_deep(raw):
        return Rejected(Reason.TOO_LARGE, "")
    try:
        if not raw.isascii():
            raw.decode()  # msgspec does not look into what it skips or keeps raw; who reads it later must
        return decoder(raw)
    except msgspec.ValidationError as error:
        return classify(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Rejected(Reason.NOT_JSON, "")


def _nested_too_deep(raw: bytes) -> bool:
    """Whether lists and objects are nested deeper than NESTING_MAX.

    msgspec itself gives up when the interpreter's stack is full: whether a record is accepted would then
    depend on who calls, and two workers could disagree about it.
    """
    # Almost every record leaves here. If deep but no longer than this, it lacks closing brackets: not JSON.
    if len(raw) <= 2 * NESTING_MAX or raw.count(b"[") + raw.count(b"{") <= NESTING_MAX:
        return False
    brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    return max(accumulate(_STEP[bracket] for bracket in brackets), default=0) > NESTING_MAX


def classify(message: str) -> Rejected:
    """msgspec says in words what was wrong; tests/unit/test_rejection.py holds it to these words."""
    at = _PATH.search(message)
    path = at.group(1) if at else ""
    missing = _MISSING.match(message)
    if missing:
        return Rejected(Reason.MISSING_FIELD, f"{path}.{missing.group(1)}" if path else missing.group(1))
    return Rejected(Reason.OUT_OF_RANGE if _BOUND.match(message) else Reason.WRONG_TYPE, path)
