"""Tolerance where producers' arithmetic ends: what is meant is clear, so it is adjusted, and counted.

Confidence up to 1e-3 outside 0..1 is clamped (a softmax in float32 gives 1.0000001), floats that are whole numbers
are integers (JavaScript and pandas write 640.0), null is absent. Anything else is refused as it is. Looked at only
when a record was refused, so well-formed records cost nothing; what is not adjusted keeps its bytes.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

CONFIDENCE_TOLERANCE = 1e-3
T = TypeVar("T")

_Fields = dict[str, Raw]
_fields_of: Callable[[bytes], _Fields] = msgspec.json.Decoder(_Fields).decode
_rows_of: Callable[[bytes], list[_Fields]] = msgspec.json.Decoder(list[_Fields]).decode
_INTEGRAL = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NULL = b"null"
_FLOAT_INTEGER_MAX = 2**53


class Adjustment(Enum):
    """What was adjusted. A closed set: it labels a metric."""

    CLAMPED = "confidence_clamped"
    INTEGRAL = "integral_float"
    NULL = "null_absent"


@dataclass(frozen=True, slots=True)
class Adjusted(Generic[T]):
    """A record that was accepted after adjustments, and how many of each."""

    value: T
    adjustments: Mapping[Adjustment, int]


@dataclass(frozen=True, slots=True)
class Leniency:
    """Where a kind of record may be adjusted, by the names of its fields."""

    integers: Collection[str] = ()  # whole numbers, where a float is one
    optional: Collection[str] = ()  # absent, where null is given
    objects: Mapping[str, "Leniency"] | None = None  # objects inside
    rows: Mapping[str, "Leniency"] | None = None  # lists of objects inside
    maps: Collection[str] = ()  # objects with any keys, whose nulls are absent
    shares: Collection[str] = ()  # numbers of 0..1, clamped where they are just outside


def adjusted(raw: bytes, leniency: Leniency) -> tuple[bytes, Counter[Adjustment]] | None:
    """The record with its adjustments, and how many of each; None if there is nothing to adjust. Never raises."""
    counts: Counter[Adjustment] = Counter()
    try:
        fields = _adjust(_fields_of(raw), leniency, counts)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return (msgspec.json.encode(fields), counts) if counts else None


def _adjust(fields: _Fields, leniency: Leniency, counts: Counter[Adjustment]) -> _Fields:
    out: _Fields = {}
    for name, value in fields.items():
        text = bytes(value)
        if text == _NULL and name in leniency.optional:
            counts[Adjustment.NULL] += 1
            continue
        if name in leniency.integers:
            text = _whole(text, counts)
        elif name in leniency.shares:
            text = _clamped(text, counts)
        elif text == _NULL:
            pass
        elif leniency.objects and name in leniency.objects:
            text = msgspec.json.encode(_adjust(_fields_of(text), leniency.objects[name], counts))
        elif leniency.rows and name in leniency.rows:
            inner = leniency.rows[name]
            text = msgspec.json.encode([_adjust(row, inner, counts) for row in _rows_of(text)])
        elif name in leniency.maps:
            text = msgspec.json.encode(_without_nulls(_fields_of(text), counts))
        out[name] = Raw(text)
    return out


def _without_nulls(fields: _Fields, counts: Counter[Adjustment]) -> _Fields:
    kept = {name: value for name, value in fields.items() if bytes(value) != _NULL}
    if len(kept) < len(fields):
        counts[Adjustment.NULL] += len(fields) - len(kept)
    return kept


def _whole(text: bytes, counts: Counter[Adjustment]) -> bytes:
    if text.removeprefix(b"-").isdigit() or not _INTEGRAL.fullmatch(text):
        return text
    number = float(text)
    if not number.is_integer() or abs(number) > _FLOAT_INTEGER_MAX:
        return text
    counts[Adjustment.INTEGRAL] += 1
    return str(int(number)).encode()


def _clamped(text: bytes, counts: Counter[Adjustment]) -> bytes:
    if not _INTEGRAL.fullmatch(text):
        return text
    number = float(text)
    if -CONFIDENCE_TOLERANCE <= number < 0 or 1 < number <= 1 + CONFIDENCE_TOLERANCE:
        counts[Adjustment.CLAMPED] += 1
        return b"0" if number < 0 else b"1"
    return text


def number_that_is_none(raw: bytes) -> str | None:
    """Where a record holds NaN or Infinity, which Python's json writes and JSON does not know: "path: NaN".

    None if that is not what is wrong with it.
    """
    if b"NaN" not in raw and b"Infinity" not in raw:
        return None
    try:
        found = _path_of_constant(json.loads(raw, parse_constant=_Constant))
    except (ValueError, RecursionError):
        return None
    return None if found is None else ": ".join((plain(found[0]), found[1]))


def plain(path: str) -> str:
    """A path with keys of other people's, as a field's path is: ASCII, and not long."""
    return path.encode("ascii", "backslashreplace").decode()[:200]


class _Constant(str):
    """NaN or Infinity, as it was written."""

    __slots__ = ()


def _path_of_constant(value: Any, path: str = "") -> tuple[str, str] | None:
    if isinstance(value, _Constant):
        return path, str(value)
    inside: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inside = [(f"{path}.{key}" if path else str(key), one) for key, one in value.items()]
    elif isinstance(value, list):
        inside = [(f"{path}[{i}]", one) for i, one in enumerate(value)]
    return next((found for at, one in inside if (found := _path_of_constant(one, at)) is not None), None)
