"""Vision events on their way to Kafka: versions first, inferences once, and what is unknown is refused."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import pytest

from pipeline.config import Settings, load
from pipeline.edge.images.store import ImageStore
from pipeline.edge.kafka.batches import KeyedRecords
from pipeline.web.asgi import Refused
from pipeline.web.images.gallery import Gallery
from pipeline.web.roboflow.vision.intake import COUNTED_MS, VisionIntake
from pipeline.web.roboflow.vision.requests import VisionAnswers, VisionRequest
from pipeline.web.roboflow.vision.use_cases import USE_CASES_MAX, UseCases
from schemas import use_case
from schemas.topics import EVENTS, METADATA, VISION_EVENTS
from schemas.use_case import UseCase
from tests.unit.test_images import made
from tests.unit.test_vision_bodies import tar
from tests.unit.test_vision_translation import BOX, CAPTURED, NOW

T = TypeVar("T")


@dataclass
class Broker:
    """What Batches is for who sends: here acknowledging, or not."""

    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)  # topics of which nothing is acknowledged

    async def partitions(self, topic: str) -> int:
        return 4

    async def send(self, topic: str, parts: Mapping[int, KeyedRecords], now_ms: int) -> set[int]:
        if topic in self.silent:
            return set(parts)
        self.sent += [(topic, orjson.loads(value)) for part in parts.values() for value in part.values]
        return set()

    def on(self, topic: str) -> list[dict[str, Any]]:
        return [value for name, value in self.sent if name == topic]


@dataclass
class Followed:
    """What FollowedTopic is for who reads."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    version: int = 1
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Clock:
    at_ms: int = NOW

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.at_ms / 1000


class Side:
    """The part's inside, without a network."""

    def __init__(self, **settings: str) -> None:
        self.settings: Settings = load({f"INFERWATCH_{name.upper()}": value for name, value in settings.items()})
        self.broker, self.clock, self.topic = Broker(), Clock(), Followed()
        self.topic.ready.set()
        self.know("acme", "uc1")
        self.use_cases = UseCases(self.settings, self.topic)  # type: ignore[arg-type]
        self.gallery = Gallery(self.settings, self.clock)
        self.intake = VisionIntake(self.settings, self.broker, self.clock, self.gallery, self.use_cases)  # type: ignore[arg-type]
        self.answers = VisionAnswers(self.intake, self.use_cases, None, self.clock)  # type: ignore[arg-type]

    def know(self, workspace: str, name: str) -> None:
        one = UseCase(workspace=workspace, id=name, name=name, created_at_ms=NOW)
        self.topic.values[use_case.record_key(workspace, name)] = use_case.encode(one)
        self.topic.version += 1


def run(work: Callable[[Side], Awaitable[T]], **settings: str) -> T:
    async def inside() -> T:
        return await work(Side(**settings))

    return asyncio.run(inside())


def asked(body: Any = None, **more: Any) -> VisionRequest:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return VisionRequest("acme", more.pop("name", ""), more.pop("query", {}), body=raw, **more)


def test_an_event_that_comes_again_is_a_new_version_and_counts_once() -> None:
    async def work(side: Side) -> None:
        for _ in range(3):
            await side.intake.take("acme", [CAPTURED])
        assert len(side.broker.on(VISION_EVENTS.name)) == 3
        assert len(side.broker.on(EVENTS.name)) == 1
        side.know("other", "uc1")
        await side.intake.take("other", [CAPTURED])
        assert len(side.broker.on(EVENTS.name)) == 2
        side.clock.at_ms += 3 * COUNTED_MS
        await side.intake.take("acme", [CAPTURED])
        assert len(side.broker.on(EVENTS.name)) == 3

    run(work)


@pytest.mark.parametrize("silent", [VISION_EVENTS.name, EVENTS.name])
def test_what_was_not_acknowledged_counts_when_it_comes_again(silent: str) -> None:
    async def work(side: Side) -> None:
        side.broker.silent = {silent}
        with pytest.raises(Refused) as why:
            await side.intake.take("acme", [CAPTURED])
        assert why.value.status == 503
        assert side.broker.on(EVENTS.name) == []
        side.broker.silent = set()
        await side.intake.take("acme", [CAPTURED])
        assert len(side.broker.on(EVENTS.name)) == 1

    run(work)


