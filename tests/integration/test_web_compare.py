"""What changed, exports and the live stream, on the real engines and over HTTP."""

import asyncio
import csv
import http.client
import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from PIL import Image

from pipeline.config import Settings
from pipeline.core.asking.language import parse
from pipeline.core.asking.match import judge
from pipeline.core.asking.question import Question
from pipeline.core.asking.sql import Bound, where
from pipeline.core.batch import Batch
from pipeline.core.rows.inferences import record_events
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.local.ports import HOST
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.questions import Questions
from pipeline.web.access import admin
from schemas import alert, event
from schemas.access import Scope
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.event import InferenceEvent, TimeLimits
from schemas.tolerance import Adjusted
from schemas.topics import ALERTS
from tests.integration.http_side import HttpSide, http_side, new_key
from tests.integration.outside import ask, connect, kafka_says
from tests.integration.seeding import publish
from tests.integration.workers import eventually
from tests.names import NAMES

pytestmark = pytest.mark.integration

LIMITS = TimeLimits()


def put(client: Client, raw: Sequence[bytes], at_ms: int) -> None:
    """Rows as the recorder makes them."""
    count = len(raw)
    batch = Batch("events", 0, range(count), [at_ms] * count, [None] * count, raw)
    for block in record_events(batch, LIMITS).blocks:
        client.raw_insert(block.table, block.names, block.body, fmt="Native")


# The same truth in Python and in ClickHouse

WORDS = [
    "",
    "a",
    "A",
    "a/1",
    "a/12",
    "b",
    "ab*c",
    "a_b",
    "a%b",
    "a\\b",
    "line\nbreak",
    "é",
    "1",
    "1e2",
    " 1",
    "nan",
    "inf",
]
NUMBERS = [0, 0.1, 0.5, 0.9999996, 1, 43.2, 43.2004999, 100]


def odd_event(random: Random, number: int, at_ms: int) -> bytes:
    def some(*values: Any) -> Any:
        return random.choice(values)

    words = [*WORDS, *random.sample(sorted(NAMES.values()), 3)]

    def word() -> str:
        return random.choice(words)[:100]

    own = {
        "event_id": f"{number}", "event_time_ms": at_ms - number, "workspace": "acme", "model_id": word() or "m",
        "device_id": some(None, word()), "latency_ms": some(None, *NUMBERS, random.random() * 100),
        "predictions": [
            {"class": word() or "c", "confidence": some(0, 0.5, 1, round(random.random(), 7))}
            for _ in range(random.randrange(4))
        ],
        "error": some(None, None, word()), "tags": some(None, [word(), word()]),
        "metadata": {word(): some(word(), 1, 0.5, -3, True, 10**25) for _ in range(random.randrange(3))},
        "source": some(None, word()), "deployment": some(None, word()), "server_version": some(None, word()),
        "image": some(None, {"url": some(None, "https://example.com/1.jpg")}),
    }  # fmt: skip
    return orjson.dumps({name: value for name, value in own.items() if name != "metadata"})[:-1] + (
        b',"metadata":' + json.dumps(own["metadata"]).encode() + b"}"
    )


def odd_filter(random: Random) -> str:
    def text() -> str:
        word = random.choice(WORDS)
        if random.random() < 0.4:
            return random.choice(["*", "a*", "*b", "a*b", "*1*", "*a*b*", "*\\*", "*_*", "*%*"])
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def number() -> str:
        low, high = sorted(random.sample(NUMBERS, 2))
        return random.choice([f"{low}", f"<{high}", f"<={high}", f">{low}", f">={low}", f"{low}..{high}"])

    def term() -> str:
        texts = ["id", "model", "device", "class", "error", "tag", "source", "deployment", "server", "metadata", "has"]
        field = random.choice([*texts, "confidence", "latency", "detections"])
        key = '"' + random.choice(WORDS[1:]).replace("\\", "\\\\") + '"'
        if field == "has":
            return "has:" + random.choice(["error", "detection", "latency", "device", "image", f"metadata.{key}"])
        if field in ("confidence", "latency", "detections"):
            return f"{field}:" + ",".join(number() for _ in range(random.randrange(1, 3)))
        if field == "metadata":
            value = random.choice([text(), f"<{random.choice(NUMBERS)}", f">={random.choice(NUMBERS)}"])
            return f"metadata.{key}:{value}"
        return f"{field}:" + ",".join(text() for _ in range(random.randrange(1, 3)))

    return " ".join(random.choice(["", "", "-"]) + term() for _ in range(random.randrange(1, 4)))


