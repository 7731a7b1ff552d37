"""Vision events become records of ours, whatever their senders write."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.shapes import Context, Record
from pipeline.web.roboflow.vision.given import WARNINGS_MAX, moment_ms
from pipeline.web.roboflow.vision.translation import (
    NOT_COUNTED,
    RefusedVisionEventError,
    Translated,
    hidden,
    model_of,
    sources_of,
    translate,
)
from schemas import event, metadata, vision_event
from schemas.event import InferenceEvent, TimeLimits
from schemas.rejection import Rejected
from schemas.tolerance import Adjusted
from schemas.vision_event import VisionRecord

NOW = 1_795_374_402_000
CONTEXT = Context("acme", NOW, TimeLimits())
# As the block of inference-cpu 1.8.3 sent it.
CAPTURED: dict[str, Any] = {
    "eventId": "8d12e2ed-0000-4000-8000-000000000001",
    "eventType": "quality_check",
    "useCaseId": "uc1",
    "timestamp": "2026-11-22T19:06:41.509949+00:00",
    "images": [],
    "eventData": {"result": "fail"},
    "customMetadata": {"line": "A1"},
}
BOX = {"class": "bolt", "x": 100, "y": 90, "width": 60, "height": 60, "confidence": 0.91}
IMAGE: dict[str, Any] = {
    "sourceId": "s1",
    "label": "front",
    "objectDetections": [BOX],
    "classifications": [{"class": "scratched", "confidence": 0.7}],
    "instanceSegmentations": [BOX | {"class": "nut", "points": [[1, 2], [3, 4], [5, 6]]}],
    "keypoints": [BOX | {"class": "arm", "keypoints": [{"id": 0, "x": 1, "y": 2}]}],
}


@dataclass
class Kept:
    width: int = 640
    height: int = 480
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict)


def version(made: Translated) -> VisionRecord:
    found = vision_event.decode(made.version.value)
    assert isinstance(found, VisionRecord)
    return found


def inference(records: list[Record]) -> InferenceEvent:
    [record] = records
    assert record.kind == shapes.EVENTS
    found = event.decode(record.value, NOW, CONTEXT.limits)
    assert isinstance(found, InferenceEvent)
    return found


def of(**fields: Any) -> Translated:
    return translate(CAPTURED | fields, CONTEXT, {})


def test_the_captured_event_is_a_version_of_itself_and_an_inference() -> None:
    made = of()
    found = version(made)
    assert (found.workspace, found.use_case_id, found.event_type) == ("acme", "uc1", "quality_check")
    assert found.event_time_ms == 1_795_374_401_510
    assert found.event_data == {"result": '"fail"'}
    assert found.custom_metadata == {"line": '"A1"'}
    assert orjson.loads(bytes(found.body)) == CAPTURED
    assert made.warnings == []
    ours = inference(made.beside)
    assert (ours.event_id, ours.model_id, ours.source) == (CAPTURED["eventId"], "uc1", "vision-event")
    assert ours.metadata == {"event_type": "quality_check", "result": "fail", "line": "A1"}
    assert ours.predictions == []


def test_all_that_was_seen_is_a_prediction() -> None:
    pictures = {"s1": Kept(metadata={"shift": 3})}
    whole = CAPTURED | {"images": [IMAGE], "deviceId": "cam-7", "streamId": "s-1", "workflowId": "check"}
    made = translate(whole, CONTEXT, pictures)
    ours = inference(made.beside)
    assert [one.class_name for one in ours.predictions] == ["bolt", "nut", "arm", "scratched"]
    assert (ours.predictions[0].x, ours.predictions[0].confidence) == (100, 0.91)
    assert bytes(ours.predictions[1].points) == b"[[1,2],[3,4],[5,6]]"  # type: ignore[arg-type]
    assert ours.image == event.Image(width=640, height=480, url="/v1/acme/inferences/s1/image")
    assert (ours.device_id, ours.model_id) == ("cam-7", "uc1/check")
    assert ours.metadata is not None
    assert ours.metadata["stream_id"] == "s-1"
    found = version(made)
    assert (found.device_id, found.stream_id, found.workflow_id) == ("cam-7", "s-1", "check")
    assert found.classes == ["bolt", "nut", "arm", "scratched"]
    assert found.image_metadata == {"shift": "3"}


def test_feedback_is_said_of_the_event_it_is_about_and_counts_as_no_inference() -> None:
    data = {"relatedEventId": "e-1", "feedback": "incorrect"}
    made = of(eventType="operator_feedback", eventData=data, comment="no bolt at all")
    said = [metadata.decode(one.value) for one in made.beside]
    assert [(one.inference_id, one.field, one.value) for one in said] == [  # type: ignore[union-attr]
        ("e-1", "feedback", "incorrect"),
        ("e-1", "feedback_comment", "no bolt at all"),
    ]
    assert version(made).event_type == "operator_feedback"


def test_an_id_is_made_where_none_is_given() -> None:
    bare = {key: value for key, value in CAPTURED.items() if key != "eventId"}
    one, other = translate(bare, CONTEXT, {}), translate(bare, CONTEXT, {})
    assert one.event_id != other.event_id
    assert orjson.loads(bytes(version(one).body))["eventId"] == one.event_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eventId", ""),
        ("eventId", 7),
        ("eventId", "x" * 129),
        ("eventType", "party"),
        ("eventType", None),
        ("eventType", ["custom"]),
        ("useCaseId", ""),
        ("useCaseId", "x" * 257),
        ("timestamp", None),
        ("timestamp", "yesterday"),
        ("timestamp", 1795374401),
        ("timestamp", "2025-11-01T00:00:00Z"),
        ("timestamp", "2026-11-25T00:00:00Z"),
        ("timestamp", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_what_says_not_what_it_is_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(RefusedVisionEventError) as why:
        of(**{field: value})
    assert why.value.field == field


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"eventData": {"result": "perhaps"}}, "eventData.result"),
        ({"eventData": "x"}, "eventData: no object"),
        ({"customMetadata": {"a.b": 1}}, "customMetadata"),
        ({"customMetadata": {"a": [1]}}, "customMetadata.a"),
        ({"customMetadata": {"a": "x" * 1001}}, "customMetadata.a"),
        ({"customMetadata": {str(n): n for n in range(101)}}, "more than 100 keys"),
        ({"deviceId": "x" * 257}, "deviceId"),
        ({"deviceId": {}}, "deviceId"),
        ({"images": {}}, "images"),
        ({"images": [1]}, "images"),
        ({"images": [{"objectDetections": [{"class": "a"}]}]}, "1 detections"),
        ({"images": [{"objectDetections": [{"class": "a", "confidence": 2}]}]}, "1 detections"),
        ({"timestamp": "2026-01-01T00:00:00Z"}, NOT_COUNTED),
        ({"eventType": "operator_feedback", "eventData": {"feedback": "correct"}}, "relatedEventId"),
    ],
)
def test_what_is_odd_is_left_out_with_a_warning_and_the_event_is_taken(fields: dict[str, Any], told: str) -> None:
    made = of(**fields)
    assert any(told in warning for warning in made.warnings), made.warnings
    assert version(made).warnings == made.warnings
    assert orjson.loads(bytes(version(made).body)) == CAPTURED | fields


def test_an_old_event_can_be_found_but_does_not_count() -> None:
    assert of(timestamp="2026-01-01T00:00:00Z").beside == []


def test_warnings_have_an_end() -> None:
    made = of(customMetadata={f"k{n}": [n] for n in range(90)})
    assert len(made.warnings) == WARNINGS_MAX + 1
    assert made.warnings[-1] == "and 70 more"


def test_an_event_that_is_too_large_is_refused_and_a_large_one_counts_without_details() -> None:
    many = [BOX | {"points": [[n, n]] * 10} for n in range(5000)]
    made = of(images=[{"instanceSegmentations": many[:4500]}])
    assert len(inference(made.beside).predictions) == 4500
    with pytest.raises(RefusedVisionEventError, match="too large"):
        of(images=[{"instanceSegmentations": many * 3}])


@pytest.mark.parametrize(
    ("use_case", "workflow", "model"),
    [("uc", "", "uc"), ("uc", "wf", "uc/wf"), ("uc", "a/b", "uc/a-b"), ("u" * 250, "w" * 9, "u" * 250)],
)
def test_a_model_is_a_use_case_and_its_version_the_workflow(use_case: str, workflow: str, model: str) -> None:
    assert model_of(use_case, workflow) == model


def test_what_hides_an_event_reads_back() -> None:
    found = vision_event.decode(hidden("acme", "e", NOW, "uc").value)
    assert isinstance(found, VisionRecord)
    assert (found.deleted, found.event_id, found.event_time_ms) == (True, "e", NOW)


def test_times_without_a_zone_are_utc() -> None:
    assert (
        moment_ms("2026-11-22T19:06:41") == moment_ms("2026-11-22T19:06:41Z") == moment_ms("2026-11-22T20:06:41+01:00")
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_NAMES = (
    "eventId",
    "eventType",
    "eventData",
    "images",
    "customMetadata",
    "deviceId",
    "streamId",
    "workflowId",
    "comment",
)
_DETECTION = st.dictionaries(st.sampled_from(["class", "confidence", "x", "points", "keypoints"]), _JSON, max_size=5)
_IMAGE = st.dictionaries(st.sampled_from(["sourceId", "objectDetections", "classifications", "label"]),
                         _JSON | st.lists(_DETECTION, max_size=3), max_size=4)  # fmt: skip
_EVENT = st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=6) | st.fixed_dictionaries(
    {}, optional={"images": st.lists(_IMAGE, max_size=3), "eventData": st.dictionaries(st.text(max_size=5), _JSON)}
)


@settings(max_examples=300, deadline=None)
@drawn(_EVENT)
def test_whatever_comes_is_refused_or_becomes_sound_records_that_hold_it_whole(fields: dict[str, Any]) -> None:
    whole = CAPTURED | fields
    sources_of(whole)
    try:
        made = translate(whole, CONTEXT, {})
    except RefusedVisionEventError:
        return
    body = orjson.loads(bytes(version(made).body))
    assert body == orjson.loads(orjson.dumps(whole | {"eventId": made.event_id}))
    for record in made.beside:
        decode = event.decode if record.kind == shapes.EVENTS else None
        found = decode(record.value, NOW, CONTEXT.limits) if decode else metadata.decode(record.value)
        assert not isinstance(found, Rejected | Adjusted)


@drawn(_JSON)
def test_whatever_is_no_event_is_refused(value: Any) -> None:
    sources_of(value)
    with pytest.raises(RefusedVisionEventError):
        translate(value, CONTEXT, {})
