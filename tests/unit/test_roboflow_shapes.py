"""What Roboflow's servers and blocks send becomes our records: never an error, never a lost inference, no secret."""

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.roboflow import blocks
from pipeline.web.roboflow import pingback as pingbacks
from pipeline.web.roboflow.beats import INTERVAL_MS_USUAL, Beats
from pipeline.web.roboflow.blocks import InvalidRequestError
from pipeline.web.roboflow.pingback import NotAPingbackError
from pipeline.web.roboflow.seen import Seen
from pipeline.web.roboflow.shapes import Context, Left, Record
from schemas import event, heartbeat, metadata
from schemas.event import InferenceEvent, TimeLimits
from schemas.heartbeat import Heartbeat
from schemas.metadata import InferenceMetadata
from tests import roboflow

NOW = roboflow.CAPTURED_AT_MS
HERE = Context("acme", NOW, TimeLimits())


def events(body: bytes, left: "Counter[Left] | None" = None) -> list[InferenceEvent]:
    """What the pipeline reads of what a pingback becomes."""
    told = pingbacks.read(body)
    counts: Counter[Left] = Counter() if left is None else left
    found = [one for raw in pingbacks.results(told) for one in pingbacks.inferences(raw, told.server, HERE, counts)]
    return [sound(one) for one in found]


def sound(record: Record) -> InferenceEvent:
    decoded = event.decode(record.value, NOW, TimeLimits())
    assert isinstance(decoded, InferenceEvent), (decoded, record.value[:500])
    assert record.key == (decoded.device_id or decoded.event_id)
    return decoded


def one_event(response: Any, **more: Any) -> InferenceEvent:
    [made] = events(orjson.dumps(roboflow.pingback([roboflow.result(response, **more)])))
    return made


# Pingbacks


def test_the_captured_pingback_becomes_an_event_for_each_request_and_a_heartbeat() -> None:
    body = orjson.dumps(roboflow.pingback())
    seen, empty = events(body)
    assert (seen.event_id, seen.event_time_ms, seen.model_id) == (roboflow.BOLT, 1_795_373_683_302, "bolts/7")
    assert (seen.device_id, seen.workspace) == ("line-3-cam-1", "acme")
    assert seen.latency_ms == pytest.approx(107.6)
    assert [(one.class_name, one.confidence) for one in seen.predictions] == [
        ("bolt", 0.91),
        ("nut", 0.73),
        ("bolt", 0.55),
    ]
    assert (seen.source, seen.deployment, seen.server_version) == ("roboflow", "edge", "1.8.3")
    assert (seen.tags, seen.metadata) == (["plant1", "line3"], {"confidence_threshold": 0.4})
    assert (empty.event_id, empty.predictions, empty.latency_ms) == (roboflow.EMPTY, [], None)
    beat = heartbeat.decode(pingbacks.heartbeat(pingbacks.read(body).server, HERE, 5000, 1795373536).value)
    assert beat == Heartbeat(
        "line-3-cam-1", "acme", NOW, 5000, 1, "srv-A", "1.8.3", ["plant1", "line3"], boot_id="1795373536"
    )


def test_no_key_and_no_address_of_a_server_is_in_what_becomes_of_it() -> None:
    body = orjson.dumps(roboflow.pingback())
    told = pingbacks.read(body)
    made = [
        one.value for raw in pingbacks.results(told) for one in pingbacks.inferences(raw, told.server, HERE, Counter())
    ]
    made.append(pingbacks.heartbeat(told.server, HERE, 5000, 0).value)
    made += [one.value for one in blocks.sampled(roboflow.AGGREGATED, HERE, Counter())]
    text = b"".join(made).decode()
    assert [secret for secret in roboflow.SECRETS if secret in text] == []


