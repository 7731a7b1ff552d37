"""The HTTP side on the real engines: what it takes is there, what it refuses costs little, nothing taken is lost."""

import gzip
import http.client
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.local.ports import HOST
from pipeline.web.access import admin
from schemas.access import Scope
from schemas.topics import HEARTBEATS, METADATA
from tests.integration.engines import Server
from tests.integration.http_side import (
    LINES,
    LOCAL_KEY,
    HttpSide,
    Said,
    event,
    http_side,
    ids,
    new_key,
    on_topic,
)
from tests.integration.outside import ask, connect, kafka_says
from tests.integration.workers import eventually, fleet, hold

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.integration

MIB = 1 << 20


def test_what_is_sent_in_every_form_becomes_rows(world: Settings, tmp_path: Path) -> None:
    lines = b"\n".join(orjson.dumps(event(f"l{n}")) for n in range(700))
    with http_side(world, tmp_path) as web, fleet(world, tmp_path) as workers:
        recorder = workers.start("recorder")
        assert web.post("/v1/acme/events", [event(f"j{n}") for n in range(50)]).accepted == 50
        assert web.ask("POST", "/v1/acme/events", lines, kind=LINES).accepted == 700
        packed = gzip.compress(lines.replace(b'"l', b'"g'))
        assert web.ask("POST", "/v1/acme/events", packed, kind=LINES, content_encoding="gzip").accepted == 700
        packed = zstd.compress(lines.replace(b'"l', b'"z'))
        assert web.ask("POST", "/v1/acme/events", packed, kind=LINES, content_encoding="zstd").accepted == 700
        assert web.ask("POST", f"/v1/acme/events?api_key={LOCAL_KEY}", b'{"model_id":"m"}', key=None).accepted == 1
        beat = {"device_id": "cam-1", "interval_ms": 10_000}
        assert web.post("/v1/acme/heartbeats", [beat]).accepted == 1
        assert (
            web.post("/v1/acme/metadata", [{"inference_id": "l1", "field": "verdict", "value": "wrong"}]).accepted == 1
        )
        _kserve(web)
        sent = 50 + 3 * 700 + 1 + 1
        with closing(connect(world, "admin")) as client:
            eventually(
                lambda: ask(client, "SELECT count(), uniqExact(event_id) FROM inferences") == [(sent, sent)],
                30,
                "all events are rows",
                recorder.child.said,
            )
            eventually(lambda: ask(client, "SELECT count() FROM inference_metadata") == [(1,)], 30, "metadata")
            eventually(lambda: ask(client, "SELECT count() FROM device_heartbeats") == [(1,)], 30, "heartbeats")
            assert ask(client, "SELECT count() FROM dead_letters") == [(0,)]
            kserve = "SELECT model_id, latency_us, `detections.class` FROM inferences WHERE source = 'kserve'"
            assert ask(client, kserve) == [("iris", 250_000, ["1"])]
        workers.end_all()
    assert [record["device_id"] for record in on_topic(world, HEARTBEATS)] == ["cam-1"]
    assert [record["value"] for record in on_topic(world, METADATA)] == ["wrong"]


def _kserve(web: HttpSide) -> None:
    """As its logger sends a pair."""
    for kind, at, body in (
        ("request", "2026-11-28T00:00:00.100Z", b'{"instances":[[1,2]]}'),
        ("response", "2026-11-28T00:00:00.350Z", b'{"predictions":[[0.1,0.9]]}'),
    ):
        headers: dict[str, Any] = {
            "ce_specversion": "1.0",
            "ce_id": "0ab1",
            "ce_source": "http://localhost:9081/",
            "ce_type": f"org.kubeflow.serving.inference.{kind}",
            "ce_time": _recently(at),
            "ce_inferenceservicename": "iris",
        }
        assert web.ask("POST", "/v1/acme/cloudevents", body, **headers).accepted == 1


def _recently(at: str) -> str:
    """That time of day, yesterday: old enough to be over, young enough to be taken."""
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time_ns() // 1_000_000_000 - 86_400))
    return day + at[10:]


