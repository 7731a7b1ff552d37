"""Which inference events are accepted, and why the others are not."""

from typing import Any

import msgspec
import orjson
import pytest
from msgspec import UNSET, Raw

from schemas.event import LATENCY_MS_MAX, Image, InferenceEvent, Prediction, TimeLimits, decode
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted

NOW_MS = 1_795_373_683_301
LIMITS = TimeLimits()
SMALLEST = {"event_id": "e", "event_time_ms": NOW_MS, "workspace": "w", "model_id": "m"}
PERSON = {"class": "person", "confidence": 0.91}
HUGE = 10**40


def read(**fields: Any) -> InferenceEvent | Rejected:
    """What becomes of the smallest event with these fields."""
    found = decode(msgspec.json.encode(SMALLEST | fields), NOW_MS, LIMITS)
    assert not isinstance(found, Adjusted)
    return found


def without(field: str) -> bytes:
    return orjson.dumps({name: value for name, value in SMALLEST.items() if name != field})


def test_the_smallest_event_has_four_fields() -> None:
    assert read() == InferenceEvent("e", NOW_MS, "w", "m")


def test_a_full_event_is_read_as_it_was_sent() -> None:
    box = {"x": 100.0, "y": 90.5, "width": 60, "height": 61}
    event = read(
        schema=1,
        device_id="cam-7",
        latency_ms=43.2,
        predictions=[PERSON | box],
        error=None,
        image={"width": 640, "height": 480, "url": "https://images.example/1.jpg"},
        metadata={"site": "s1", "line": 4, "share": 0.5, "night": True},
        tags=["edge"],
        source="roboflow",
        deployment="edge",
        server_version="1.8.3",
    )
    assert event == InferenceEvent(
        "e",
        NOW_MS,
        "w",
        "m",
        schema=1,
        device_id="cam-7",
        latency_ms=43.2,
        predictions=[Prediction("person", 0.91, 100.0, 90.5, 60.0, 61.0)],
        image=Image(640, 480, "https://images.example/1.jpg"),
        metadata={"site": "s1", "line": 4, "share": 0.5, "night": True},
        tags=["edge"],
        source="roboflow",
        deployment="edge",
        server_version="1.8.3",
    )


@pytest.mark.parametrize("field", SMALLEST)
def test_each_of_the_four_is_required(field: str) -> None:
    assert decode(without(field), NOW_MS, LIMITS) == Rejected(Reason.MISSING_FIELD, field)


@pytest.mark.parametrize(
    "fields",
    [
        {"event_id": "a" * 128},
        {"workspace": "w" * 256, "model_id": "é" * 256},  # characters, not bytes
        {"latency_ms": 0},
        {"latency_ms": -0.0},
        {"latency_ms": LATENCY_MS_MAX},
        {"latency_ms": None},
        {"predictions": []},
        {"predictions": [{"class": "c" * 256, "confidence": 0}, {"class": "c", "confidence": 1}]},
        {"predictions": [PERSON | {"x": None, "y": -1e300}]},
        {"device_id": ""},
        {"device_id": "d" * 256, "source": "s" * 256, "deployment": "d" * 256, "server_version": "v" * 256},
        {"error": "e" * 10_000},
        {"image": {}},
        {"image": {"width": 0, "height": 1_000_000, "url": "u" * 4096}},
        {"metadata": {}},
        {"metadata": {"k" * 100: "v" * 1000}},
        {"metadata": {str(i): i for i in range(100)}},
        {"metadata": {"id": HUGE, "": ""}},
        {"tags": ["t" * 100] * 100},
        {"unknown": {"deep": [1, {"er": None}]}},
        {"predictions": [PERSON | {"unknown": 1}], "image": {"unknown": 1}},
    ],
    ids=str,
)
def test_up_to_its_bounds_an_event_is_accepted(fields: dict[str, Any]) -> None:
    assert isinstance(read(**fields), InferenceEvent)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": "a" * 129}, "event_id"),
        ({"workspace": ""}, "workspace"),
        ({"workspace": "w" * 257}, "workspace"),
        ({"model_id": ""}, "model_id"),
        ({"model_id": "m" * 257}, "model_id"),
        ({"event_time_ms": HUGE}, "event_time_ms"),
        ({"event_time_ms": -HUGE}, "event_time_ms"),
        ({"event_time_ms": 0}, "event_time_ms"),
        ({"latency_ms": -0.001}, "latency_ms"),
        ({"latency_ms": LATENCY_MS_MAX + 1}, "latency_ms"),
        ({"latency_ms": HUGE}, "latency_ms"),
        ({"predictions": [PERSON | {"confidence": 1.01}]}, "predictions[0].confidence"),
        ({"predictions": [PERSON, PERSON | {"confidence": -0.1}]}, "predictions[1].confidence"),
        ({"predictions": [PERSON | {"class": ""}]}, "predictions[0].class"),
        ({"predictions": [PERSON | {"class": "c" * 257}]}, "predictions[0].class"),
        ({"device_id": "d" * 257}, "device_id"),
        ({"source": "s" * 257}, "source"),
        ({"deployment": "d" * 257}, "deployment"),
        ({"server_version": "v" * 257}, "server_version"),
        ({"error": "e" * 10_001}, "error"),
        ({"image": {"width": -1}}, "image.width"),
        ({"image": {"height": 1_000_001}}, "image.height"),
        ({"image": {"url": "u" * 4097}}, "image.url"),
        ({"metadata": {"k" * 101: 1}}, "metadata"),
        ({"metadata": {str(i): i for i in range(101)}}, "metadata"),
        ({"metadata": {"k": "v" * 1001}}, "metadata[k]"),
        ({"tags": ["t"] * 101}, "tags"),
        ({"tags": ["", "t" * 101]}, "tags[1]"),
    ],
    ids=str,
)
def test_beyond_its_bounds_an_event_is_refused(fields: dict[str, Any], field: str) -> None:
    assert read(**fields) == Rejected(Reason.OUT_OF_RANGE, field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_id": 1}, "event_id"),
        ({"event_id": None}, "event_id"),
        ({"event_time_ms": "1795373683301"}, "event_time_ms"),
        ({"event_time_ms": NOW_MS + 0.5}, "event_time_ms"),
        ({"event_time_ms": True}, "event_time_ms"),
        ({"event_time_ms": None}, "event_time_ms"),
        ({"workspace": []}, "workspace"),
        ({"model_id": {}}, "model_id"),
        ({"schema": "1"}, "schema"),
        ({"latency_ms": "43"}, "latency_ms"),
        ({"latency_ms": False}, "latency_ms"),
        ({"predictions": PERSON}, "predictions"),
        ({"predictions": ["person"]}, "predictions[0]"),
        ({"predictions": [PERSON, PERSON | {"confidence": "0.9"}]}, "predictions[1].confidence"),
        ({"predictions": [PERSON | {"class": 0}]}, "predictions[0].class"),
        ({"predictions": [PERSON | {"x": "1"}]}, "predictions[0].x"),
        ({"device_id": 7}, "device_id"),
        ({"error": {"code": 1}}, "error"),
        ({"image": "1.jpg"}, "image"),
        ({"image": {"width": 640.5}}, "image.width"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"k": {"not": "flat"}}}, "metadata[k]"),
        ({"metadata": {"k": [1]}}, "metadata[k]"),
        ({"tags": "edge"}, "tags"),
        ({"tags": [1]}, "tags[0]"),
        ({"source": 1}, "source"),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_refused(fields: dict[str, Any], field: str) -> None:
    assert read(**fields) == Rejected(Reason.WRONG_TYPE, field)


