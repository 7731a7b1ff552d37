"""What POST /vision-events/query asks for. Pure. What is not understood is refused by its name, never left out."""

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from pipeline.core.asking.vision import COLUMNS, MAPS, NUMBERS, PAGE_MAX, TEXTS, Detected, ValueAsked, VisionPage
from pipeline.web.asgi import Refused
from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.vision.given import moment_ms
from pipeline.web.roboflow.vision.translation import TYPES

TYPES_MAX, FILTERS_MAX = 20, 50
DAY_MS = 86_400_000
DETECTIONS = "detectionFilters"
_KNOWN = {
    "useCaseId", "startTime", "endTime", "eventType", "eventTypes", "cursor", "limit", "hasWarnings", DETECTIONS,
    *COLUMNS, *MAPS,
}  # fmt: skip


def asked_of(body: Any, now_ms: int, lookback_days: int) -> VisionPage:
    """The page that is asked for. Raises Refused (400)."""
    if not isinstance(body, dict):
        raise _wrong("", "the body is an object with a useCaseId")
    if unknown := sorted(set(body) - _KNOWN):
        raise _wrong(unknown[0], f"it is not known here; known are {', '.join(sorted(_KNOWN))}")
    given = {name: value for name, value in body.items() if value is not None}
    comparisons = [_of_column(name, given[name]) for name in COLUMNS if name in given]
    for name, column in MAPS.items():
        comparisons += _rows(given, name, partial(_of_map, name, column))
    return VisionPage(
        use_case_id=_text(given, "useCaseId"),
        start_ms=_moment(given, "startTime", now_ms - lookback_days * DAY_MS),
        end_ms=_moment(given, "endTime", now_ms + 2 * DAY_MS),
        event_types=_types(given),
        comparisons=tuple(comparisons),
        detected=tuple(_rows(given, DETECTIONS, _detected)),
        with_warnings=_flag(given, "hasWarnings"),
        after=_after(given),
        limit=_limit(given),
    )


def cursor_of(time_ms: int, event_id: str) -> str:
    """Where the next page begins."""
    return base64.urlsafe_b64encode(orjson.dumps([time_ms, event_id])).decode()


def _after(given: Mapping[str, Any]) -> tuple[int, str] | None:
    if "cursor" not in given:
        return None
    try:
        time_ms, event_id = orjson.loads(base64.urlsafe_b64decode(given["cursor"]))
    except (ValueError, TypeError, binascii.Error):
        raise _wrong("cursor", "it is the nextCursor of a page, as it was") from None
    if type(time_ms) is not int or not isinstance(event_id, str) or abs(time_ms) > 1 << 45:
        raise _wrong("cursor", "it is the nextCursor of a page, as it was")
    return time_ms, event_id


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(name, "a text")
    return value


def _moment(given: Mapping[str, Any], name: str, usual: int) -> int:
    if name not in given:
        return usual
    found = moment_ms(given[name])
    if found is None or not 0 <= found < 1 << 42:
        raise _wrong(name, "a time as ISO 8601, such as 2026-11-22T19:06:41Z")
    return found


def _types(given: Mapping[str, Any]) -> tuple[str, ...]:
    found = given.get("eventTypes", [])
    if not isinstance(found, list) or len(found) > TYPES_MAX:
        raise _wrong("eventTypes", f"a list of at most {TYPES_MAX}")
    types = [*found, *([given["eventType"]] if "eventType" in given else [])]
    if wrong := [one for one in types if one not in TYPES]:
        raise _wrong("eventType", f"{str(wrong[0])[:50]!r} is none of {', '.join(TYPES)}")
    return tuple(types)


def _flag(given: Mapping[str, Any], name: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def _limit(given: Mapping[str, Any]) -> int:
    value = given.get("limit", 50)
    if type(value) is not int or not 1 <= value <= PAGE_MAX:
        raise _wrong("limit", f"1 to {PAGE_MAX}")
    return value


def _rows(given: Mapping[str, Any], name: str, made: Callable[[dict[str, Any]], Any]) -> list[Any]:
    rows = given.get(name, [])
    if not isinstance(rows, list) or len(rows) > FILTERS_MAX or not all(isinstance(row, dict) for row in rows):
        raise _wrong(name, f"a list of at most {FILTERS_MAX} objects")
    return [made(row) for row in rows]


def _of_column(name: str, given: Any) -> ValueAsked:
    """`{"operator": "eq", "value": "cam-7"}`, or the value alone."""
    row = given if isinstance(given, dict) else {"value": given}
    operator, value = row.get("operator", "eq"), row.get("value")
    if operator not in ("eq", "neq") or not isinstance(value, str):
        raise _wrong(name, "an operator (eq, neq) and a value (a text)")
    return ValueAsked(COLUMNS[name], operator, value)


def _of_map(name: str, column: str, row: Mapping[str, Any]) -> ValueAsked:
    key, operator = row.get("field", row.get("column")), row.get("operator", "eq")
    value: Any = row.get("value")
    if row.get("type") == "number" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _wrong(name, f"{value[:50]!r} is no number") from None
    if not isinstance(key, str) or not key:
        raise _wrong(name, "a field (or column), an operator and a value")
    if isinstance(value, bool | str):
        allowed: tuple[str, ...] = TEXTS if isinstance(value, str) else ("eq", "neq")
    elif shapes.number(value) is not None:
        allowed = tuple(NUMBERS)
    else:
        raise _wrong(name, "a value that is a text, a number, or true or false")
    if operator not in allowed:
        raise _wrong(name, f"{str(operator)[:50]!r} is none of {', '.join(allowed)}")
    return ValueAsked(column, operator, value, key)


def _detected(row: Mapping[str, Any]) -> Detected:
    name, least = row.get("class"), row.get("confidence", 0)
    if unknown := sorted(set(row) - {"class", "confidence"}):
        raise _wrong(DETECTIONS, f"{unknown[0][:50]!r} is not known: class, and confidence (the least)")
    if (name is not None and not isinstance(name, str)) or shapes.number(least) is None:
        raise _wrong(DETECTIONS, "class is a text, confidence a number of 0 to 1")
    return Detected(name, float(least))


def _wrong(field: str, why: str) -> Refused:
    return Refused(400, "out_of_range", f"{field}: {why}" if field else why)
