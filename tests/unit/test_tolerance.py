"""Payloads of some 100 kinds, as real producers make them: accepted, adjusted and counted, or refused, with place."""

import json
from typing import Any

import msgspec
import pytest

from schemas import event, heartbeat, metadata
from schemas.event import TimeLimits
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted, Adjustment, number_that_is_none

NOW_MS = 1_795_863_847_073
CLAMPED, WHOLE, NULL = Adjustment.CLAMPED, Adjustment.INTEGRAL, Adjustment.NULL
SMALLEST = {"event_id": "e", "event_time_ms": NOW_MS, "workspace": "w", "model_id": "m"}
FLOAT32_ONE_AND_AN_ULP = 1.0000001192092896


def event_with(**fields: Any) -> bytes:
    """The smallest event with these fields; Python's json, which writes NaN."""
    return json.dumps({**SMALLEST, **fields}).encode()


def seen(**fields: Any) -> dict[str, Any]:
    """An event with one detection."""
    return {"predictions": [{"class": "person", "confidence": 0.5, **fields}]}


def read(raw: bytes) -> Any:
    return event.decode(raw, NOW_MS, TimeLimits())


GOOD = {"class": "person", "confidence": 0.5}

ADJUSTED: list[tuple[str, dict[str, Any], dict[Adjustment, int]]] = [
    ("a softmax in float32", seen(confidence=FLOAT32_ONE_AND_AN_ULP), {CLAMPED: 1}),
    ("the largest that is meant as one", seen(confidence=1.001), {CLAMPED: 1}),
    ("a little under nothing", seen(confidence=-1e-9), {CLAMPED: 1}),
    ("the least that is meant as nothing", seen(confidence=-0.001), {CLAMPED: 1}),
    ("an exponent", seen(confidence=-1e-300), {CLAMPED: 1}),
    ("several detections", {"predictions": [{"class": "a", "confidence": 1.0001}] * 3}, {CLAMPED: 3}),
    ("a width of pandas", {"image": {"width": 640.0}}, {WHOLE: 1}),
    ("both sides", {"image": {"width": 640.0, "height": 480.0}}, {WHOLE: 2}),
    ("a side of JavaScript", {"image": {"width": 6.4e2}}, {WHOLE: 1}),
    ("a time in float milliseconds", {"event_time_ms": float(NOW_MS)}, {WHOLE: 1}),
    ("a schema of a float", {"schema": 1.0}, {WHOLE: 1}),
    ("no predictions", {"predictions": None}, {NULL: 1}),
    ("no schema", {"schema": None}, {NULL: 1}),
    ("metadata without a value", {"metadata": {"a": None}}, {NULL: 1}),
    ("some metadata without values", {"metadata": {"a": None, "b": 1, "c": None}}, {NULL: 2}),
    (
        "all at once",
        {**seen(confidence=1.0005), "metadata": {"a": None}, "image": {"height": 1.0}},
        {CLAMPED: 1, NULL: 1, WHOLE: 1},
    ),
]


@pytest.mark.parametrize(("why", "fields", "counts"), ADJUSTED, ids=[row[0] for row in ADJUSTED])
def test_what_is_meant_is_adjusted_and_counted(why: str, fields: dict[str, Any], counts: dict[Adjustment, int]) -> None:
    found = read(event_with(**fields))
    assert isinstance(found, Adjusted), why
    assert dict(found.adjustments) == counts


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("one", seen(confidence=1)),
    ("nothing", seen(confidence=0)),
    ("minus nothing", seen(confidence=-0.0)),
    ("no box", seen(x=None, y=None, width=None, height=None)),
    ("a box outside the image", seen(x=-5.5, y=1e6)),
    ("ids of any kind", seen(class_id=3, tracker_id="t", detection_id=None)),
    ("a class id of a float", seen(class_id=3.0)),
    ("points as pairs", seen(points=[[1.5, 2], [3, 4.25]])),
    ("points as objects", seen(points=[{"x": 1, "y": 2}] * 500)),
    ("keypoints", seen(keypoints=[{"x": 1, "y": 2, "confidence": 1.5}])),
    ("5,000 detections", {"predictions": [{"class": "a", "confidence": 0.25}] * 5000}),
    ("an empty list", {"predictions": []}),
    ("no image", {"image": None}),
    ("an image without size", {"image": {"url": "s3://a/b.jpg"}}),
    ("an image of nothing", {"image": {"width": 0, "height": 0}}),
    ("no metadata", {"metadata": None}),
    ("metadata of all kinds", {"metadata": {"a": "x", "b": 1, "c": 1.5, "d": True}}),
    ("a metadata number beyond 64 bits", {"metadata": {"a": 2.0**70}}),
    ("no tags", {"tags": None}),
    ("no device", {"device_id": None}),
    ("an empty device", {"device_id": ""}),
    ("no latency", {"latency_ms": None}),
    ("a latency of nothing", {"latency_ms": 0}),
    ("a whole latency", {"latency_ms": 43}),
    ("no error", {"error": None}),
    ("an unknown field", {"colour": "red"}),
    ("unknown nesting", {"extra": {"a": [1, {"b": None}]}}),
    ("emoji", {"model_id": "👩‍🚒/3"}),
    ("256 characters of four bytes", {"model_id": "🦺" * 256}),
    ("HTML", {"device_id": "<b>&amp;</b>"}),
    ("SQL", {"workspace": "w'; DROP TABLE inferences; --"}),
    ("CR LF", {"device_id": "a\r\nb"}),
    ("NUL", {"device_id": "a\0b"}),
    ("right to left", {"device_id": "\u202eabc"}),
]