@pytest.mark.parametrize("response", [roboflow.FULL, [roboflow.FULL]], ids=["object", "list"])
def test_a_full_cache_brings_boxes(response: Any) -> None:
    made = one_event(response)
    [bolt] = made.predictions
    assert (bolt.x, bolt.y, bolt.width, bolt.height) == (100, 90, 60, 60)
    assert bytes(bolt.detection_id) == b'"a7330096-1111-4222-8333-444455556666"'  # type: ignore[arg-type]
    assert made.latency_ms == pytest.approx(107.6)


def test_a_full_cache_tells_how_long_it_took_to_see_nothing() -> None:
    made = one_event([{**roboflow.FULL, "predictions": []}])
    assert made.predictions == []
    assert made.latency_ms == pytest.approx(107.6)


@pytest.mark.parametrize(
    ("response", "classes"),
    [
        (roboflow.KEYPOINTS, ["bolt"]),
        (roboflow.SEGMENTS, ["bolt"]),
        (roboflow.SINGLE_LABEL, ["ok", "bad"]),
        (roboflow.MULTI_LABEL, ["wet", "dirty"]),
        ({"response": "a text of a language model", "time": 1.0}, []),
        (None, []),
        ([], []),
    ],
    ids=["keypoints", "segmentation", "single label", "multi label", "text", "null", "nothing"],
)
def test_every_task_has_its_classes(response: Any, classes: list[str]) -> None:
    assert [one.class_name for one in one_event(response).predictions] == classes


def test_points_and_keypoints_are_kept() -> None:
    [shape] = one_event(roboflow.SEGMENTS).predictions
    assert orjson.loads(bytes(shape.points)) == [{"x": 1.0, "y": 2.0}] * 3  # type: ignore[arg-type]
    [person] = one_event(roboflow.KEYPOINTS).predictions
    assert orjson.loads(bytes(person.keypoints))[0]["class"] == "nose"  # type: ignore[arg-type]


def test_each_image_of_a_batch_is_an_event_and_the_first_has_the_requests_id() -> None:
    batch = [roboflow.result([*roboflow.SEEN, {"predictions": [], "time": 0.2}, *roboflow.SEEN], inference_id="b1")]
    made = events(orjson.dumps(roboflow.pingback(batch)))
    assert [one.event_id for one in made] == ["b1", "b1:1", "b1:2"]
    assert [len(one.predictions) for one in made] == [3, 0, 3]


def test_a_camera_named_as_source_is_metadata() -> None:
    made = one_event(roboflow.SEEN, source="cam-9", source_info="hall 2", confidence="best")
    assert made.metadata == {"source": "cam-9", "source_info": "hall 2", "confidence_threshold": "best"}


def test_what_is_odd_is_left_out_and_counted_and_the_inference_counts() -> None:
    left: Counter[Left] = Counter()
    odd = [
        roboflow.result([{"predictions": [{"class": "a", "confidence": 7}, {"class": "b", "confidence": 1.0005}]}]),
        roboflow.result([{"predictions": [], "time": -1}]),
        roboflow.result([], at_s=1e9),
        roboflow.result(roboflow.SEEN, model_id=None),
        roboflow.result([{"predictions": [{"class": "a" * 999, "confidence": 1, "points": ["x" * (1 << 20)]}]}]),
        {"request_time": 1},
        "nothing",
    ]
    made = events(orjson.dumps(roboflow.pingback(odd)), left)
    assert len(made) == 5
    assert [(one.class_name, one.confidence) for one in made[0].predictions] == [("b", 1.0)]
    assert made[2].event_time_ms == NOW
    assert made[3].model_id == "unknown"
    assert len(made[4].predictions[0].class_name) == 256
    assert left == Counter({Left.PREDICTION: 1, Left.LATENCY: 1, Left.TIME: 1, Left.DETAILS: 1, Left.INFERENCE: 2})