def decoded(raw: bytes, at_ms: int) -> InferenceEvent | None:
    found = event.decode(raw, at_ms, LIMITS)
    found = found.value if isinstance(found, Adjusted) else found
    return found if isinstance(found, InferenceEvent) else None


def test_a_filter_holds_for_an_event_as_it_holds_for_its_row(world: Settings) -> None:
    random, at_ms = Random(7), now_ms()
    raw = [odd_event(random, number, at_ms) for number in range(400)]
    events = [found for one in raw if (found := decoded(one, at_ms)) is not None]
    assert len(events) > 350
    held = 0
    with closing(connect(world, "admin")) as client:
        put(client, raw, at_ms)
        for _ in range(100):
            line = odd_filter(random)
            asked, bound = parse(line), Bound()
            condition = where(asked, bound, "'acme'")
            rows = ask(client, f"SELECT event_id FROM inferences WHERE {condition}", dict(bound.parameters))
            holds = judge(asked)
            wanted = {one.event_id for one in events if holds(one)}
            assert {event_id for (event_id,) in rows} == wanted, line
            held += bool(wanted) and len(wanted) < len(events)
    assert held > 40  # most lines tell some from others


# What changed, and exports

HOUR_MS = 3_600_000


def traffic(at_ms: int) -> list[bytes]:
    """Two hours, the later one until `at_ms`: cam-2 sees badly in it, and helmets/4 fails now and then."""
    random, raw = Random(3), []
    for number in range(4000):
        is_late, device, model = number % 2 == 0, f"cam-{random.randrange(5)}", f"helmets/{random.choice([3, 4])}"
        confidence = 0.8 + random.random() / 10 - (0.4 if is_late and device == "cam-2" else 0)
        end_ms = at_ms if is_late else at_ms - HOUR_MS
        fails = is_late and model == "helmets/4" and random.random() < 0.3
        one = {
            "event_id": f"e{number}", "event_time_ms": end_ms - 1 - random.randrange(HOUR_MS),
            "workspace": "acme", "model_id": model, "device_id": device, "latency_ms": 10 + random.random(),
            "predictions": [{"class": "person", "confidence": confidence, "x": 50, "y": 40, "width": 20, "height": 10,
                             "points": [[40, 35], [60, 35], [60, 45]]}],
            "image": {"width": 100, "height": 80}, "metadata": {"frame": str(number), "site": "s1"},
            "tags": ["night"] if number % 3 == 0 else [], "error": "=1+1" if fails else None,
        }  # fmt: skip
        raw.append(orjson.dumps(one))
    return raw


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (100, 80), "red").save(out, "PNG")
    return out.getvalue()


def get(web: HttpSide, path: str, key: str, **asked: Any) -> Any:
    said = web.ask("GET", f"/v1/acme/{path}?{urlencode(asked)}", key=key)
    assert said.status == 200, said.body
    return said


def test_what_changed_is_told_and_what_is_exported_reads_back(world: Settings, tmp_path: Path) -> None:
    at_ms = now_ms()
    raw = traffic(at_ms)
    _, key = new_key(world, [Scope.QUERY])
    with closing(connect(world, "admin")) as client:
        put(client, raw, at_ms)
        put(client, [one.replace(b'"acme"', b'"rival"') for one in raw], at_ms)
    asyncio.run(_breaks_off(world))
    with http_side(world, tmp_path, images_url=str(tmp_path / "pictures")) as web:
        _changes(web, key, at_ms)
        _exports(web, key, at_ms, raw)
        _refusals(web, key)


async def _breaks_off(settings: Settings) -> None:
    """What fails in the middle does not look like an end."""
    rows = "SELECT throwIf(number = 900000) AS x, repeat('y', 100) AS y FROM numbers(1000000) FORMAT JSONEachRow"
    questions, chunks = Questions(settings), []

    async def read() -> None:
        question = Question(rows + " SETTINGS max_block_size = 1000", {}, 10**6)
        async for chunk in questions.of("acme").stream(question):
            chunks.append(len(chunk))

    with pytest.raises(ClickHouseUnavailable):
        await read()
    assert sum(chunks) > 1 << 20
    await questions.close()


