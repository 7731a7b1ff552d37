"""Pictures and vision events over HTTP on the real engines, as Roboflow's clients send them and ask for them."""

import base64
import os
import re
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.config import Settings
from schemas.access import Scope
from schemas.topics import METADATA
from tests.integration.http_side import LOCAL_KEY, HttpSide, Said, http_side, ids, new_key, on_topic
from tests.integration.outside import ask, connect
from tests.integration.workers import eventually, fleet
from tests.unit.test_images import made
from tests.unit.test_vision_bodies import tar

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BOX = {"class": "bolt", "x": 100, "y": 90, "width": 60, "height": 60, "confidence": 0.91}


def at(seconds_ago: float = 0) -> str:
    """Some time ago, as the block writes it."""
    return datetime.fromtimestamp(time.time_ns() / 1e9 - seconds_ago, UTC).isoformat()


def vision_event(name: str, seconds_ago: float = 0, **more: Any) -> dict[str, Any]:
    """A quality check of use case bolts."""
    return {
        "eventId": name,
        "eventType": "quality_check",
        "useCaseId": "bolts",
        "timestamp": at(seconds_ago),
        "eventData": {"result": "fail"},
        **more,
    }


def second_of(event: dict[str, Any]) -> dict[str, str]:
    """The second that begins with it."""
    end = datetime.fromisoformat(event["timestamp"]) + timedelta(seconds=1)
    return {"startTime": event["timestamp"], "endTime": end.isoformat()}


class Client:
    """As Roboflow's Python client speaks: one key, which says the workspace."""

    def __init__(self, web: HttpSide, key: str) -> None:
        self.web, self.key = web, key

    def post(self, path: str, body: Any, **more: Any) -> Said:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.web.ask("POST", path, raw, key=self.key, **more)

    def get(self, path: str) -> Said:
        return self.web.ask("GET", path, key=self.key, kind="")

    def upload(self, raw: bytes, metadata: dict[str, Any] | None = None) -> Said:
        parts = {"file": raw, **({"metadata": orjson.dumps(metadata)} if metadata else {})}
        body = b"".join(
            b'--xyz\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\n\r\n%s\r\n'
            % (name.encode(), value)
            for name, value in parts.items()
        )
        return self.post("/vision-events/upload", body + b"--xyz--\r\n", kind="multipart/form-data; boundary=xyz")

    def found(self, **asked: Any) -> list[dict[str, Any]]:
        said = self.post("/vision-events/query", {"useCaseId": "bolts", **asked})
        assert said.status == 200, said
        return list(said.json["events"])


def client(web: HttpSide, settings: Settings, *scopes: Scope, workspace: str = "acme") -> Client:
    return Client(web, new_key(settings, list(scopes), workspace)[1])


def ready(one: Client, path: str = "/vision-events/use-cases") -> None:
    """Its key has been heard of."""
    eventually(lambda: one.get(path).status != 401, 10, "the key is known")


def test_a_picture_is_kept_and_served_and_nobody_else_sees_it(world: Settings, tmp_path: Path) -> None:
    raw, path = made(size=(900, 600)), "/v1/acme/inferences/e%2F1/image"
    with http_side(world, tmp_path, images_url=str(tmp_path / "images"), images_mb=1) as web:
        stranger = client(web, world, Scope.ADMIN, workspace="other")
        assert web.ask("GET", path).status == 404
        said = web.ask("PUT", path, raw, kind="text/html")
        assert (said.status, said.json["content_type"], said.json["width"]) == (200, "image/jpeg", 900)
        assert said.json["url"] == path
        found = web.ask("GET", path)
        assert (found.status, found.body, found.headers["content-type"]) == (200, raw, "image/jpeg")
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert found.headers["cache-control"].startswith("private")
        small = web.ask("GET", path + "?thumbnail=1")
        assert (small.status, small.headers["content-type"]) == (200, "image/jpeg")
        assert len(small.body) < len(raw)
        assert small.headers["etag"] != found.headers["etag"]
        again = web.ask("GET", path, if_none_match=found.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        head = web.ask("HEAD", path)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(raw)))
        assert web.ask("PUT", path, raw).status == 200
        refused = {
            "another picture": (409, web.ask("PUT", path, made("PNG"))),
            "no picture": (415, web.ask("PUT", "/v1/acme/inferences/x/image", b"<script>", kind="image/png")),
            "cut short": (415, web.ask("PUT", "/v1/acme/inferences/x/image", raw[:2000])),
            "too large": (413, web.ask("PUT", "/v1/acme/inferences/x/image", bytes(2 << 20))),
            "long id": (400, web.ask("PUT", f"/v1/acme/inferences/{'x' * 129}/image", raw)),
            "another method": (405, web.ask("DELETE", path)),
            "nobody": (401, web.ask("GET", path, key=None)),
        }
        assert {what: said.status for what, (status, said) in refused.items() if said.status != status} == {}
        eventually(lambda: web.ask("GET", path, key=stranger.key).status == 403, 10, "the key is known")
        assert web.ask("GET", "/v1/other/inferences/e%2F1/image", key=stranger.key).status == 404
        assert web.ask("GET", "/v1/other/inferences/..%2Facme%2Fe/image", key=stranger.key).status == 404
        _the_lines_of_the_documents_work(web, tmp_path)
        assert b"inferwatch_ingest_bytes 0.0" in web.ask("GET", "/metrics").body
    said_of = [(one["inference_id"], one["field"], one["value"]) for one in on_topic(world, METADATA)]
    assert ("e/1", "image", path) in said_of