def test_one_that_is_refused_fails_no_other_and_all_that_are_fail_the_request() -> None:
    async def work(side: Side) -> None:
        bad = CAPTURED | {"eventType": "party"}
        unknown = CAPTURED | {"useCaseId": "nobody's"}
        said = await side.answers.batch(asked({"events": [bad, CAPTURED, unknown, 7]}))
        assert (said.status, said.body["created"], said.body["eventIds"]) == (201, 1, [CAPTURED["eventId"]])
        fields = [(error["index"], error["field"]) for error in said.body["errors"]]
        assert fields == [(0, "eventType"), (2, "useCaseId"), (3, "")]
        with pytest.raises(Refused) as why:
            await side.answers.batch(asked({"events": [bad]}))
        assert why.value.status == 400

    run(work)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"events":[]}', b'{"events":{}}', orjson.dumps({"events": [{}] * 101})]
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as why:
        run(lambda side: side.answers.batch(asked(body)))
    assert why.value.status == 400


def test_before_the_use_cases_are_read_nobody_is_told_that_one_is_unknown() -> None:
    async def work(side: Side) -> None:
        side.topic.ready.clear()
        await side.intake.take("acme", [CAPTURED])

    with pytest.raises(Refused) as why:
        run(work)
    assert why.value.status == 503


def test_a_bundle_is_the_same_event_whenever_it_comes() -> None:
    payload = {name: value for name, value in CAPTURED.items() if name not in ("eventId", "useCaseId")}
    image = {"file": "./images/a.jpg", "inputFile": "images/none.jpg", "objectDetections": [BOX]}
    raw = tar(("payload.json", orjson.dumps(payload | {"images": [image]})), ("images/a.jpg", made()), mode="w:gz")

    async def work(side: Side) -> None:
        first = await side.answers.bundle(asked(raw, query={"useCaseId": "uc1"}))
        again = await side.answers.bundle(asked(raw, query={"useCaseId": "uc1"}))
        assert first.body["eventId"] == again.body["eventId"]
        assert "did not come along" in first.body["warnings"][0]
        [event] = side.broker.on(EVENTS.name)
        assert event["image"]["width"] == 640
        [kept, *_] = side.broker.on(VISION_EVENTS.name)
        assert kept["body"]["images"][0].keys() == {"sourceId", "objectDetections"}

    run(work, images_url="memory://bundles")


def test_an_event_of_a_device_keeps_its_picture_and_not_its_base64() -> None:
    text = base64.b64encode(made()).decode()
    images = [
        {"base64Image": text, "label": "workflow", "objectDetections": [BOX]},
        {"base64Image": "data:image/png;base64,%%"},
    ]
    local = {
        "inference_timestamp": CAPTURED["timestamp"],
        "solution": "uc1",
        "event_schema": "quality_check",
        "event_data": {"result": "pass"},
        "custom_metadata": {"line": 3},
        "images": images,
    }

    async def work(side: Side) -> None:
        said = await side.answers.local(asked(local))
        assert (said.status, said.body.keys()) == (201, {"id", "warnings"})
        [kept] = side.broker.on(VISION_EVENTS.name)
        assert kept["custom_metadata"] == {"line": "3"}
        assert kept["body"]["images"] == [
            {"label": "workflow", "objectDetections": [BOX], "sourceId": kept["body"]["images"][0]["sourceId"]},
            {},
        ]
        stored = await ImageStore("memory://devices").about("acme", kept["body"]["images"][0]["sourceId"])
        assert stored is not None

    run(work, images_url="memory://devices")


def test_feedback_goes_to_the_event_it_is_about() -> None:
    async def work(side: Side) -> None:
        data = {"relatedEventId": "e-1", "feedback": "correct"}
        await side.intake.take("acme", [CAPTURED | {"eventType": "operator_feedback", "eventData": data}])
        assert side.broker.on(EVENTS.name) == []
        assert [one["value"] for one in side.broker.on(METADATA.name)] == ["correct"]

    run(work)


@pytest.mark.parametrize(
    ("name", "use_case_id", "status"),
    [
        ("", None, 400),
        (None, None, 400),
        ("x" * 257, None, 400),
        ("A", "a/b", 400),
        ("A", "../x", 400),
        ("A", "uc1", 409),
    ],
)
def test_a_use_case_needs_a_name_and_an_id_of_its_own(name: Any, use_case_id: str | None, status: int) -> None:
    with pytest.raises(Refused) as why:
        run(lambda side: side.use_cases.create("acme", name, NOW, use_case_id))
    assert why.value.status == status


def test_use_cases_have_an_end_in_each_workspace() -> None:
    async def work(side: Side) -> None:
        for number in range(USE_CASES_MAX):
            side.know("acme", f"n{number}")
        await side.use_cases.create("acme", "one more", NOW)

    with pytest.raises(Refused) as why:
        run(work)
    assert why.value.reason == "too_many"