def _changes(web: HttpSide, key: str, at_ms: int) -> None:
    hours = {"from": at_ms - 2 * HOUR_MS, "to": at_ms, "b_from": at_ms - HOUR_MS}
    found = get(web, "compare", key, metric="confidence_mean", **hours, against="before").json
    assert (found["verdict"], found["a"]["count"], found["b"]["count"]) == ("different", 2000, 2000)
    first = found["dimensions"][0]
    assert (first["dimension"], first["values"][0]["value"]) == ("device", "cam-2")
    assert first["values"][0]["filter"] == "device:cam-2"
    assert sum(value["contribution"] for value in first["values"]) == pytest.approx(found["difference"], abs=1e-6)
    assert found["left_out"] == [{"dimension": "metadata.frame", "values": pytest.approx(4000, rel=0.1)}]
    rest = get(web, "compare", key, metric="confidence_mean", **hours, against="rest").json
    assert [one["values"] for one in rest["dimensions"]] == [one["values"] for one in found["dimensions"]]
    failed = get(web, "compare", key, metric="error_rate", **hours, against="before").json
    assert (failed["dimensions"][0]["dimension"], failed["dimensions"][0]["values"][0]["value"]) == (
        "model",
        "helmets/4",
    )
    same = get(web, "compare", key, metric="latency_p95_ms", **hours, against="before").json
    assert same["verdict"] == "same"
    inside = get(web, "compare", key, b_filter="device:cam-2 confidence:<0.6", **{"from": at_ms - 2 * HOUR_MS}).json
    assert (inside["a"]["rest"], inside["dimensions"][0]["dimension"]) == (True, "device")
    empty = get(web, "compare", key, metric="confidence_mean", b_filter="device:nobody").json
    assert (empty["verdict"], empty["dimensions"]) == ("empty", [])


def _exports(web: HttpSide, key: str, at_ms: int, raw: Sequence[bytes]) -> None:
    span = {"from": at_ms - 2 * HOUR_MS, "to": at_ms}
    unsure = {"filter": "confidence:<0.6", "sort": "confidence", "limit": 50}
    lines = get(web, "export", key, format="ndjson", sort="none", **span).body.splitlines()
    sent = {found.event_id: found for one in raw if (found := decoded(one, at_ms))}
    back = {found.event_id: found for one in lines if (found := decoded(one, at_ms))}
    assert len(lines) == len(back) == len(sent) == 4000
    assert back["e7"].metadata == sent["e7"].metadata
    assert back["e7"].predictions[0].confidence == pytest.approx(sent["e7"].predictions[0].confidence, abs=1e-6)
    coco = get(web, "export", key, format="coco", **span, **unsure)
    assert coco.headers["content-disposition"] == 'attachment; filename="acme.coco.json"'
    annotations = coco.json["annotations"]
    assert len(coco.json["images"]) == len(annotations) == 50
    assert [one["score"] for one in annotations] == sorted(one["score"] for one in annotations)
    assert (annotations[0]["bbox"], annotations[0]["area"]) == ([40, 35, 20, 10], 100)
    tasks = get(web, "export", key, format="labelstudio", **span, **unsure).json
    assert tasks[0]["predictions"][0]["result"][0]["type"] == "polygonlabels"
    yolo = get(web, "export", key, format="yolo", classes="helmet,person", **span, **unsure)
    with zipfile.ZipFile(io.BytesIO(yolo.body)) as files:
        labels = [name for name in files.namelist() if name.startswith("labels/")]
        assert len(labels) == 50
        assert files.read(labels[0]) == b"1 0.500000 0.500000 0.200000 0.125000\n"
    assert web.ask("PUT", "/v1/acme/inferences/e7/image", picture(), kind="").status < 300
    pictured = get(web, "export", key, format="yolo", filter="id:e7,e8", pictures="true", **span)
    with zipfile.ZipFile(io.BytesIO(pictured.body)) as files:
        (name,) = [name for name in files.namelist() if name.startswith("images/")]
        assert (name[-7:], files.read(name)) == ("-e7.png", picture())
    table = get(web, "export", key, format="csv", filter="has:error", **span)
    assert {line["error"] for line in csv.DictReader(io.StringIO(table.body.decode()))} == {"'=1+1"}
    columns = pq.read_table(io.BytesIO(get(web, "export", key, format="parquet", **span, limit=10, sort="time").body))
    assert columns.column("event_id").to_pylist() == [
        one.event_id for one in sorted(sent.values(), key=lambda one: (one.event_time_ms, int(one.event_id[1:])))[:10]
    ]
    assert set(columns.column("workspace").to_pylist()) == {"acme"}
    assert get(web, "export", key, format="csv", filter="id:nobody").body.count(b"\n") == 1


