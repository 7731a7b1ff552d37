"""The filter on an event by itself: each term means what it means on a row (that they agree: tests/integration)."""

from typing import Any

import orjson
import pytest

from pipeline.core.asking.language import parse
from pipeline.core.asking.match import judge
from schemas import event
from schemas.event import InferenceEvent, TimeLimits

NOW_MS = 1_795_373_683_301


def made(**fields: Any) -> InferenceEvent:
    own = {"event_id": "e1", "event_time_ms": NOW_MS, "workspace": "acme", "model_id": "helmets/3", **fields}
    found = event.decode(orjson.dumps(own), NOW_MS, TimeLimits())
    assert isinstance(found, InferenceEvent)
    return found


EVENT = made(
    device_id="cam-7",
    latency_ms=43.2,
    predictions=[{"class": "person", "confidence": 0.91}, {"class": "dog", "confidence": 0.2}],
    error="CUDA out of memory",
    metadata={"site": "s1", "line": 4, "night": True, "odd key": "1e2"},
    tags=["edge", "hall 2"],
    source="roboflow",
    image={"url": "https://example.com/1.jpg"},
)
BARE = made(model_id="helmets")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "id:e1",
        "model:helmets",
        "model:helmets/3,other",
        "model:helm*",
        "-model:helmet",
        "device:cam-7,cam-8 source:robo*w",
        "class:person confidence:>0.9",
        "-class:cat",
        "confidence:0.2",
        "latency:43.2 latency:40..50",
        "detections:2",
        "error:*memory* has:error",
        'tag:"hall 2"',
        "metadata.site:s1 metadata.line:4 metadata.line:>3 metadata.night:true",
        'metadata."odd key":>=100 has:metadata.site',
        "has:image has:latency has:device has:detection",
    ],
)
def test_an_event_is_what_is_asked_for(line: str) -> None:
    assert judge(parse(line))(EVENT)


@pytest.mark.parametrize(
    "line",
    [
        "model:helmet",
        "model:helmets/33",
        "class:person confidence:<0.5",  # another detection is: it is no person
        "-class:person",
        "latency:<43.2",
        "device:cam-*8",
        "device:cam-7*7",  # the two may not overlap
        "-has:error",
        "metadata.site:>3",
        "metadata.other:s1",
        "deployment:*x*",
    ],
)
def test_and_is_not_what_is_not(line: str) -> None:
    assert not judge(parse(line))(EVENT)


def test_what_is_not_given_is_the_empty_text_and_no_number() -> None:
    assert judge(parse('device:"" -has:device deployment:* -latency:>=0 -has:image -error:* -has:metadata.site'))(BARE)
    assert judge(parse("model:helmets detections:0 -confidence:>=0"))(BARE)


def test_a_hostile_pattern_takes_no_longer_than_the_text() -> None:
    pattern = "*a" * 100 + "*b"
    assert not judge(parse(f"error:{pattern}"))(made(error="a" * 10_000))
