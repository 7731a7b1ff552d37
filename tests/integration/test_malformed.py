"""Every kind of record that must be refused: it lands in dead_letters with its reason, and the partition goes on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from schemas.rejection import Reason
from schemas.topics import EVENTS, HEARTBEATS, METADATA
from tests.integration import oracle
from tests.integration.proof import prove, quick
from tests.integration.workers import fleet

pytestmark = pytest.mark.integration

PARTITION = 1
GONE = object()  # a field that is taken away
EVENT: dict[str, Any] = {
    "schema": 1,
    "event_id": "e",
    "workspace": "acme",
    "model_id": "helmets/3",
    "device_id": "cam-7",
    "latency_ms": 43.2,
    "predictions": [{"class": "person", "confidence": 0.91, "x": 100.0, "y": 90.0, "width": 60.0, "height": 60.0}],
}
BEAT: dict[str, Any] = {"workspace": "acme", "device_id": "cam-7", "interval_ms": 10_000}
TOLD: dict[str, Any] = {"workspace": "acme", "inference_id": "e", "field": "verdict", "value": "wrong"}

BROKEN: list[tuple[str, str, dict[str, Any]]] = [  # reason, field, what is different in an event
    ("missing_field", "event_id", {"event_id": GONE}),
    ("missing_field", "event_time_ms", {"event_time_ms": GONE}),
    ("missing_field", "workspace", {"workspace": GONE}),
    ("missing_field", "model_id", {"model_id": GONE}),
    ("missing_field", "predictions[0].class", {"predictions": [{"confidence": 0.5}]}),
    ("missing_field", "predictions[1].confidence", {"predictions": [EVENT["predictions"][0], {"class": "dog"}]}),
    ("wrong_type", "event_id", {"event_id": 7}),
    ("wrong_type", "event_time_ms", {"event_time_ms": "2026-11-24T12:00:00Z"}),
    ("wrong_type", "event_time_ms", {"event_time_ms": 1.5}),
    ("wrong_type", "workspace", {"workspace": None}),
    ("wrong_type", "latency_ms", {"latency_ms": "43 ms"}),
    ("wrong_type", "predictions", {"predictions": {"class": "person"}}),
    ("wrong_type", "predictions[0]", {"predictions": ["person"]}),
    ("wrong_type", "metadata[site]", {"metadata": {"site": {"deep": 1}}}),
    ("wrong_type", "tags", {"tags": "edge"}),
    ("out_of_range", "event_id", {"event_id": ""}),
    ("out_of_range", "event_id", {"event_id": "x" * 129}),
    ("out_of_range", "model_id", {"model_id": "m" * 257}),
    ("out_of_range", "event_time_ms", {"event_time_ms": 0}),
    ("out_of_range", "event_time_ms", {"event_time_ms": now_ms() + 3_600_000}),
    ("out_of_range", "event_time_ms", {"event_time_ms": now_ms() * 1000}),
    ("out_of_range", "latency_ms", {"latency_ms": -1}),
    ("out_of_range", "latency_ms", {"latency_ms": 86_400_001}),
    ("out_of_range", "predictions[0].confidence", {"predictions": [{"class": "dog", "confidence": 1.01}]}),
    ("out_of_range", "predictions[0].class", {"predictions": [{"class": "", "confidence": 0.5}]}),
    ("out_of_range", "tags", {"tags": ["t"] * 101}),
    ("out_of_range", "metadata", {"metadata": {f"k{i}": i for i in range(101)}}),
    ("unknown_schema", "schema", {"schema": 2}),
    ("too_large", "", {"padding": "x" * (1 << 20)}),
]
NOT_JSON = (None, b"", b"{", b"nonsense", b"\xff\xfe", b'{"event_id": NaN}', b'{"event_id":"\xff"}')
GOOD: list[dict[str, Any]] = [
    {},
    {"schema": GONE, "device_id": GONE, "latency_ms": None, "predictions": GONE},
    {"event_id": "ü 😀 \u0000 '\"\\\t", "tags": ["", "a'b", "\\N"], "error": "line\nline\r\u2028"},
    {"latency_ms": 0, "predictions": [{"class": "dog", "confidence": 0}, {"class": "dog", "confidence": 1}]},
    {"latency_ms": 86_400_000, "metadata": {"n": 4, "f": 0.25, "t": True, "s": "", "big": -(2**62)}},
    {"predictions": [{"class": "cat", "confidence": 0.5, "x": None, "class_id": 3, "points": [{"x": 1, "y": [2]}]}]},
    {"image": {"width": 640, "height": 480, "url": "s3://b/k"}, "source": "roboflow", "deployment": "edge"},
    {"unknown": [[[{"deep": [1, None, {"x": "y"}]}]]], "server_version": "1.8.3"},
]


def made(base: dict[str, Any], changes: dict[str, Any], **times: int) -> bytes:
    """A record."""
    fields = base | times | changes
    return json.dumps({name: value for name, value in fields.items() if value is not GONE}).encode()


def records(number: int) -> list[tuple[str, bytes | None, tuple[str, str] | None]]:
    """(topic, value, reason and field if it must be refused)."""
    now = now_ms()
    out: list[tuple[str, bytes | None, tuple[str, str] | None]] = []
    for reason, field, changes in BROKEN:
        out.append((EVENTS.name, made(EVENT, changes, event_time_ms=now), (reason, field)))
    for topic in (EVENTS, HEARTBEATS, METADATA):
        for value in NOT_JSON:
            out.append((topic.name, value, ("not_json", "event_id: NaN" if value and b"NaN" in value else "")))
        out.append((topic.name, b"[" * 501 + b"]" * 501, ("too_large", "")))
        out += [(topic.name, value, ("wrong_type", "")) for value in (b"[]", b"null", b"7", b'"text"')]
    out.append((EVENTS.name, made(EVENT, {}, event_time_ms=now) + b"{}", ("not_json", "")))
    for changes in GOOD:
        out.append((EVENTS.name, made(EVENT, changes, event_time_ms=now - number), None))
    out.append((HEARTBEATS.name, made(BEAT, {"status": "gone"}, sent_at_ms=now), ("out_of_range", "status")))
    out.append((HEARTBEATS.name, made(BEAT, {"status": "stopping", "boot_id": "b"}, sent_at_ms=now), None))
    out.append((METADATA.name, made(TOLD, {"value": [1]}, sent_at_ms=now), ("wrong_type", "value")))
    out.append((METADATA.name, made(TOLD, {"value": None}, sent_at_ms=now), ("wrong_type", "value")))
    out.append((METADATA.name, made(TOLD, {"value": 0.25}, sent_at_ms=now), None))
    return out


def test_every_broken_record_is_a_dead_letter_with_its_reason_and_nothing_else_suffers(
    world: Settings, tmp_path: Path
) -> None:
    settings = quick(world)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        refused = asyncio.run(send(settings, [record for number in range(3) for record in records(number)]))
        want = prove(settings, workers)
    assert {where[0:2] for where in refused} == {(topic.name, PARTITION) for topic in (EVENTS, HEARTBEATS, METADATA)}
    assert {reason for reason, _ in refused.values()} == {reason.value for reason in Reason}
    asked = oracle.Tables(settings).ask(
        "SELECT kafka_topic, kafka_partition, kafka_offset, reason, field FROM dead_letters"
    )
    prefix = len(settings.topic_prefix)
    got = {(topic[prefix:], partition, offset): (reason, field) for topic, partition, offset, reason, field in asked}
    assert got == refused
    assert {where[:3]: reason for where, (reason, *_) in want.refused.items()} == {
        w: r for w, (r, _) in refused.items()
    }
    assert len(want.rows["inferences"]) == 3 * len(GOOD)


async def send(
    settings: Settings, listed: list[tuple[str, bytes | None, tuple[str, str] | None]]
) -> dict[tuple[str, int, int], tuple[str, str]]:
    """All into one partition of their topic; (topic, partition, offset) of those that must be refused."""
    out = {}
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, max_request_size=1_200_000)
    await producer.start()
    try:
        for topic, value, refused in listed:
            sent = await producer.send_and_wait(settings.topic(topic), value, key=b"k", partition=PARTITION)
            if refused is not None:
                out[topic, PARTITION, sent.offset] = refused
    finally:
        await producer.stop()
    return out
