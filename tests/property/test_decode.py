"""Decoding never raises, whatever the bytes; what it accepts is within bounds and can be written again."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import event, heartbeat, metadata
from schemas.event import Image, InferenceEvent, Prediction, TimeLimits
from schemas.heartbeat import Heartbeat
from schemas.metadata import InferenceMetadata
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted

NOW_MS = 1_795_373_683_301
LIMITS = TimeLimits()
STRUCTS = (InferenceEvent, Prediction, Image, Heartbeat, InferenceMetadata)
NAMES = sorted({field.encode_name for struct in STRUCTS for field in msgspec.structs.fields(struct)})

text = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | text, inner, max_size=6),
    max_leaves=20,
)
predictions = st.fixed_dictionaries(
    {"class": st.text(min_size=1, max_size=10), "confidence": st.floats(0, 1)},
    optional={
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "width": st.integers(0, 10_000),
        "points": anything,
        "class_id": anything,
    },
)
events = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=128),
        "event_time_ms": st.integers(NOW_MS - LIMITS.age_ms_max, NOW_MS + LIMITS.ahead_ms_max),
        "workspace": st.text(min_size=1, max_size=10),
        "model_id": st.text(min_size=1, max_size=10),
    },
    optional={
        "schema": st.just(1),
        "latency_ms": st.none() | st.floats(0, event.LATENCY_MS_MAX),
        "predictions": st.lists(predictions, max_size=4),
        "metadata": st.dictionaries(st.text(max_size=10), st.text(max_size=10) | st.integers() | st.booleans()),
        "tags": st.lists(st.text(max_size=10), max_size=4),
        "image": st.fixed_dictionaries({}, optional={"width": st.integers(0, 1_000_000), "url": st.text()}),
    },
)


def as_json(value: Any) -> bytes:
    """As careless producers write it: NaN, Infinity and lone surrogates as Python spells them."""
    return json.dumps(value).encode()


def check_all(raw: bytes) -> None:
    """Every decoder answers, and what it accepts can be written as UTF-8 JSON and read again."""
    for decode, struct in (
        (lambda value: event.decode(value, NOW_MS, LIMITS), InferenceEvent),
        (heartbeat.decode, Heartbeat),
        (metadata.decode, InferenceMetadata),
    ):
        outcome = decode(raw)
        if isinstance(outcome, Rejected):
            assert isinstance(outcome.reason, Reason)
            assert outcome.field.isascii()
            continue
        value = outcome.value if isinstance(outcome, Adjusted) else outcome
        assert isinstance(value, struct)
        assert decode(msgspec.json.encode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(raw: bytes) -> None:
    check_all(raw)


@given(anything)
def test_any_json_is_answered(value: Any) -> None:
    check_all(as_json(value))


@given(events)
def test_a_valid_event_is_accepted_unless_what_it_keeps_is_not_json(value: dict[str, Any]) -> None:
    raw = as_json(value)
    outcome = event.decode(raw, NOW_MS, LIMITS)
    assert isinstance(outcome, InferenceEvent) or (isinstance(outcome, Rejected) and outcome.reason is Reason.NOT_JSON)
    check_all(raw)


@given(events, st.data())
def test_an_event_with_any_field_replaced_is_answered(value: dict[str, Any], data: st.DataObject) -> None:
    value[data.draw(st.sampled_from(NAMES))] = data.draw(anything)
    check_all(as_json(value))


@given(events, st.data())
def test_an_event_without_a_required_field_is_refused(value: dict[str, Any], data: st.DataObject) -> None:
    missing = data.draw(st.sampled_from(["event_id", "event_time_ms", "workspace", "model_id"]))
    del value[missing]
    assert isinstance(event.decode(as_json(value), NOW_MS, LIMITS), Rejected)


@given(events, st.data())
def test_an_event_with_damaged_bytes_is_answered(value: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(as_json(value))
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    check_all(bytes(raw))


@given(events, st.integers(1, 2000))
def test_a_truncated_event_is_not_json(value: dict[str, Any], cut: int) -> None:
    raw = as_json(value)
    assert event.decode(raw[: -min(cut, len(raw))], NOW_MS, LIMITS) == Rejected(Reason.NOT_JSON, "")


# So that the event's time stays within what a column holds.
@given(events, st.integers(LIMITS.age_ms_max - NOW_MS, event.TIME_MS_MAX - LIMITS.ahead_ms_max - NOW_MS))
def test_whether_an_event_is_accepted_depends_on_its_distance_in_time_only(
    value: dict[str, Any], shift_ms: int
) -> None:
    here = event.decode(as_json(value), NOW_MS, LIMITS)
    there = event.decode(
        as_json(value | {"event_time_ms": value["event_time_ms"] + shift_ms}), NOW_MS + shift_ms, LIMITS
    )
    assert isinstance(here, InferenceEvent) == isinstance(there, InferenceEvent)