def _the_lines_of_the_documents_work(web: HttpSide, directory: Path) -> None:
    (directory / "frame.jpg").write_bytes(made())
    lines = [one for one in (ROOT / "docs" / "http.md").read_text().splitlines() if re.match("curl.*/image", one)]
    assert len(lines) == 2
    told = os.environ | {"INFERWATCH_URL": web.url, "INFERWATCH_API_KEY": LOCAL_KEY}
    for line in lines:
        subprocess.run(
            ["sh", "-c", line.replace("curl", "curl --fail")], env=told, cwd=directory, check=True, timeout=30
        )
    assert (directory / "small.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_vision_events_are_taken_found_counted_and_hidden(world: Settings, tmp_path: Path) -> None:
    where = {"images_url": "memory://pictures"}
    with (
        http_side(world, tmp_path, **where) as web,
        fleet(world, tmp_path) as workers,
        closing(connect(world, "admin")) as db,
    ):
        recorder = workers.start("recorder")
        one = client(web, world, Scope.ADMIN)
        ready(one)
        made_case = one.post("/vision-events/use-cases", {"name": "Bolts", "id": "bolts"})
        assert (made_case.status, made_case.json) == (201, {"id": "bolts", "name": "Bolts"})
        source = one.upload(made(), {"shift": 3})
        assert (source.status, source.json["success"]) == (201, True)
        image = {"sourceId": source.json["sourceId"], "objectDetections": [BOX]}
        first = vision_event("e1", 30, images=[image], deviceId="cam-7", customMetadata={"line": "A1", "count": 3})
        said = one.post("/vision-events", first)
        assert (said.status, said.json) == (201, {"eventId": "e1", "created": True})
        batch = [vision_event(f"b{n}", 60 + n, customMetadata={"count": n}) for n in range(5)]
        batch.insert(2, vision_event("bad", eventType="party"))
        told = one.post("/vision-events/batch", {"events": batch})
        assert (told.status, told.json["created"], told.json["errors"][0]["index"]) == (201, 5, 2)
        feedback = {"relatedEventId": "e1", "feedback": "incorrect"}
        told = one.post("/vision-events", vision_event("f1", 5, eventType="operator_feedback", eventData=feedback))
        assert told.status == 201
        device = _from_devices(one)
        eventually(lambda: _count(db) == 9, 30, "all are rows", recorder.child.said)
        _are_found(one, first)
        columns = "model_id, device_id, `detections.class`, image_width, metadata['result']"
        row = ask(db, f"SELECT {columns} FROM inferences WHERE event_id = 'e1'")
        assert row == [("bolts", "cam-7", ["bolt"], 640, "fail")]
        assert ask(db, "SELECT count(), uniqExact(event_id) FROM inferences") == [(8, 8)]
        added = ask(db, "SELECT inference_id, field, value FROM inference_metadata")
        assert added == [("e1", "feedback", "incorrect")]
        _is_seen(one, source.json["url"])
        _come_again_and_go(one, first, db, device)


def _from_devices(one: Client) -> str:
    """A bundle, and an event of the store beside a device; the id of the first."""
    payload = {
        "bundleFormatVersion": 1,
        "eventId": "bundled",
        "eventType": "custom",
        "timestamp": at(20),
        "images": [
            {"file": "images/a.jpg", "inputFile": "images/b.jpg", "label": "workflow", "objectDetections": [BOX]}
        ],
        "eventData": {"value": "x"},
    }
    members = (("payload.json", orjson.dumps(payload)), ("images/a.jpg", made()), ("images/b.jpg", made("PNG")))
    said = one.post("/vision-events/bundle?useCaseId=bolts", tar(*members, mode="w:gz"), kind="application/gzip")
    assert (said.status, said.json) == (201, {"eventId": "bundled", "created": True})
    evil = tar(*members, ("../../x", b"x"))
    assert one.post("/vision-events/bundle?useCaseId=bolts", evil, kind="application/x-tar").status == 400
    local = {
        "inference_timestamp": at(10),
        "solution": "on-the-line",
        "event_schema": "quality_check",
        "event_data": {"result": "pass"},
        "images": [{"base64Image": base64.b64encode(made()).decode(), "objectDetections": [BOX]}],
    }
    heard = one.web.ask("POST", "/v2/events", orjson.dumps(local), key=None, x_api_key=one.key)
    assert (heard.status, list(heard.json)) == (201, ["id"])
    return "bundled"


def _are_found(one: Client, first: dict[str, Any]) -> None:
    assert [event["eventId"] for event in one.found()] == ["f1", "bundled", "e1", "b0", "b1", "b2", "b3", "b4"]
    assert one.found(eventType="quality_check", deviceId="cam-7") == [first]
    said = one.post("/vision-events/query", {"useCaseId": "bolts", "limit": 3}).json
    assert (len(said["events"]), said["hasMore"], said["lookbackDays"]) == (3, True, 30)
    seen, cursor = [event["eventId"] for event in said["events"]], said["nextCursor"]
    while cursor:
        said = one.post("/vision-events/query", {"useCaseId": "bolts", "limit": 3, "cursor": cursor}).json
        seen, cursor = seen + [event["eventId"] for event in said["events"]], said["nextCursor"]
    assert seen == ["f1", "bundled", "e1", "b0", "b1", "b2", "b3", "b4"]

    def names(**asked: Any) -> list[str]:
        return [event["eventId"] for event in one.found(**asked)]

    assert names(customMetadataFilters=[{"field": "count", "operator": "gt", "value": 2, "type": "number"}]) == [
        "e1",
        "b3",
        "b4",
    ]
    assert names(customMetadataFilters=[{"field": "line", "operator": "eq", "value": "A1"}]) == ["e1"]
    assert names(eventFieldFilters=[{"column": "value", "operator": "contains", "value": "X"}]) == ["bundled"]
    assert names(detectionFilters=[{"class": "bolt", "confidence": 0.9}]) == ["bundled", "e1"]
    assert names(detectionFilters=[{"class": "bolt", "confidence": 0.92}]) == []
    assert names(imageMetadataFilters=[{"field": "shift", "operator": "eq", "value": 3}]) == ["e1"]
    assert names(**second_of(first)) == ["e1"]
    assert one.post("/vision-events/query", {"useCaseId": "bolts", "solution": 1}).status == 400
    schema = one.get("/vision-events/custom-metadata-schema/bolts").json
    assert schema == {"fields": {"count": {"types": ["number"]}, "line": {"types": ["string"]}}}
    assert one.get("/vision-events/image-metadata-schema/bolts").json == {"fields": {"shift": {"types": ["number"]}}}
    listed = one.get("/vision-events/use-cases").json["useCases"]
    assert [(case["id"], case["status"], case["eventCount"]) for case in listed] == [
        ("bolts", "active", 8),
        ("on-the-line", "active", 1),
    ]


def _is_seen(one: Client, url: str) -> None:
    assert one.get(url + "?thumbnail=1").headers["content-type"] == "image/jpeg"
    [bundled] = [event for event in one.found() if event["eventId"] == "bundled"]
    [image] = bundled["images"]
    assert image.keys() == {"sourceId", "inputSourceId", "label", "objectDetections"}
    assert one.get(f"/v1/acme/inferences/{image['inputSourceId']}/image").headers["content-type"] == "image/png"


def _count(db: Any) -> int:
    [(count,)] = ask(db, "SELECT count() FROM vision_events")
    return int(count)


def _come_again_and_go(one: Client, first: dict[str, Any], db: Any, other: str) -> None:
    """An event that comes again stands in place of the one before, and counts once; one that is deleted is gone."""
    changed = first | {"eventData": {"result": "pass"}, "timestamp": at(3600)}
    assert one.post("/vision-events", changed).status == 201
    eventually(lambda: _count(db) == 10, 30, "it is there")
    assert one.found(deviceId="cam-7") == [changed]
    assert one.found(**second_of(first)) == []
    assert ask(db, "SELECT count() FROM inferences WHERE event_id = 'e1'") == [(1,)]
    gone = one.post("/vision-events/delete", {"useCaseId": "bolts", "eventIds": ["e1", other, "nobody"]})
    assert (gone.status, gone.json) == (200, {"deleted": 2, "notFound": ["nobody"]})
    eventually(lambda: _count(db) == 12, 30, "they are hidden")
    assert [event["eventId"] for event in one.found()] == ["f1", "b0", "b1", "b2", "b3", "b4"]
    assert one.post("/vision-events/delete", {"useCaseId": "bolts", "eventIds": ["e1"]}).json["deleted"] == 0
    assert one.web.ask("PUT", "/vision-events/use-cases/bolts", b'{"name":"Nuts"}', key=one.key).json == {
        "id": "bolts",
        "name": "Nuts",
    }
    assert one.post("/vision-events/use-cases/bolts/archive", b"").json == {"success": True}
    assert [case["id"] for case in one.get("/vision-events/use-cases").json["useCases"]] == ["on-the-line"]
    [case] = one.get("/vision-events/use-cases?status=inactive").json["useCases"]
    assert (case["name"], case["eventCount"]) == ("Nuts", 6)
    assert one.post("/vision-events/use-cases/bolts/unarchive", b"").json == {"success": True}


ENDPOINTS: list[tuple[str, str, Scope]] = [
    ("POST", "/vision-events", Scope.INGEST),
    ("POST", "/vision-events/batch", Scope.INGEST),
    ("POST", "/vision-events/upload", Scope.INGEST),
    ("POST", "/vision-events/bundle", Scope.INGEST),
    ("POST", "/vision-events/query", Scope.QUERY),
    ("POST", "/vision-events/delete", Scope.ADMIN),
    ("GET", "/vision-events/use-cases", Scope.QUERY),
    ("POST", "/vision-events/use-cases", Scope.INGEST),
    ("PUT", "/vision-events/use-cases/bolts", Scope.ADMIN),
    ("POST", "/vision-events/use-cases/bolts/archive", Scope.ADMIN),
    ("POST", "/vision-events/use-cases/bolts/unarchive", Scope.ADMIN),
    ("GET", "/vision-events/custom-metadata-schema/bolts", Scope.QUERY),
    ("GET", "/vision-events/image-metadata-schema/bolts", Scope.QUERY),
    ("POST", "/v2/events", Scope.INGEST),
]  # fmt: skip


def test_who_may_not_is_refused_everywhere_and_pictures_that_are_not_kept_stop_no_event(
    world: Settings, tmp_path: Path
) -> None:
    with http_side(world, tmp_path) as web:
        keys = {scope: client(web, world, scope) for scope in Scope}
        everywhere = client(web, world, Scope.ADMIN, workspace="*")
        ready(everywhere)
        for method, path, needed in ENDPOINTS:
            for scope, one in keys.items():
                said = web.ask(method, path, b"{}", key=one.key)
                may = scope in (needed, Scope.ADMIN)
                assert (said.status == 403) != may, (method, path, scope, said)
                assert web.ask(method, f"{path}?workspace=other", b"{}", key=one.key).status == 403
            assert web.ask(method, path, b"{}", key=None).status == 401
            assert web.ask(method, path, b"{}", key=everywhere.key).json["reason"] == "which_workspace"
            assert web.ask("PATCH", path, b"{}", key=everywhere.key).status == 405
        admin = keys[Scope.ADMIN]
        assert (
            everywhere.post("/vision-events/use-cases?workspace=acme", {"name": "Bolts", "id": "bolts"}).status == 201
        )
        said = admin.upload(made())
        assert (said.status, said.json["url"]) == (201, "")
        assert "INFERWATCH_IMAGES_URL" in said.json["warnings"][0]
        assert (
            admin.post("/vision-events", vision_event("e1", images=[{"sourceId": said.json["sourceId"]}])).status == 201
        )
        assert web.ask("PUT", "/v1/acme/inferences/e/image", made()).json["reason"] == "images_off"
        assert web.ask("GET", "/v1/acme/inferences/e/image").json["reason"] == "images_off"
        unknown = admin.post("/vision-events", vision_event("e2", useCaseId="nobody's"))
        assert (unknown.status, "no such use case" in unknown.json["message"]) == (400, True)
        assert web.ask("GET", "/vision-events/nothing", key=admin.key).status == 404
        assert admin.post("/vision-events/upload", b"{}").status == 415
        assert admin.post("/vision-events/bundle", b"x" * 99).status == 400
        assert admin.post("/vision-events/batch", {"events": [{}] * 101}).status == 400
    assert set(ids(world)) == {"e1"}
