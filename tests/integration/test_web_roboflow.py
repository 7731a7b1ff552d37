"""Roboflow's servers and scripts on the real engines: all they send arrives, what they ask is answered right."""

import asyncio
import re
import secrets
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from schemas.access import Scope
from schemas.topics import ALERTS, HEARTBEATS
from tests import roboflow
from tests.integration.engines import Server
from tests.integration.http_side import LOCAL_KEY, HttpSide, Said, event, http_side, ids, new_key, on_topic
from tests.integration.outside import ask, connect
from tests.integration.receivers import Receiver, receiver
from tests.integration.workers import eventually, fleet

pytestmark = pytest.mark.integration


def recent(results: list[Any] | None = None, **more: Any) -> bytes:
    """A pingback of now."""
    found = roboflow.pingback(results, **more)
    at_s = now_ms() / 1000 - 5
    for number, one in enumerate(found["inference_results"]):
        one["request_time"] = at_s + number / 1000
    return orjson.dumps(found)


def ping(web: HttpSide, body: bytes, key: str = LOCAL_KEY, **query: str) -> Said:
    """As a server whose METRICS_URL holds the key: no header of ours."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return web.ask("POST", f"/inference-stats?api_key={key}{more}", body, key=None)


def results(name: str, count: int) -> list[Any]:
    """Inferences with ids of their own."""
    return [roboflow.result(roboflow.SEEN, inference_id=f"{name}-{n}") for n in range(count)]


def test_captured_traffic_becomes_inferences_windows_and_devices_and_silence_is_told(
    world: Settings, tmp_path: Path
) -> None:
    settings = world.model_copy(update={"heartbeat_page_beats": 5, "standstill_s": 3600})
    _, key = new_key(world, [Scope.INGEST])
    full = roboflow.result([roboflow.FULL, roboflow.FULL], inference_id="batch")
    with http_side(settings, tmp_path) as web, fleet(settings, tmp_path) as workers:
        workers.wait_ready(*[workers.start(role) for role in ("recorder", "aggregator", "detector")])
        body = recent()
        assert ping(web, body, key, interval="1").json == {"status": "ok"}
        assert ping(web, body, key, interval="1").status == 200  # the same again: a beat, no inferences
        by_body = recent([full], api_key=key)
        assert web.ask("POST", "/inference-stats", by_body, key=None).status == 200
        _blocks(web, key)
        for _ in range(10):  # it is missed once it is known
            assert ping(web, recent([]), key, interval="1").status == 200
        with closing(connect(world, "admin")) as client:
            seen = "SELECT event_id, model_id, source, length(`detections.class`) FROM inferences ORDER BY event_id"
            eventually(lambda: len(ask(client, seen)) == 6, 30, "all are rows", lambda: ask(client, seen))
            assert ask(client, seen) == sorted(
                [
                    (roboflow.BOLT, "bolts/7", "roboflow", 3),
                    (roboflow.EMPTY, "bolts/7", "roboflow", 0),
                    ("batch", "bolts/7", "roboflow", 1),
                    ("batch:1", "bolts/7", "roboflow", 1),
                    ("f4e2c129-1111-4222-8333-444455556666", "video/1", "webhook", 1),
                    ("sampled:9bb27377-1111-4222-8333-444455556666", "sampled:bolts/7", "roboflow-aggregator", 1),
                ]
            )
            added = "SELECT inference_id, field, value FROM inference_metadata"
            eventually(lambda: ask(client, added) == [(roboflow.BOLT, "line", "3")], 20, "metadata")
            beats = "SELECT DISTINCT workspace, device_id, server_id, boot_id, version, tags FROM device_heartbeats"
            beats += " WHERE workspace = 'acme'"
            beat = ("acme", "line-3-cam-1", "srv-A", "1795373536", "1.8.3", ["plant1", "line3"])
            eventually(lambda: ask(client, beats) == [beat], 20, "devices")
            windows = "SELECT sum(inference_count), sum(empty_count), sum(detection_count) FROM model_windows"
            windows += " WHERE model_id = 'bolts/7'"
            eventually(lambda: ask(client, windows) == [(4, 1, 5)], 40, "windows", lambda: ask(client, windows))
            assert ask(client, "SELECT count() FROM dead_letters") == [(0,)]
        eventually(
            lambda: "firing" in _silences(world),
            40,
            "silence",
            lambda: (on_topic(world, HEARTBEATS), on_topic(world, ALERTS)),
        )
        _curl_lines_work(web)
        _log_has_no_secret(web, key)


def _blocks(web: HttpSide, key: str) -> None:
    """What blocks of workflows send, where API_BASE_URL is ours."""
    assert web.ask("GET", f"/?api_key={key}&nocache=true", key=None).json == {"workspace": "acme"}
    added = orjson.dumps(roboflow.ADDED)
    path = "/acme/inference-stats/metadata"
    assert web.ask("POST", f"{path}?api_key={key}&nocache=true", added, key=None).json == {"status": "ok"}
    broken = web.ask("POST", path, orjson.dumps({"api_key": key, "data": 3}), key=None)
    assert (broken.status, broken.json) == (400, {"error": "Invalid request"})
    sampled = orjson.dumps(roboflow.AGGREGATED)
    assert web.ask("POST", f"/acme/inference-stats?api_key={key}", sampled, key=None).status == 200
    hook = orjson.dumps(roboflow.WEBHOOK)
    assert web.ask("POST", "/v1/acme/webhook?model_id=video/1", hook, key=key).status == 200
    for method, path in (
        ("POST", "/acme/inference-stats"),
        ("POST", "/v1/acme/webhook"),
        ("GET", "/acme/inference-stats"),
    ):
        for bearer, status in ((None, 401), ("wrong", 401), (key, 403)):
            other = path.replace("acme", "other") if status == 403 else path
            assert web.ask(method, other, b"{}", key=bearer).status == status, (method, path, bearer)
    assert web.ask("POST", "/inference-stats", recent(api_key="rf_unknown"), key=None).status == 401
    assert web.ask("POST", "/inference-stats", b"[]", key=key).status == 400
    assert web.ask("PUT", "/inference-stats", b"[]", key=key).status == 405


def _silences(settings: Settings) -> set[str]:
    told = [record["data"] for record in on_topic(settings, ALERTS)]
    return {one["state"] for one in told if one["metric"] == "silence_s" and one["device_id"] == "line-3-cam-1"}


def _curl_lines_work(web: HttpSide) -> None:
    """Those of the page about the move."""
    text = (Path(__file__).parents[2] / "docs" / "from-roboflow.md").read_text()
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("curl")]
    assert len(lines) == 2
    told = {"INFERWATCH_URL": web.url, "INFERWATCH_API_KEY": LOCAL_KEY, "PATH": "/usr/bin:/bin"}
    answers = [subprocess.run(["sh", "-c", line], env=told, capture_output=True, check=True).stdout for line in lines]
    assert orjson.loads(answers[0]) == {"status": "ok"}
    assert "inference_stats" in orjson.loads(answers[1])


def _log_has_no_secret(web: HttpSide, key: str) -> None:
    said = web.log.read_text()
    spooled = b"".join(path.read_bytes() for path in (web.log.parent / "spool").rglob("*") if path.is_file())
    for secret in (key, *roboflow.SECRETS[:2], roboflow.SECRETS[3]):
        assert secret not in said
        assert secret.encode() not in spooled


# kill -9, Kafka away


def test_what_was_answered_while_kafka_was_away_is_there_after_a_kill_of_the_process(
    world: Settings, kafka: Server, tmp_path: Path
) -> None:
    sent: set[str] = set()
    _, key = new_key(world, [Scope.INGEST])
    with http_side(world, tmp_path) as web:
        assert ping(web, recent(results("before", 50)), key).status == 200
        eventually(lambda: len(ids(world)) == 50, 20, "it is on the topic")
        eventually((tmp_path / "spool" / "keys.msgpack").exists, 10, "keys are remembered")
        kafka.stop()
        took: list[float] = []
        for number in range(10):
            body = recent(results(f"away{number}", 100))
            began = time.monotonic()
            assert ping(web, body, key).status == 200
            took.append(time.monotonic() - began)
            sent |= {f"away{number}-{n}" for n in range(100)}
        assert statistics.median(took) < 1, took  # milliseconds where the machine is free
        assert web.ask("GET", "/healthz").status == 200
        assert "inferwatch_spool_bytes 0.0" not in web.ask("GET", "/metrics").body.decode()
        web.kill9()
        web.spawn()
        eventually(lambda: web.healthy(), 30, "it is there again")
        assert ping(web, recent(results("again", 10)), key).status == 200
        kafka.start()
        eventually(lambda: len(ids(world)) == 1060, 60, "all are on the topic", lambda: len(ids(world)))
        metrics = web.ask("GET", "/metrics").body.decode()
        eventually(
            lambda: "inferwatch_spool_bytes 0.0" in web.ask("GET", "/metrics").body.decode(), 20, "nothing waits"
        )
        assert re.search(r'inferwatch_ingested_total\{kind="events"\} 1010\.0', metrics)
    assert sent - ids(world).keys() == set()
    assert {name: times for name, times in ids(world).items() if times > 1} == {}


def test_a_spool_without_room_refuses_and_takes_again_once_kafka_is_back(
    world: Settings, kafka: Server, tmp_path: Path
) -> None:
    with http_side(world, tmp_path, web_spool_mb=1) as web:
        kafka.pause()
        taken: list[str] = []
        for number in range(400):
            if ping(web, recent(_noise(number))).status != 200:
                break
            taken += [f"noise{number}-{n}" for n in range(300)]
        said = ping(web, recent(_noise(number)))
        assert (said.status, said.json["reason"], said.headers["retry-after"]) == (503, "full", "10")
        kafka.resume()
        eventually(lambda: ping(web, recent(_noise(number))).status == 200, 60, "it takes again")
        assert "inferwatch_spool_refused_total 0.0" not in web.ask("GET", "/metrics").body.decode()
        eventually(lambda: set(taken) - ids(world).keys() == set(), 60, "all that was taken is on the topic")


def _noise(number: int) -> list[Any]:
    """Inferences that pack badly."""
    return [
        roboflow.result(roboflow.SEEN, inference_id=f"noise{number}-{n}", source=secrets.token_hex(500))
        for n in range(300)
    ]


# Passing on


def test_pingbacks_are_passed_on_with_the_key_that_roboflow_knows_and_never_with_ours(
    world: Settings, tmp_path: Path
) -> None:
    _, key = new_key(world, [Scope.INGEST])

    async def run() -> None:
        async with receiver(200, "hang") as theirs:
            with http_side(world, tmp_path, roboflow_forward_url=theirs.url) as web:
                await asyncio.to_thread(_passed_on, web, theirs, key)

    asyncio.run(run())


def _passed_on(web: HttpSide, theirs: Receiver, key: str) -> None:
    for withheld in (recent(api_key=key), recent(api_key=LOCAL_KEY), recent(api_key=None)):
        assert ping(web, withheld, key).status == 200
    body = recent(api_key="rf_theirs")
    assert ping(web, body, key).status == 200
    eventually(lambda: len(theirs.requests) == 1, 20, "passed on")
    assert theirs.requests[0][1] == body
    assert key not in str(theirs.requests[0][0])
    began = time.monotonic()  # from now on nobody answers there
    assert all(ping(web, recent(results("x", 3), api_key="rf_theirs"), key).status == 200 for _ in range(10))
    assert time.monotonic() - began < 5
    metrics = web.ask("GET", "/metrics").body.decode()
    assert 'inferwatch_forwarded_total{outcome="withheld"} 3.0' in metrics
    assert 'inferwatch_forwarded_total{outcome="sent"} 1.0' in metrics


# Asking


def test_statistics_are_those_of_an_independent_recount(world: Settings, tmp_path: Path) -> None:
    _, key = new_key(world, [Scope.QUERY, Scope.INGEST])
    end_ms = now_ms() // 1000 * 1000 - 60_000
    events = list(_made(end_ms))
    with http_side(world, tmp_path) as web, fleet(world, tmp_path) as workers:
        workers.start("recorder")
        assert web.post("/v1/acme/events", events).accepted == len(events)
        assert web.ask("POST", f"/acme/inference-stats?api_key={key}", orjson.dumps(roboflow.AGGREGATED)).status == 200
        with closing(connect(world, "admin")) as client:
            eventually(lambda: ask(client, "SELECT count() FROM inferences") == [(len(events) + 1,)], 30, "rows")
        times = f"startTime={_text(end_ms - 3_600_000)}&endTime={_text(end_ms)}"
        said = web.ask("GET", f"/acme/inference-stats?api_key={key}&{times}", key=None)
        assert said.status == 200, said
        _same(said.json, _recount(events, end_ms, None))
        said = web.ask("GET", f"/acme/inference-stats?api_key={key}&{times}&modelNames=cards,nobody", key=None)
        _same(said.json, _recount(events, end_ms, "cards"))
        assert web.ask("GET", "/acme/inference-stats", key=key).json["num_inferences"] > 0  # the last day
        broken = web.ask("GET", "/acme/inference-stats?startTime=yesterday", key=key)
        assert (broken.status, broken.json) == (400, {"error": "Invalid request"})


def _text(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d%%20%H:%M:%S", time.gmtime(at_ms // 1000))


def _made(end_ms: int) -> Iterator[dict[str, Any]]:
    """Two hours and more of two models in three versions; some see nothing, some fail, some do not say how long."""
    for n in range(900):
        classes = [("king", "ten", "jack")[(n + k) % 3] for k in range(n % 4)]
        yield event(
            f"e{n}",
            model_id=("cards/1", "cards/2", "bolts/7")[n % 3] if n % 7 else "bare",
            event_time_ms=end_ms - 8_000_000 + n * 9_000,
            latency_ms=None if n % 5 == 0 else 10 + n % 90,
            error="broken" if n % 50 == 0 else None,
            predictions=[{"class": c, "confidence": (n * 37 + k * 11) % 1000 / 1000} for k, c in enumerate(classes)],
            deployment=("edge", "hosted")[n % 2],
            server_version=f"1.{n % 3}",
        )


def _recount(events: list[dict[str, Any]], end_ms: int, only: str | None) -> dict[str, Any]:
    """The same by other means, from what was sent."""
    told: dict[str, Any] = {}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for prefix, until_ms in (("", end_ms), ("prev_", end_ms - 3_600_000)):
        here = [e for e in events if until_ms - 3_600_000 <= e["event_time_ms"] < until_ms]
        here = [e for e in here if only is None or e["model_id"].split("/")[0] == only]
        good = [e for e in here if e["error"] is None]
        confidences = [p["confidence"] for e in good for p in e["predictions"]]
        times = [e["latency_ms"] / 1000 for e in good if e["latency_ms"] is not None]
        told |= {
            f"{prefix}num_inferences": len(good),
            f"{prefix}num_errors": len(here) - len(good),
            f"{prefix}avg_confidence": statistics.fmean(confidences),
            f"{prefix}avg_response_time": statistics.fmean(times),
        }
        per_model = Counter(e["model_id"].split("/")[0] for e in good)
        for model in per_model:
            of_model = [e for e in good if e["model_id"].split("/")[0] == model]
            for name in {p["class"] for e in of_model for p in e["predictions"]} | {""}:
                with_it = [e for e in of_model if name in ({p["class"] for p in e["predictions"]} or {""})]
                if not with_it:
                    continue
                of_class = [p["confidence"] for e in with_it for p in e["predictions"] if p["class"] == name]
                known = [e["latency_ms"] / 1000 for e in with_it if e["latency_ms"] is not None]
                row = rows.setdefault((model, name), {"model_name": model, "predicted_class": name})
                row |= {
                    f"{prefix}num_inferences": len(with_it),
                    f"{prefix}avg_confidence": statistics.fmean(of_class) if of_class else 0,
                    f"{prefix}avg_response_time": statistics.fmean(known) if known else 0,
                    f"{prefix}model_num_inferences": per_model[model],
                }
                if not prefix:
                    row["median_confidence"] = statistics.median(of_class) if of_class else 0
                    row["class_count"] = len(of_class) or len(with_it)
                    row["deployment_types"] = ",".join(sorted({e["deployment"] for e in with_it}))
                    row["inference_server_versions"] = ",".join(sorted({e["server_version"] for e in with_it}))
    return told | {"inference_stats": list(rows.values())}


_FIELDS = {
    "model_name", "predicted_class", "num_inferences", "prev_num_inferences", "num_errors", "prev_num_errors",
    "avg_confidence", "prev_avg_confidence", "avg_response_time", "prev_avg_response_time", "median_confidence",
    "class_count", "deployment_types", "inference_server_versions", "model_num_inferences", "prev_model_num_inferences",
}  # fmt: skip


def _same(told: dict[str, Any], counted: dict[str, Any]) -> None:
    rows = {(row["model_name"], row["predicted_class"]): row for row in told.pop("inference_stats")}
    expected = {(row["model_name"], row["predicted_class"]): row for row in counted.pop("inference_stats")}
    assert told == pytest.approx(counted, rel=1e-9)
    assert rows.keys() == expected.keys()
    assert len(rows) >= 4
    for key, row in rows.items():
        assert row.keys() == _FIELDS
        for name, value in row.items():
            wanted = expected[key].get(name)
            assert value == (wanted if isinstance(wanted, str | None) else pytest.approx(wanted, rel=1e-9)), (key, name)