@pytest.mark.parametrize("field", ["class", "confidence"])
def test_a_prediction_needs_class_and_confidence(field: str) -> None:
    prediction = {name: value for name, value in PERSON.items() if name != field}
    assert read(predictions=[PERSON, prediction]) == Rejected(Reason.MISSING_FIELD, f"predictions[1].{field}")


@pytest.mark.parametrize("version", [0, 2, -1, HUGE])
def test_another_schema_version_is_refused(version: int) -> None:
    assert read(schema=version) == Rejected(Reason.UNKNOWN_SCHEMA, "schema")


@pytest.mark.parametrize(
    ("story", "ahead_ms", "accepted"),
    [
        ("at the broker's time", 0, True),
        ("as old as may be", -LIMITS.age_ms_max, True),
        ("older", -LIMITS.age_ms_max - 1, False),
        ("as far ahead as may be", LIMITS.ahead_ms_max, True),
        ("further ahead", LIMITS.ahead_ms_max + 1, False),
    ],
)
def test_an_events_time_lies_near_its_records(story: str, ahead_ms: int, accepted: bool) -> None:
    event = read(event_time_ms=NOW_MS + ahead_ms)
    assert isinstance(event, InferenceEvent) == accepted, story
    assert accepted or event == Rejected(Reason.OUT_OF_RANGE, "event_time_ms"), story


def test_the_time_limits_are_the_callers() -> None:
    raw = msgspec.json.encode(SMALLEST | {"event_time_ms": NOW_MS - 11})
    assert isinstance(decode(raw, NOW_MS, TimeLimits(age_ms_max=11)), InferenceEvent)
    assert isinstance(decode(raw, NOW_MS, TimeLimits(age_ms_max=10)), Rejected)


def test_the_rest_of_a_detection_is_kept_as_it_was_given() -> None:
    rest = b'"class_id": 1e0, "detection_id":null, "points":[ {"x":2.50} ], "keypoints":"any", "tracker_id":{}'
    raw = orjson.dumps(SMALLEST)[:-1] + b', "predictions":[{"class":"c","confidence":1,' + rest + b"}]}"
    event = decode(raw, NOW_MS, LIMITS)
    assert isinstance(event, InferenceEvent)
    [detection] = event.predictions
    kept = [
        detection.class_id,
        detection.detection_id,
        detection.points,
        detection.keypoints,
        detection.tracker_id,
    ]
    assert kept == [Raw(b"1e0"), Raw(b"null"), Raw(b'[ {"x":2.50} ]'), Raw(b'"any"'), Raw(b"{}")]


def test_what_a_detection_was_not_given_is_unset() -> None:
    event = read(predictions=[PERSON])
    assert isinstance(event, InferenceEvent)
    assert event.predictions[0].points is UNSET


def test_a_record_without_a_value_is_refused() -> None:
    assert decode(None, NOW_MS, LIMITS) == Rejected(Reason.NOT_JSON, "")


def test_a_deeply_nested_detection_is_refused() -> None:
    points = Raw(b"[" * 100_000 + b"]" * 100_000)
    assert read(predictions=[PERSON | {"points": points}]) == Rejected(Reason.TOO_LARGE, "")