def test_a_body_with_python_s_nan_or_half_a_character_is_read() -> None:
    body = orjson.dumps(roboflow.pingback([roboflow.result(roboflow.SEEN, source="X")]))
    [made] = events(body.replace(b"0.91", b"NaN").replace(b'"X"', b'"\\ud800"'))
    assert [one.confidence for one in made.predictions] == [0.73, 0.55]
    assert made.metadata is not None
    assert made.metadata["source"] == "?"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"3", b'{"inference_results":3}', b"[" * 100_000, b"," * 2_000_001])
def test_what_is_no_pingback_is_told(body: bytes) -> None:
    with pytest.raises(NotAPingbackError):
        events(body)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=8)
    | st.sampled_from(["bolt", "", 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def odd(*names: str, **more: Any) -> Any:
    """An object with these names and anything behind them, or anything at all."""
    return JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(names, JSON) | more)


PREDICTION = odd("class", "confidence", "x", "y", "width", "height", "points", "keypoints", "class_id")
RESPONSE = odd("time", "predictions", **{"predictions": st.lists(PREDICTION, max_size=3)})
REQUEST = odd("model_id", "source", "source_info", "confidence", "model_type")


@pytest.mark.slow
@given(
    st.lists(st.tuples(JSON, JSON, REQUEST, RESPONSE | st.lists(RESPONSE, max_size=3)), max_size=4), odd("tags"), JSON
)
def test_no_inference_is_lost_whatever_is_in_it(found: list[Any], top: Any, device: Any) -> None:
    results = [
        {"request_time": at, "inference": {"inference_id": name, "request": request, "response": response}}
        for at, name, request, response in found
    ]
    told = {**(top if isinstance(top, dict) else {}), "device_id": device, "inference_results": results}
    made = events(orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS))
    assert len(made) == sum(max(1, len(one[3])) if isinstance(one[3], list) else 1 for one in found)
    assert [one.event_id for one in made] == [one.event_id for one in events(orjson.dumps(told))]  # the same each time
    beat = pingbacks.heartbeat(pingbacks.read(orjson.dumps(told)).server, HERE, 1000, 0)
    assert isinstance(heartbeat.decode(beat.value), Heartbeat)


# Heartbeats and repeats


def test_the_interval_is_learned_from_arrivals() -> None:
    beats, process = Beats(), ("acme", "cam-1", "srv-A", 100)
    told = [beats.observe(process, at_ms)[0] for at_ms in (0, 9_900, 20_000, 30_100, 300_000, 310_000)]
    assert told == [INTERVAL_MS_USUAL, 10_000, 10_000, 10_000, 10_000, 10_000]


def test_several_processes_of_a_device_have_its_interval_and_the_youngest_tells_of_a_restart() -> None:
    beats = Beats()
    for at_ms in (0, 10_000, 20_000):
        first = beats.observe(("acme", "cam-1", "a", 100), at_ms)
        second = beats.observe(("acme", "cam-1", "b", 103), at_ms + 1000)
    assert (first, second) == ((10_000, 103), (10_000, 103))
    assert beats.observe(("acme", "cam-1", "c", 500), 40_000) == (INTERVAL_MS_USUAL, 500)


def test_an_inference_that_came_already_is_known_for_two_intervals() -> None:
    seen = Seen(keep_ms=1000, ids_max=3)
    assert seen.is_new("acme", "a", 0)
    assert seen.is_new("other", "a", 0)
    assert not seen.is_new("acme", "a", 999)
    assert not seen.is_new("acme", "a", 1500)  # two generations
    assert seen.is_new("acme", "a", 5000)
    seen.forget("acme", "a")
    assert seen.is_new("acme", "a", 5001)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 400)), max_size=60))
def test_no_id_is_forgotten_too_soon_or_kept_for_ever(arrivals: list[tuple[int, int]]) -> None:
    seen, now_ms, last = Seen(keep_ms=1000), 0, dict[int, int]()
    for name, after_ms in arrivals:
        now_ms += after_ms
        is_new = seen.is_new("acme", str(name), now_ms)
        if name not in last or now_ms - last[name] >= 3000:
            assert is_new
        elif now_ms - last[name] < 1000:
            assert not is_new
        if is_new:
            last[name] = now_ms