def test_a_bad_record_is_named_and_fails_nobody_else(world: Settings, tmp_path: Path) -> None:
    body = b"\n".join(
        [
            orjson.dumps(event("good")),
            b"",
            b"{",
            orjson.dumps(event("x", predictions=[{"class": "a", "confidence": 7}])),
            orjson.dumps(event("y", workspace="other")),
            b"\xff\xfe",
            orjson.dumps(event("also good", workspace="acme")),
        ]
    )
    with http_side(world, tmp_path) as web:
        said = web.ask("POST", "/v1/acme/events", body, kind=LINES)
        metrics = web.ask("GET", "/metrics").body.decode()
    assert said.accepted == 2
    assert [(one["line"], one["status"], one["reason"], one["field"]) for one in said.json["results"]] == [
        (3, "refused", "not_json", ""),
        (4, "refused", "out_of_range", "predictions[0].confidence"),
        (5, "refused", "other_workspace", "workspace"),
        (6, "refused", "not_json", ""),
    ]
    assert ids(world) == {"good": 1, "also good": 1}
    assert 'inferwatch_ingested_total{kind="events"} 2.0' in metrics
    assert 'inferwatch_not_ingested_total{kind="events",reason="not_json"} 2.0' in metrics
    assert "inferwatch_ingest_seconds_count 1.0" in metrics
    assert "inferwatch_ingest_bytes 0.0" in metrics


def test_what_cannot_be_taken_is_refused_with_a_reason(world: Settings, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(MIB), 9) * 90
    packer = zstd.ZstdCompressor()
    streamed = b"".join(packer.compress(bytes(MIB)) for _ in range(512)) + packer.flush()
    path = "/v1/acme/events"
    with http_side(world, tmp_path) as web:
        asked: dict[str, tuple[int, Said]] = {
            "gzip bomb": (413, web.ask("POST", path, bomb, content_encoding="gzip")),
            "zstd bomb": (413, web.ask("POST", path, streamed, content_encoding="zstd")),
            "too large": (413, web.ask("POST", path, bytes(17 * MIB), kind=LINES)),
            "broken gzip": (400, web.ask("POST", path, b"x" * 99, content_encoding="gzip")),
            "unknown encoding": (415, web.ask("POST", path, b"{}", content_encoding="br")),
            "unknown type": (415, web.ask("POST", path, b"{}", kind="text/xml")),
            "no list": (400, web.ask("POST", path, b"[{]")),
            "another method": (405, web.ask("PUT", path, b"[]")),
            "another path": (404, web.ask("POST", "/v1/acme/nothing", b"[]")),
            "no workspace": (404, web.ask("POST", "/v1//events", b"[]")),
            "long idempotency key": (400, web.ask("POST", path, b"[]", idempotency_key="x" * 300)),
        }
        wrong = {
            what: (said.status, said.body[:200]) for what, (status, said) in asked.items() if said.status != status
        }
        assert wrong == {}
        assert all(said.json.keys() == {"reason", "message"} for _, said in asked.values())
        assert web.post(path, [event("after all that")]).accepted == 1
        assert _rss_mb(web) < 300


