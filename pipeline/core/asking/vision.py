"""Questions about vision events. Of an event the last version counts; one that is deleted hides it.

A page is asked for in three steps, so that nothing large is read for nothing: the versions that a filter holds for, the
last version of each of these events, the bodies of those that are the last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from pipeline.core.asking.question import WORKSPACE, Question
from pipeline.core.asking.sql import PPM, Bound

PAGE_MAX = 500
FIELDS_MAX = 1000  # of a schema
NUMBERS: Mapping[str, str] = {"eq": "=", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
TEXTS = ("eq", "neq", "contains")
COLUMNS: Mapping[str, str] = {
    "deviceId": "device_id",
    "streamId": "stream_id",
    "workflowId": "workflow_id",
    "externalId": "external_id",
}
MAPS: Mapping[str, str] = {
    "customMetadataFilters": "custom_metadata",
    "imageMetadataFilters": "image_metadata",
    "eventFieldFilters": "event_data",
}


@dataclass(frozen=True, slots=True)
class ValueAsked:
    """A column, or with a key a value of a map, against a value. A map's value that is not there is unequal to any."""

    column: str
    operator: str
    value: str | float | bool
    key: str = ""


@dataclass(frozen=True, slots=True)
class Detected:
    """There is a detection like this."""

    class_name: str | None
    confidence_min: float = 0.0


@dataclass(frozen=True, slots=True)
class VisionPage:
    """Which events; `after`: time and id of the last one of the page before (newest first)."""

    use_case_id: str
    start_ms: int
    end_ms: int
    event_types: tuple[str, ...] = ()
    comparisons: tuple[ValueAsked, ...] = ()
    detected: tuple[Detected, ...] = ()
    with_warnings: bool | None = None
    after: tuple[int, str] | None = None
    limit: int = 50


def page(asked: VisionPage) -> Question:
    """Of each version that fits, one more than the limit: event_id, event_time, kafka_time, kafka_offset, bytes."""
    bound = Bound()
    parts = [
        f"workspace = {WORKSPACE} AND use_case_id = {bound.text(asked.use_case_id)} AND deleted = 0",
        _between(asked.start_ms, asked.end_ms, bound),
    ]
    if asked.event_types:
        parts.append(f"event_type IN ({', '.join(map(bound.text, asked.event_types))})")
    parts += [_comparison(one, bound) for one in asked.comparisons]
    parts += [_detected(one, bound) for one in asked.detected]
    if asked.with_warnings is not None:
        parts.append("notEmpty(warnings)" if asked.with_warnings else "empty(warnings)")
    if asked.after is not None:
        time_ms, event_id = asked.after
        parts.append(f"(event_time, event_id) < ({_time(time_ms, bound)}, {bound.text(event_id)})")
    conditions = " AND ".join(f"({part})" for part in parts)
    text = (
        f"SELECT event_id, {_ms('event_time')}, {_ms('kafka_time')}, kafka_offset, length(body) FROM vision_events "
        f"WHERE {conditions} ORDER BY event_time DESC, event_id DESC, kafka_time DESC, kafka_offset DESC "
        f"LIMIT {asked.limit + 1}"
    )
    return Question(text, bound.parameters)


def last_versions(event_ids: Sequence[str]) -> Question:
    """Of each event that there is: event_id, kafka_time, kafka_offset, use_case_id, whether deleted, event_time."""
    bound, version = Bound(), "(kafka_time, kafka_offset)"
    text = (
        f"SELECT event_id, {_ms('max(kafka_time)')}, argMax(kafka_offset, {version}), argMax(use_case_id, {version}), "
        f"argMax(deleted, {version}), {_ms(f'argMax(event_time, {version})')} FROM vision_events "
        f"WHERE workspace = {WORKSPACE} AND event_id IN {_texts(event_ids, bound)} GROUP BY event_id"
    )
    return Question(text, bound.parameters)


def bodies(asked: VisionPage, versions: Sequence[tuple[str, int]]) -> Question:
    """Of versions (event_id, kafka_offset): event_id, kafka_offset, body, warnings."""
    bound = Bound()
    offsets = bound.text(orjson.dumps([offset for _, offset in versions]).decode())
    text = (
        "SELECT event_id, kafka_offset, body, warnings FROM vision_events "
        f"WHERE workspace = {WORKSPACE} AND use_case_id = {bound.text(asked.use_case_id)} "
        f"AND {_between(asked.start_ms, asked.end_ms, bound)} "
        f"AND event_id IN {_texts([name for name, _ in versions], bound)} "
        f"AND kafka_offset IN JSONExtract({offsets}, 'Array(UInt64)')"
    )
    return Question(text, bound.parameters)


def event_counts() -> Question:
    """Of each use case: use_case_id, how many events."""
    return Question(
        "SELECT use_case_id, uniqExact(event_id) - uniqExactIf(event_id, deleted) FROM vision_events "
        f"WHERE workspace = {WORKSPACE} GROUP BY use_case_id"
    )


def fields(use_case_id: str, column: str) -> Question:
    """What metadata the events of a use case have: name, types."""
    bound = Bound()
    text = (
        "SELECT name, arraySort(groupUniqArray("
        "multiIf(startsWith(text, '\"'), 'string', text IN ('true', 'false'), 'boolean', 'number'))) "
        f"FROM vision_events ARRAY JOIN mapKeys({column}) AS name, mapValues({column}) AS text "
        f"WHERE workspace = {WORKSPACE} AND use_case_id = {bound.text(use_case_id)} AND deleted = 0 "
        f"GROUP BY name ORDER BY name LIMIT {FIELDS_MAX}"
    )
    return Question(text, bound.parameters)


def _comparison(one: ValueAsked, bound: Bound) -> str:
    if not one.key:
        assert isinstance(one.value, str)
        return f"{one.column} {NUMBERS[one.operator]} {bound.text(one.value)}"
    found = f"{one.column}[{bound.text(one.key)}]"
    if isinstance(one.value, str) and one.operator == "contains":
        return f"positionCaseInsensitiveUTF8(JSONExtractString({found}), {bound.text(one.value)}) > 0"
    if isinstance(one.value, bool | str):
        return f"{found} {NUMBERS[one.operator]} {bound.text(orjson.dumps(one.value).decode())}"
    number = f"toFloat64OrNull({found}) {NUMBERS[one.operator]} {bound.number(one.value)}"
    return f"ifNull({number}, {int(one.operator == 'neq')})"


def _detected(one: Detected, bound: Bound) -> str:
    name = f"c = {bound.text(one.class_name)} AND " if one.class_name is not None else ""
    return f"arrayExists((c, p) -> {name}p >= {bound.number(one.confidence_min * PPM)}, classes, confidences_ppm)"


def _between(start_ms: int, end_ms: int, bound: Bound) -> str:
    return f"event_time >= {_time(start_ms, bound)} AND event_time < {_time(end_ms, bound)}"


def _time(time_ms: int, bound: Bound) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({bound.text(str(time_ms))}), 'UTC')"


def _ms(column: str) -> str:
    return f"toUnixTimestamp64Milli({column})"


def _texts(values: Sequence[str], bound: Bound) -> str:
    """A list of texts as one value."""
    return f"JSONExtract({bound.text(orjson.dumps(list(values)).decode())}, 'Array(String)')"
