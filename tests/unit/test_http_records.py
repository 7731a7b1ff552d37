"""What becomes of a record at the door, of a request that comes again, and of what KServe's logger sends."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.asgi import Refused
from pipeline.web.ingest import repeats
from pipeline.web.ingest.cloudevents import CloudEvents, Found
from pipeline.web.ingest.intake import Places, Taken
from pipeline.web.ingest.kinds import NotTaken, kinds, looked_at
from pipeline.web.ingest.kserve import UnreadableError, event_of, request_of
from pipeline.web.ingest.pairs import HALVES_MAX, Half, Pairs
from pipeline.web.ingest.repeats import Repeats
from schemas import event
from schemas.event import TimeLimits

pytestmark = pytest.mark.slow

NOW = 1_795_000_000_000
KINDS = kinds(TimeLimits())
EVENT: dict[str, Any] = {"event_id": "e1", "event_time_ms": NOW, "workspace": "acme", "model_id": "helmets/3"}
BEAT: dict[str, Any] = {"device_id": "cam-7", "workspace": "acme", "sent_at_ms": NOW, "interval_ms": 10_000}
LABEL: dict[str, Any] = {"workspace": "acme", "inference_id": "e1", "field": "f", "value": 3, "sent_at_ms": NOW}
WHOLE = {"events": EVENT, "heartbeats": BEAT, "metadata": LABEL}


class Clock:
    """Stands still."""

    def now_ms(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def look(kind: str, raw: bytes) -> Any:
    return looked_at(KINDS[kind], raw, "acme", NOW)


# Records


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_record_is_passed_on_byte_for_byte(kind: str) -> None:
    raw = b" " + orjson.dumps(WHOLE[kind] | {"unknown": [1.0, 1e3]}, option=orjson.OPT_INDENT_2) + b" \r"
    _, value = look(kind, raw)
    assert value == raw


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [(kind, field) for kind, one in KINDS.items() for field in (*one.known, "all")],
)
def test_what_the_door_can_know_is_filled_in(kind: str, left_out: str) -> None:
    gone = KINDS[kind].known if left_out == "all" else (left_out,)
    given = {name: value for name, value in WHOLE[kind].items() if name not in gone}
    sound, value = look(kind, b"\n " + orjson.dumps(given))
    assert orjson.loads(value) == given | {name: getattr(sound, name) for name in gone}
    assert sound.workspace == "acme"
    assert getattr(sound, "event_time_ms", None) or sound.sent_at_ms == NOW


def test_two_events_without_an_id_get_different_ones() -> None:
    raw = orjson.dumps({"model_id": "m"})
    assert look("events", raw)[0].event_id != look("events", raw)[0].event_id


@given(
    st.dictionaries(
        st.sampled_from([*EVENT, "device_id", "x"]), st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9)
    )
)
def test_what_is_taken_is_what_the_pipeline_takes(fields: dict[str, Any]) -> None:
    found = look("events", orjson.dumps(fields))
    if isinstance(found, NotTaken):
        assert found.reason
    else:
        sound, value = found
        again = event.decode(value, NOW, TimeLimits())
        assert getattr(again, "value", again) == sound
        assert orjson.loads(value).items() >= fields.items()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{}", NotTaken("missing_field", "model_id")),
        (b"", NotTaken("not_json", "")),
        (b"[]", NotTaken("wrong_type", "")),
        (b'{"model_id":"m","workspace":null}', NotTaken("wrong_type", "workspace")),
        (orjson.dumps(EVENT | {"workspace": "other"}), NotTaken("other_workspace", "workspace")),
        (orjson.dumps(EVENT | {"event_time_ms": NOW + 3_600_000}), NotTaken("out_of_range", "event_time_ms")),
        (orjson.dumps(EVENT | {"schema": 9}), NotTaken("unknown_schema", "schema")),
        (b"[" * 2000, NotTaken("too_large", "")),
        (orjson.dumps(EVENT | {"x": "y" * (1 << 20)}), NotTaken("too_large", "")),
    ],
)
def test_a_bad_record_is_refused_with_the_reason_and_the_field(raw: bytes, problem: NotTaken) -> None:
    assert look("events", raw) == problem


def test_a_record_that_is_adjusted_is_taken_as_it_is() -> None:
    raw = orjson.dumps(EVENT | {"predictions": [{"class": "a", "confidence": 1.0000001}]})
    sound, value = look("events", raw)
    assert sound.predictions[0].confidence == 1
    assert value == raw


def test_a_keys_partition_changes_with_their_number() -> None:
    places = Places("t")
    places.set_count(8)
    first = {key: places.of(key) for key in map(str, range(100))}
    assert {number for _, number in first.values()} == set(range(8))
    assert {key: places.of(key) for key in first} == first
    places.set_count(1)
    assert {number for _, number in map(places.of, first)} == {0}


def test_nothing_came_only_if_something_is_to_be_sent_again() -> None:
    outcome = Taken()
    outcome.refuse(KINDS["events"], 2, NotTaken("not_json", ""))
    came = not outcome.nothing_came
    assert came
    outcome.results.append({"line": 1, "status": "retry", "reason": "not_acknowledged", "field": ""})
    assert outcome.nothing_came
    assert [result["line"] for result in orjson.loads(outcome.body)["results"]] == [1, 2]
    outcome.accepted = 1
    assert not outcome.nothing_came


# Repeats


async def work_of(calls: list[str], name: str) -> bytes:
    calls.append(name)
    await asyncio.sleep(0)
    return name.encode()


def test_a_repeat_gets_the_first_answer_and_another_key_its_own() -> None:
    async def story() -> None:
        known, calls = Repeats(), []  # type: ignore[var-annotated]
        assert await known.once("k", lambda: work_of(calls, "one"), 1) == b"one"
        assert await known.once("k", lambda: work_of(calls, "two"), 1) == b"one"
        assert await known.once("l", lambda: work_of(calls, "three"), 1) == b"three"
        assert await known.once("", lambda: work_of(calls, "four"), 1) == b"four"
        assert await known.once("", lambda: work_of(calls, "five"), 1) == b"five"
        assert calls == ["one", "three", "four", "five"]

    asyncio.run(story())


def test_a_repeat_of_what_still_runs_waits_for_it() -> None:
    async def story() -> None:
        known, calls, gate = Repeats(), list[int](), asyncio.Event()

        async def slow() -> bytes:
            calls.append(1)
            await gate.wait()
            return b"done"

        with pytest.raises(TimeoutError):
            await known.once("k", slow, 0.01)
        with pytest.raises(TimeoutError):
            await known.once("k", slow, 0.01)
        gate.set()
        assert await known.once("k", slow, 1) == b"done"
        assert calls == [1]

    asyncio.run(story())


def test_a_failure_is_not_remembered() -> None:
    async def story() -> None:
        known, calls = Repeats(), []  # type: ignore[var-annotated]

        async def fails() -> bytes:
            raise Refused(503, "x", "x")

        with pytest.raises(Refused):
            await known.once("k", fails, 1)
        assert await known.once("k", lambda: work_of(calls, "then"), 1) == b"then"

    asyncio.run(story())


def test_answers_are_forgotten_after_ten_minutes_or_for_want_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        known, calls, now = Repeats(), [], 0.0  # type: ignore[var-annotated]
        monkeypatch.setattr(repeats, "_now", lambda: now)
        await known.once("k", lambda: work_of(calls, "one"), 1)
        now = repeats.KEEP_S - 1
        assert await known.once("k", lambda: work_of(calls, "two"), 1) == b"one"
        now = repeats.KEEP_S
        assert await known.once("k", lambda: work_of(calls, "two"), 1) == b"two"
        for number in range(200):
            await known.once(f"l{number}", lambda: work_of(calls, "x" * 100_000), 1)
        assert known._bytes <= repeats.BYTES_MAX
        assert await known.once("k", lambda: work_of(calls, "three"), 1) == b"three"

    asyncio.run(story())


# KServe


@pytest.mark.parametrize(
    ("body", "predictions"),
    [
        ({"predictions": [[0.1, 0.9], [0.7, 0.3]]}, [("1", 0.9), ("0", 0.7)]),
        ({"predictions": [1, 0, "cat", True]}, [("1", 1), ("0", 1), ("cat", 1), ("true", 1)]),
        ({"predictions": [3.25]}, []),
        ({"predictions": [{"label": "cat", "score": 0.5}]}, [("cat", 0.5)]),
        ({"predictions": [{"classes": ["a", "b"], "scores": [0.5, 0.25]}]}, [("a", 0.5), ("b", 0.25)]),
        ({"predictions": [[{"class": "a", "confidence": 0.5}, {"class": "b"}]]}, [("a", 0.5), ("b", 1)]),
        ({"predictions": [[5.0, 7.0], None, {}, [], {"label": "x", "score": 7}]}, []),
        (
            {"outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 1.0, 0.0]}]},
            [("1", 0.75), ("0", 1.0)],
        ),
        (
            {"outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [[0.25, 0.75], [1.0, 0.0]]}]},
            [("1", 0.75), ("0", 1.0)],
        ),
        ({"outputs": [{"name": "o", "datatype": "INT64", "shape": [2], "data": [3, 4]}]}, [("3", 1), ("4", 1)]),
        ({"outputs": [{"name": "o", "datatype": "BYTES", "shape": [1], "data": ["cat"]}]}, [("cat", 1)]),
        (
            {
                "outputs": [
                    {"name": "labels", "datatype": "BYTES", "shape": [1, 2], "data": [["a", "b"]]},
                    {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, 0.25]]},
                ]
            },
            [("a", 0.5), ("b", 0.25)],
        ),
    ],
)
def test_both_protocols_become_predictions(body: Any, predictions: list[tuple[str, float]]) -> None:
    found = event_of(orjson.dumps(body), None)["predictions"]
    assert [(one["class"], one["confidence"]) for one in found] == predictions


def test_an_error_is_the_events_error() -> None:
    assert event_of(b'{"error":"no memory"}', None) == {"predictions": [], "error": "no memory"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"predictions":1}', b"[" * 100_000])
def test_what_is_no_response_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(UnreadableError):
        event_of(raw, None)
    assert request_of(raw) == {}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["class", "label", "labels", "score", "scores", "name", "data", "shape"]), inner
        )
    ),
    max_leaves=12,
)


@given(name=st.sampled_from(["predictions", "outputs", "inputs", "instances", "error"]), value=ANYTHING)
def test_whatever_a_model_answers_becomes_a_sound_event_or_a_reason(name: str, value: Any) -> None:
    raw = orjson.dumps({name: value}, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if not _too_big(value) else b"{}"
    request_of(raw)
    try:
        found = event_of(raw, None)
    except UnreadableError:
        return
    assert not isinstance(look("events", orjson.dumps(EVENT | found)), NotTaken)


def _too_big(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_too_big, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


# CloudEvents


HEADERS = {
    b"ce-specversion": b"1.0",
    b"ce-id": b"r1",
    b"ce-source": b"http://localhost:9081/",
    b"ce-inferenceservicename": b"iris",
    b"ce-namespace": b"prod",
    b"content-type": b"application/json",
}
REQUEST = HEADERS | {b"ce-type": b"org.kubeflow.serving.inference.request", b"ce-time": b"2026-11-20T00:00:00.100Z"}
RESPONSE = HEADERS | {b"ce-type": b"org.kubeflow.serving.inference.response", b"ce-time": b"2026-11-20T00:00:00.350Z"}


def events_in(found: Found) -> list[dict[str, Any]]:
    return [orjson.loads(raw) for _, raw in found.records.get("events", [])]


def test_a_request_and_its_response_are_one_event_with_its_latency() -> None:
    async def story() -> None:
        door = CloudEvents(Clock())
        first = await door.records("acme", door.read(REQUEST, b'{"instances":[[1]]}'))
        assert (first.kept, first.records, first.problems) == (1, {}, [])
        second = await door.records("acme", door.read(RESPONSE, b'{"predictions":[[0.1,0.9]]}'))
        [told] = events_in(second)
        assert told["latency_ms"] == 250
        assert told["event_time_ms"] == 1_795_132_800_100
        assert (told["event_id"], told["model_id"], told["metadata"]) == ("r1", "iris", {"namespace": "prod"})

    asyncio.run(story())


def test_a_response_waits_for_a_request_that_is_late_and_goes_without_one_that_never_comes() -> None:
    async def story() -> None:
        door = CloudEvents(Clock())
        early = asyncio.create_task(door.records("acme", door.read(RESPONSE, b'{"predictions":[1]}')))
        await asyncio.sleep(0)
        await door.records("acme", door.read(REQUEST, b"{}"))
        assert events_in(await early)[0]["latency_ms"] == 250
        alone = await door.records("acme", door.read(RESPONSE, b'{"predictions":[1]}'))
        assert "latency_ms" not in events_in(alone)[0]

    asyncio.run(story())


def test_the_same_id_in_another_workspace_is_another_inference() -> None:
    async def story() -> None:
        door = CloudEvents(Clock())
        await door.records("other", door.read(REQUEST, b"{}"))
        found = await door.records("acme", door.read(RESPONSE, b'{"predictions":[1]}'))
        assert "latency_ms" not in events_in(found)[0]

    asyncio.run(story())


def test_the_table_of_halves_is_bounded() -> None:
    async def story() -> None:
        pairs = Pairs(Clock())
        for number in range(HALVES_MAX + 10):
            pairs.request(("acme", "s", str(number)), Half(NOW, {}))
        assert len(pairs._requests) == HALVES_MAX
        assert await pairs.response(("acme", "s", str(HALVES_MAX))) is not None

    asyncio.run(story())


def structured(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "c1", "source": "s", "type": "inferwatch.event", **more}


def test_our_own_records_come_structured_batched_and_in_base64() -> None:
    async def story() -> None:
        door = CloudEvents(Clock())
        plain = structured(data={"model_id": "m"}, time="2026-11-20T00:00:00Z")
        coded = structured(data_base64="eyJtb2RlbF9pZCI6Im0ifQ==")
        one = door.read({b"content-type": b"application/cloudevents+json; charset=utf-8"}, orjson.dumps(plain))
        [told] = events_in(await door.records("acme", one))
        assert told == {"event_id": "c1", "event_time_ms": 1_795_132_800_000, "model_id": "m"}
        batch = [
            plain,
            coded,
            structured(type="x"),
            {"id": 3},
            structured(specversion="0.3"),
            structured(data_base64="!"),
        ]
        many = door.read({b"content-type": b"application/cloudevents-batch+json"}, orjson.dumps(batch))
        found = await door.records("acme", many)
        assert len(events_in(found)) == 2
        assert {line: problem.reason for line, _, problem in found.problems} == {
            3: "unknown_type",
            4: "wrong_type",
            5: "unknown_schema",
            6: "not_json",
        }

    asyncio.run(story())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({b"content-type": b"application/json"}, 415),
        (HEADERS | {b"content-type": b"image/png"}, 415),
        ({b"ce-specversion": b"1.0"}, 400),
    ],
)
def test_what_is_no_cloudevent_is_refused(headers: dict[bytes, bytes], status: int) -> None:
    with pytest.raises(Refused) as why:
        CloudEvents(Clock()).read(headers, b"{}")
    assert why.value.status == status