def _rss_mb(web: HttpSide) -> float:
    status = Path(f"/proc/{web.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_whoever_sends_slowly_holds_up_nobody(world: Settings, tmp_path: Path) -> None:
    head = (
        f"POST /v1/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {LOCAL_KEY}\r\nContent-Length: 999\r\n\r\n"
    )
    with http_side(world, tmp_path, ingest_body_s=1.0) as web:
        slow = [socket.create_connection((HOST, web.web_port), timeout=20) for _ in range(100)]
        for number, one in enumerate(slow):
            one.sendall((head if number % 2 else head[:40]).encode())
        began = time.monotonic()
        assert web.post("/v1/acme/events", [event("quick")]).accepted == 1
        assert time.monotonic() - began < 5
        for one in slow[1::2]:
            one.sendall(b"[")
        assert {one.recv(12) for one in slow[1::2]} == {b"HTTP/1.1 408"}
        for one in slow[::2]:  # header lines that do not end: the server's own deadline
            assert one.recv(12) in (b"", b"HTTP/1.1 408")
        for one in slow:
            one.close()


ENDPOINTS = [("POST", f"/v1/{{}}/{name}") for name in ("events", "heartbeats", "metadata", "cloudevents")]
PROCESS = [("GET", "/metrics")]


def test_every_endpoint_refuses_whom_it_should(world: Settings, tmp_path: Path) -> None:
    """One table: endpoint x bearer, at home and in another workspace."""
    keys = {scope.value: new_key(world, [scope])[1] for scope in Scope}
    keys["everywhere"] = new_key(world, [Scope.INGEST], "*")[1]
    keys["query everywhere"] = new_key(world, [Scope.QUERY], "*")[1]
    revoked_id, keys["revoked"] = new_key(world, [Scope.INGEST])
    keys["made up"] = "iw_0123456789ab_" + "a" * 32
    may = {("ingest", "acme"), ("admin", "acme"), ("everywhere", "acme"), ("everywhere", "other")}
    with http_side(world, tmp_path) as web:
        assert web.post("/v1/acme/events", [], key=keys["revoked"]).status == 200
        _revoke(world, revoked_id)
        eventually(lambda: web.post("/v1/acme/events", [], key=keys["revoked"]).status == 401, 10, "revoked")
        for method, path in ENDPOINTS:
            for who, key in [*keys.items(), ("nobody", None)]:
                for workspace in ("acme", "other"):
                    said = web.ask(method, path.format(workspace), b"[]", key=key, kind="application/json")
                    known = who not in ("nobody", "revoked", "made up")
                    allowed = {200, 415} if (who, workspace) in may else {403} if known else {401}
                    assert said.status in allowed, (method, path, who, workspace, said)
            assert web.ask("POST", f"/v1/other/events?api_key={keys['ingest']}", b"[]", key=None).status == 403
        for method, path in PROCESS:
            allowed_there = {who for who, key in keys.items() if web.ask(method, path, key=key).status == 200}
            assert allowed_there == {"query everywhere"}
        assert web.ask("GET", "/healthz", key=None).json == {"ok": True, "role": "web"}
        assert web.ask("GET", "/readyz", key=None).json == {"ready": True, "role": "web"}
        log = web.log.read_text()
    assert [name for name, key in keys.items() if key in log] == []
    assert ids(world) == {}


def _revoke(settings: Settings, key_id: str) -> None:
    async def revoke(kafka: Kafka) -> None:
        await admin.delete(settings, (await admin.read(settings, kafka)).key(key_id))

    kafka_says(settings, revoke)


def test_a_key_has_its_own_limit(world: Settings, tmp_path: Path) -> None:
    _, key = new_key(world, [Scope.INGEST])
    with http_side(world, tmp_path, ingest_rate=10.0) as web:
        assert web.post("/v1/acme/events", [event(f"a{n}") for n in range(100)], key=key).accepted == 100
        said = web.post("/v1/acme/events", [event(f"b{n}") for n in range(50)], key=key)
        assert (said.status, said.json["reason"]) == (429, "too_fast")
        assert 1 <= int(said.headers["retry-after"]) <= 5
        assert web.post("/v1/acme/events", [event("c")]).accepted == 1  # another key


def test_a_request_that_comes_again_is_taken_once(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path) as web, ThreadPoolExecutor(8) as pool:
        body = orjson.dumps([event(f"a{n}") for n in range(100)])

        def send(_: int) -> bytes:
            return web.ask("POST", "/v1/acme/events", body, idempotency_key="same").body

        assert len(set(pool.map(send, range(20)))) == 1
        assert web.post("/v1/acme/events", [event("other")], idempotency_key="same").accepted == 1
        assert web.post("/v1/other/events", [event("x")], idempotency_key="same").accepted == 1
    assert set(ids(world).values()) == {1}
    assert len(ids(world)) == 102


class _Load:
    """Sends until it is told to end, and again with the same Idempotency-Key what was not taken."""

    def __init__(self, web: HttpSide, name: str, *, again: bool) -> None:
        self.acknowledged: set[str] = set()
        self.statuses: set[int] = set()
        self._web, self._name, self._again = web, name, again
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "_Load":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            names = [f"{self._name}-{number}-{n}" for n in range(20)]
            while not self._send(names) and self._again:
                self._end.wait(0.2)

    def _send(self, names: list[str]) -> bool:
        try:
            said = self._web.post("/v1/acme/events", [event(one) for one in names], idempotency_key=names[0])
        except (OSError, http.client.HTTPException):
            self.statuses.add(0)
            return False
        self.statuses.add(said.status)
        if said.status == 200:
            refused = {one["line"] for one in said.json["results"]}
            self.acknowledged |= {one for line, one in enumerate(names, 1) if line not in refused}
        return said.status == 200


def test_kafka_goes_and_comes_back_and_what_was_acknowledged_is_there_once(
    world: Settings, kafka: Server, tmp_path: Path
) -> None:
    with http_side(world, tmp_path, ingest_answer_s=2.0) as web:
        with _Load(web, "a", again=True) as one, _Load(web, "b", again=True) as other:
            eventually(lambda: len(one.acknowledged) > 100, 30, "some are acknowledged")
            kafka.stop()
            eventually(lambda: 503 in one.statuses, 30, "503")
            said = web.post("/v1/acme/events", [event("while it is away")])
            assert said.status == 503
            assert int(said.headers["retry-after"]) >= 1
            eventually(lambda: web.ask("GET", "/readyz").status == 503, 30, "not ready")
            assert web.ask("GET", "/healthz").status == 200
            hold(12)  # longer than aiokafka would keep a batch by itself
            kafka.start()
            before = len(one.acknowledged)
            eventually(lambda: len(one.acknowledged) > before + 100, 60, "it goes on", lambda: web.child.said()[-2000:])
        eventually(lambda: web.ask("GET", "/readyz").status == 200, 30, "ready again")
        assert one.statuses | other.statuses <= {200, 503}
        there = ids(world)
        acknowledged = one.acknowledged | other.acknowledged
        assert acknowledged - there.keys() == set()
        assert {name: times for name, times in there.items() if times > 1 and name in acknowledged} == {}


def test_while_kafka_stands_still_what_is_held_has_a_bound(world: Settings, kafka: Server, tmp_path: Path) -> None:
    with http_side(world, tmp_path, ingest_buffer_mb=20, ingest_answer_s=2.0) as web:
        assert web.post("/v1/acme/events", [event("first")]).accepted == 1
        kafka.pause()
        big = orjson.dumps([event(f"{n}", x="y" * 100_000) for n in range(60)])
        with ThreadPoolExecutor(12) as pool:
            said = list(pool.map(lambda _: web.ask("POST", "/v1/acme/events", big), range(24)))
        assert {one.status for one in said} == {503}
        assert {one.json["reason"] for one in said} == {"full", "kafka_unavailable"}
        assert _rss_mb(web) < 300
        kafka.resume()
        eventually(lambda: web.post("/v1/acme/events", [event("last")]).status == 200, 60, "it takes again")
    assert ids(world)["last"] == 1


def test_a_process_that_is_killed_has_lost_nothing_that_it_acknowledged(world: Settings, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for turn in range(3):
        with http_side(world, tmp_path / str(turn)) as web:
            with _Load(web, f"{turn}a", again=False) as one, _Load(web, f"{turn}b", again=False) as other:
                eventually(lambda: len(one.acknowledged) > 200, 30, "some are acknowledged")
                web.kill9()
            acknowledged |= one.acknowledged | other.acknowledged
    assert len(acknowledged) > 600
    assert acknowledged - ids(world).keys() == set()


def test_a_process_that_is_told_to_end_answers_what_it_has_begun(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path) as web:
        with _Load(web, "a", again=False) as one:
            eventually(lambda: len(one.acknowledged) > 100, 30, "some are acknowledged")
            assert web.stop(), web.child.said()
            assert web.child.returncode == 0
        assert one.statuses <= {200, 0}
    assert one.acknowledged - ids(world).keys() == set()


def test_idle_connections_do_not_hold_up_the_end(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path) as web:
        idle = [http.client.HTTPConnection(HOST, web.web_port, timeout=10) for _ in range(20)]
        for one in idle:
            one.request("GET", "/healthz")
            assert one.getresponse().read()
        began = time.monotonic()
        assert web.stop()
        assert time.monotonic() - began < 10
        assert web.child.returncode == 0


def test_an_address_that_is_taken_is_said_in_one_line(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path / "1") as web:
        other = HttpSide(world, tmp_path / "2")
        other.web_port = web.web_port
        other._settings = other._settings.model_copy(update={"web_port": web.web_port})
        other.spawn()
        eventually(lambda: not other.alive, 30, "it ends", lambda: other.child.said())
        assert other.child.returncode == 3
        assert f"cannot listen on {HOST}:{web.web_port}" in other.child.said()


def test_a_page_may_send_if_its_origin_is_named(world: Settings, tmp_path: Path) -> None:
    ours, others = "https://app.example.com", "https://evil.example.com"
    allows = "access-control-allow-origin"
    asked: Any = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    with http_side(world, tmp_path, web_origins=f"{ours}/, https://b.example.com") as web:
        preflight = web.ask("OPTIONS", "/v1/acme/events", key=None, origin=ours, **asked)
        assert (preflight.status, preflight.headers[allows]) == (204, ours)
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        sent = web.post("/v1/acme/events", [event("by page")], origin=ours)
        assert (sent.accepted, sent.headers[allows]) == (1, ours)
        refused = web.post("/v1/acme/events", [], key=None, origin=ours)
        assert (refused.status, refused.headers[allows]) == (401, ours)
        for said in (
            web.ask("OPTIONS", "/v1/acme/events", key=None, origin=others, **asked),
            web.post("/v1/acme/events", [], origin=others),
            web.post("/v1/acme/events", []),
        ):
            assert allows not in said.headers


def test_the_address_may_hold_what_a_workspace_may_hold(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path) as web:
        assert web.post("/v1/caf%C3%A9%20%2F%201/events", [event("a")]).accepted == 1
    assert [record["workspace"] for record in on_topic(world)] == ["café / 1"]