def _refusals(web: HttpSide, key: str) -> None:
    for path, reason in (
        ("compare?metric=silence_s", "bad_request"),
        ("compare?b_filter=colour:red", "bad_filter"),
        ("compare?from=2026-11-28T00:00:00Z&to=2026-11-27T00:00:00Z", "bad_time"),
        ("compare?against=rest", "no_rest"),
        ("export", "bad_request"),
        ("export?format=coco&limit=0", "bad_request"),
        ("export?format=coco&pictures=true", "no_pictures"),
        ("stream?events=wings", "bad_events"),
        ("stream?filter=x", "bad_filter"),
    ):
        said = web.ask("GET", f"/v1/acme/{path}", key=key)
        assert (said.status, said.json["reason"]) == (400, reason), (path, said.body)
        assert web.ask("GET", f"/v1/rival/{path}", key=key).status == 403


# Live


class Watched:
    """A stream as a browser reads it."""

    def __init__(self, web: HttpSide, path: str, key: str, last_id: str = "") -> None:
        self._connection = http.client.HTTPConnection(HOST, web.web_port, timeout=20)
        headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": last_id} if last_id else {})
        self._connection.request("GET", path, headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self.last_id = ""
        assert self.next("ready") == {}

    def next(self, *names: str) -> Any:
        """The data of the next event with one of these names."""
        told: dict[str, str] = {}
        while line := self._response.readline():
            text = line.decode().rstrip("\n")
            if not text:
                if told.get("event") in names:
                    self.last_id = told.get("id", self.last_id)
                    return orjson.loads(told["data"])
                told = {}
            elif not text.startswith(":"):
                name, _, value = text.partition(": ")
                told[name] = value
        raise AssertionError(f"the stream ended before any of {names}")

    def close(self) -> None:
        self._connection.close()


@contextmanager
def watched(web: HttpSide, key: str, last_id: str = "", **asked: str) -> Iterator[Watched]:
    """One who watches acme."""
    one = Watched(web, f"/v1/acme/stream?{urlencode(asked, quote_via=quote)}", key, last_id)
    try:
        yield one
    finally:
        one.close()


def sent(web: HttpSide, event_id: str, workspace: str = "acme", **fields: Any) -> None:
    assert web.post(f"/v1/{workspace}/events", [{"event_id": event_id, "model_id": "m/1", **fields}]).accepted == 1


def test_what_happens_is_seen_at_once_by_those_who_may_and_ends_with_the_key_and_the_process(
    world: Settings, tmp_path: Path
) -> None:
    key_id, key = new_key(world, [Scope.QUERY])
    _, other_key = new_key(world, [Scope.QUERY])
    with http_side(world, tmp_path) as web:
        with watched(web, key, filter="device:cam-7") as one, watched(web, other_key, events="inference") as all_:
            sent(web, "0", workspace="rival", device_id="cam-7")
            sent(web, "1", device_id="cam-8")
            began_s = time.monotonic()
            sent(web, "2", device_id="cam-7")
            assert one.next("inference")["event_id"] == "2"
            assert time.monotonic() - began_s < 1.5
            assert [all_.next("inference")["event_id"] for _ in range(2)] == ["1", "2"]
            last_id = all_.last_id
            step = AlertEvent(
                fingerprint="0" * 16, episode=1, sequence=1, state=AlertState.FIRING, at_ms=1, starts_at_ms=1,
                kind=AlertKind.RULE, metric="error_rate", severity=Severity.INFO, workspace="acme",
            )  # fmt: skip
            asyncio.run(publish(world, world.topic(ALERTS.name), {0: [alert.encode(step)]}))
            assert one.next("alert")["fingerprint"] == step.fingerprint
        sent(web, "3", device_id="cam-7")
        with watched(web, key, last_id) as again, watched(web, other_key) as other:
            assert again.next("inference", "lost")["event_id"] == "3"
            _revoke(world, key_id)
            assert again.next("end") == {"reason": "wrong_key"}
            began_s = time.monotonic()
            web.child.terminate()
            assert other.next("end") == {"reason": "shutdown"}
        eventually(lambda: web.child.returncode is not None, 10, "the process ends by itself", web.child.said)
        assert web.child.returncode == 0
        assert time.monotonic() - began_s < 10


def _revoke(settings: Settings, key_id: str) -> None:
    async def revoke(kafka: Kafka) -> None:
        await admin.delete(settings, (await admin.read(settings, kafka)).key(key_id))

    kafka_says(settings, revoke)