@pytest.mark.parametrize(("why", "fields"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_what_is_well_formed_is_taken_as_it_is(why: str, fields: dict[str, Any]) -> None:
    assert isinstance(read(event_with(**fields)), event.InferenceEvent), why


WRONG, MISSING, RANGE = Reason.WRONG_TYPE, Reason.MISSING_FIELD, Reason.OUT_OF_RANGE
REFUSED: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("a percentage", seen(confidence=91.0), RANGE, "predictions[0].confidence"),
    ("just beyond tolerance", seen(confidence=1.0011), RANGE, "predictions[0].confidence"),
    ("less than nothing", seen(confidence=-0.5), RANGE, "predictions[0].confidence"),
    ("a confidence in words", seen(confidence="0.9"), WRONG, "predictions[0].confidence"),
    ("no confidence", seen(confidence=None), WRONG, "predictions[0].confidence"),
    (
        "one bad among good",
        {"predictions": [seen()["predictions"][0], {"class": "a"}]},
        MISSING,
        "predictions[1].confidence",
    ),
    ("an adjusted and a bad one", {**seen(confidence=1.0001), "latency_ms": -1}, RANGE, "latency_ms"),
    ("no class", {"predictions": [{"confidence": 0.5}]}, MISSING, "predictions[0].class"),
    ("a class of a number", {"predictions": [{"class": 7, "confidence": 0.5}]}, WRONG, "predictions[0].class"),
    ("an empty class", {"predictions": [{"class": "", "confidence": 0.5}]}, RANGE, "predictions[0].class"),
    ("predictions as an object", {"predictions": {"a": 1}}, WRONG, "predictions"),
    ("predictions as a text", {"predictions": "none"}, WRONG, "predictions"),
    ("a prediction of null", {"predictions": [None]}, WRONG, "predictions[0]"),
    ("a width in words", {"image": {"width": "640"}}, WRONG, "image.width"),
    ("Undefined", {"image": {"width": "Undefined"}}, WRONG, "image.width"),
    ("half a pixel", {"image": {"width": 640.5}}, WRONG, "image.width"),
    ("a negative side", {"image": {"height": -1.0}}, RANGE, "image.height"),
    ("a time with a fraction", {"event_time_ms": NOW_MS + 0.5}, WRONG, "event_time_ms"),
    ("a time in seconds", {"event_time_ms": NOW_MS // 1000}, RANGE, "event_time_ms"),
    ("a time in nanoseconds", {"event_time_ms": NOW_MS * 10**6}, RANGE, "event_time_ms"),
    ("a time in words", {"event_time_ms": "2026-11-28T14:00:00Z"}, WRONG, "event_time_ms"),
    ("a time far ahead", {"event_time_ms": NOW_MS + 3_600_000}, RANGE, "event_time_ms"),
    ("a time long ago", {"event_time_ms": NOW_MS - 40 * 86_400_000}, RANGE, "event_time_ms"),
    ("no time", {"event_time_ms": None}, WRONG, "event_time_ms"),
    ("no id", {"event_id": None}, WRONG, "event_id"),
    ("an empty id", {"event_id": ""}, RANGE, "event_id"),
    ("an id of a number", {"event_id": 7}, WRONG, "event_id"),
    ("a long id", {"event_id": "x" * 129}, RANGE, "event_id"),
    ("no workspace", {"workspace": None}, WRONG, "workspace"),
    ("a long model", {"model_id": "m" * 257}, RANGE, "model_id"),
    ("a negative latency", {"latency_ms": -0.001}, RANGE, "latency_ms"),
    ("a latency of years", {"latency_ms": 1e12}, RANGE, "latency_ms"),
    ("a latency in words", {"latency_ms": "43 ms"}, WRONG, "latency_ms"),
    ("nested metadata", {"metadata": {"a": {"b": 1}}}, WRONG, "metadata[a]"),
    ("a list in metadata", {"metadata": {"ok": 1, "bad key": [1]}}, WRONG, "metadata[bad key]"),
    ("long metadata", {"metadata": {"a": "x" * 1001}}, RANGE, "metadata[a]"),
    ("too much metadata", {"metadata": {f"k{i}": i for i in range(101)}}, RANGE, "metadata"),
    ("metadata as a list", {"metadata": ["a"]}, WRONG, "metadata"),
    ("tags as a text", {"tags": "edge"}, WRONG, "tags"),
    ("an unknown version", {"schema": 2}, Reason.UNKNOWN_SCHEMA, "schema"),
    ("NaN", seen(confidence=float("nan")), Reason.NOT_JSON, "predictions[0].confidence: NaN"),
    ("Infinity", {"latency_ms": float("inf")}, Reason.NOT_JSON, "latency_ms: Infinity"),
    ("NaN in points", seen(points=[[1, float("nan")]]), Reason.NOT_JSON, "predictions[0].points[0][1]: NaN"),
    ("NaN where nobody looks", {"extra": {"a": float("-inf")}}, Reason.NOT_JSON, "extra.a: -Infinity"),
]


@pytest.mark.parametrize(("why", "fields", "reason", "field"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_truly_wrong_is_refused_with_its_place(
    why: str, fields: dict[str, Any], reason: Reason, field: str
) -> None:
    assert read(event_with(**fields)) == Rejected(reason, field), why


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"null", Reason.WRONG_TYPE),
        (b"[]", Reason.WRONG_TYPE),
        (b"\xff\xfe{\x00}\x00", Reason.NOT_JSON),
        (b"\x00\x00\x00\x00\x07avro", Reason.NOT_JSON),
        (b'{"payload":{"after":{}}}', Reason.MISSING_FIELD),
        (b"NaN", Reason.NOT_JSON),
        (b'{"event_id": "a NaN in a text"', Reason.NOT_JSON),
        (b"{" + b'"a":{' * 600, Reason.TOO_LARGE),
    ],
)
def test_what_is_no_event_at_all_is_refused(raw: bytes, reason: Reason) -> None:
    found = read(raw)
    assert isinstance(found, Rejected)
    assert found.reason is reason


def test_what_is_not_adjusted_keeps_its_bytes() -> None:
    raw = event_with(**seen(confidence=1.0001, class_id=3.0, points=[[1.50, 2]])).replace(b"1.5, 2", b"1.50,2e0")
    found = read(raw)
    assert isinstance(found, Adjusted)
    (prediction,) = found.value.predictions
    assert (bytes(prediction.class_id), bytes(prediction.points)) == (b"3.0", b"[[1.50,2e0]]")


def test_heartbeats_and_metadata_are_lenient_with_their_times_too() -> None:
    beat = heartbeat.decode(b'{"device_id":"d","workspace":"w","sent_at_ms":1.0,"interval_ms":10000.0}')
    assert isinstance(beat, Adjusted)
    assert beat.value.interval_ms == 10_000
    added = metadata.decode(b'{"workspace":"w","inference_id":"i","field":"f","value":1.0,"sent_at_ms":5.0}')
    assert isinstance(added, Adjusted)
    assert (added.value.value, added.value.sent_at_ms) == (1.0, 5)


def test_a_name_that_says_nan_is_no_number_that_is_none() -> None:
    assert number_that_is_none(b'{"device_id": "NaN"}') is None
    assert isinstance(read(event_with(device_id="NaN")), event.InferenceEvent)


def test_adjusting_twice_changes_nothing_more() -> None:
    found = read(event_with(**seen(confidence=1.0001)))
    assert isinstance(found, Adjusted)
    again = read(msgspec.json.encode(found.value))
    assert again == found.value