# Blocks of workflows


def test_samples_go_under_a_model_of_their_own() -> None:
    more = {**roboflow.AGGREGATED["inference_results"][0], "class_name": "nut", "confidence": 0.5}
    body = roboflow.AGGREGATED | {"inference_results": [*roboflow.AGGREGATED["inference_results"], more, 3]}
    left: Counter[Left] = Counter()
    [made] = (sound(one) for one in blocks.sampled(body, HERE, left))
    assert (made.model_id, made.source, made.device_id) == ("sampled:bolts/7", "roboflow-aggregator", "line-3-cam-1")
    assert [(one.class_name, one.confidence) for one in made.predictions] == [("bolt", 0.91), ("nut", 0.5)]
    assert made.event_id == "sampled:9bb27377-1111-4222-8333-444455556666"
    assert left == Counter({Left.INFERENCE: 1})


def test_values_are_added_to_the_inference_they_name() -> None:
    [made] = (metadata.decode(one.value) for one in blocks.added(roboflow.ADDED, HERE))
    assert made == InferenceMetadata("acme", roboflow.BOLT, "line", "3", NOW)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"data": 3},
        {"data": [3]},
        {"data": [{"inference_ids": "a", "field_name": "b", "field_value": "c"}]},
        {"data": [{"inference_ids": ["a"], "field_name": "", "field_value": "c"}]},
        {"data": [{"inference_ids": ["a"], "field_name": "b", "field_value": ["c"]}]},
        {"data": [{"inference_ids": [3], "field_name": "b", "field_value": "c"}]},
        {"data": [{"inference_ids": ["a"] * 10_001, "field_name": "b", "field_value": "c"}]},
    ],
)
def test_values_for_nobody_are_an_invalid_request(body: Any) -> None:
    with pytest.raises(InvalidRequestError):
        blocks.added(body, HERE)


def hook(body: Any, **usual: str) -> InferenceEvent:
    return sound(blocks.webhook(body, usual, "new", HERE, Counter()))


def test_the_captured_webhook_is_an_event() -> None:
    made = hook(roboflow.WEBHOOK | {"line": 4, "verdict": "fail", "time": 0.05}, model_id="bolts/7")
    assert (made.event_id, made.model_id, made.device_id) == (roboflow.WEBHOOK["inference_id"], "bolts/7", "cam-7")
    assert made.image is not None
    assert (made.image.width, made.image.height) == (640, 480)
    assert (made.predictions[0].class_name, made.predictions[0].x) == ("bolt", 100)
    assert (made.metadata, made.latency_ms, made.source) == ({"line": 4, "verdict": "fail"}, 50, "webhook")


@pytest.mark.parametrize(
    ("body", "latency"), [({"latency_ms": 50}, 50), ({"latency_ms": 50, "time": 3}, 50), ({}, None)]
)
def test_a_webhook_says_how_long_it_took_in_ms_or_in_seconds(body: dict[str, Any], latency: float | None) -> None:
    assert hook(body | {"model": "m"}).latency_ms == latency


@pytest.mark.parametrize("at", [NOW, NOW / 1000])
def test_a_webhook_says_when_in_ms_or_in_seconds(at: float) -> None:
    assert hook({"model": "m", "timestamp": at - 0}).event_time_ms == NOW


@pytest.mark.parametrize("body", [None, [], "x", {}, {"predictions": []}])
def test_a_webhook_without_a_model_is_an_invalid_request(body: Any) -> None:
    with pytest.raises(InvalidRequestError):
        hook(body)


@pytest.mark.slow
@given(odd("predictions", "image", "time", "timestamp", "tags", "error", "inference_id", "camera", "latency_ms"))
def test_every_webhook_is_an_event_or_an_invalid_request(body: Any) -> None:
    body = orjson.loads(orjson.dumps(body, default=str))
    if isinstance(body, dict):
        hook(body, model_id="m")
