"""What the query API answers, against a recount in plain Python; windows and single inferences say the same."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from statistics import mean
from typing import Any
from urllib.parse import urlencode

import pytest

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.web.query import moments
from schemas.rule import Metric
from tests.asked_once import create_topics
from tests.integration.asked_world import fill, rows
from tests.integration.engines import Engines, world_settings
from tests.integration.http_side import HttpSide, http_side
from tests.integration.outside import connect, ensure_users, migrate
from tests.integration.seeding import insert

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Web:
    """The HTTP side, and what its ClickHouse holds of acme."""

    side: HttpSide
    settings: Settings
    rows: list[dict[str, Any]]
    now_ms: int

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """An answer's JSON; `filter_` and `from_` stand for the words without _."""
        asked = urlencode({name.rstrip("_"): value for name, value in query.items()})
        said = self.side.ask("GET", f"/v1/acme{path}" + (f"?{asked}" if asked else ""))
        assert said.status == status, (path, said.status, said.body[:500])
        return said.json


@pytest.fixture(scope="module")
def web(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One for all: nothing is changed but by who says so."""
    engines.revive()
    settings, at_ms = world_settings(engines), now_ms()
    asyncio.run(create_topics(settings))
    migrate(settings)
    if engines.users_by_sql:
        ensure_users(settings)
    found = rows(at_ms)
    fill(settings, found)
    fill(settings, rows(at_ms, workspace="rival", seed=2))
    _beside(settings, at_ms)
    with http_side(settings, tmp_path_factory.mktemp("web")) as side:
        yield Web(side, settings, found, at_ms)
    with closing(connect(settings, "admin", database="default")) as client:
        client.command(f"DROP DATABASE {settings.clickhouse_database}")


def _beside(settings: Settings, at_ms: int) -> None:
    """Metadata that came later, heartbeats, and an alert about a device."""
    with closing(connect(settings, "admin")) as admin:
        said = {"workspace": "acme", "inference_id": "e0003", "field": "verdict", "kafka_time": at_ms / 1000}
        late = [{**said, "value": value, "sent_at": at_ms / 1000 + n} for n, value in enumerate(("right", "wrong"))]
        insert(admin, "inference_metadata", late)
        beat = {"workspace": "acme", "interval_ms": 10_000, "kafka_time": at_ms / 1000, "tags": ["hall 2"]}
        ages_s = {"cam-0": 5, "cam-1": 500, "cam-2": 500, "cam-9": 20}
        beats = [
            {**beat, "device_id": name, "sent_at": at_ms / 1000 - age - more, "version": f"1.{more}",
             "status": "stopping" if name == "cam-9" else "up"}
            for name, age in ages_s.items() for more in (0, 10)
        ]  # fmt: skip
        insert(admin, "device_heartbeats", beats)
        alert = {"workspace": "acme", "fingerprint": "f", "kind": "heartbeat", "device_id": "cam-2", "state": "firing",
                 "at": at_ms / 1000, "episode": at_ms / 1000}  # fmt: skip
        insert(admin, "alerts", [alert])


ROWS = "detections:>=0"  # everything, but windows cannot say it


@pytest.mark.parametrize("text", ["", ROWS])
def test_headline_numbers_are_those_of_a_recount(web: Web, text: str) -> None:
    middle_ms = (web.now_ms - 3_600_000) // 10_000 * 10_000
    said = web.get("/overview", from_=middle_ms, filter_=text)
    assert said["source"] == ("inferences" if text else "model_windows")
    now = [row for row in web.rows if row["event_time"] * 1000 >= middle_ms]
    length_ms = now_ms() - middle_ms
    before = [row for row in web.rows if middle_ms - length_ms <= row["event_time"] * 1000 < middle_ms]
    for found, which in ((now, "value"), (before, "previous")):
        assert said["error_rate"][which] == pytest.approx(mean(row["error"] != "" for row in found), rel=0.05)
        assert said["inferences"][which] == pytest.approx(len(found), abs=2)  # time goes on while we ask
    count = len(now)
    ppm = [p for row in now for p in row["detections.confidence_ppm"]]
    latencies = sorted(row["latency_us"] for row in now if row["latency_us"] is not None)
    assert said["inferences"]["value"] == count
    assert said["detections"]["value"] == len(ppm)
    assert said["devices"]["value"] == 3
    assert said["models"]["value"] == 3
    assert said["confidence_mean"]["value"] == pytest.approx(mean(ppm) / 1e6)
    assert said["latency_mean_ms"]["value"] == pytest.approx(mean(latencies) / 1000)
    assert said["latency_p95_ms"]["value"] == pytest.approx(
        latencies[-(-len(latencies) * 95 // 100) - 1] / 1000, rel=0.02
    )
    assert said["empty_rate"]["value"] == pytest.approx(mean(not row["detections.class"] for row in now))
    change = said["inferences"]
    assert change["change_percent"] == pytest.approx(100 * (change["value"] / change["previous"] - 1), abs=0.01)


def test_where_nothing_was_there_is_nothing_to_tell(web: Web) -> None:
    for text in ("", ROWS, "device:nobody"):
        said = web.get("/overview", from_="2026-01-02T00:00:00Z" if text != ROWS else web.now_ms - 9 * 86_400_000,
                       to=web.now_ms - 8 * 86_400_000, filter_=text)  # fmt: skip
        assert said["inferences"] == {"value": 0, "previous": 0, "change_percent": None}
        assert said["latency_p95_ms"] == {"value": None, "previous": None, "change_percent": None}
        assert said["error_rate"]["value"] is None


def test_models_are_told_with_how_they_do(web: Web) -> None:
    for text in ("", ROWS):
        items = {one["model_id"]: one for one in web.get("/models", filter_=text)["items"]}
        counts = Counter(row["model_id"] for row in web.rows)
        assert {name: one["inferences"] for name, one in items.items()} == counts
        assert (items["helmets/2"]["name"], items["helmets/2"]["version"]) == ("helmets", "2")
        assert (items["vests"]["name"], items["vests"]["version"]) == ("vests", "")
    [one] = web.get("/models", filter_="model:vests")["items"]
    assert one["model_id"] == "vests"
    errors = [row["error"] != "" for row in web.rows if row["model_id"] == "vests"]
    assert one["error_rate"] == pytest.approx(mean(errors))
    quiet = web.get("/models", from_=web.now_ms - 3 * 86_400_000, to=web.now_ms - 2 * 86_400_000)["items"]
    assert {one["inferences"] for one in quiet} == {0}
    assert len(quiet) == 3


def test_one_model_has_versions_and_classes(web: Web) -> None:
    whole = web.get("/models/helmets")
    assert {one["model_id"] for one in whole["versions"]} == {"helmets/1", "helmets/2"}
    for path in ("/models/helmets%2F1", "/models/helmets/1"):
        one = web.get(path)
        assert [version["model_id"] for version in one["versions"]] == ["helmets/1"]
        classes = Counter(c for row in web.rows if row["model_id"] == "helmets/1" for c in row["detections.class"])
        assert {c["class"]: c["detections"] for c in one["classes"]["items"]} == classes
    assert web.get("/models/nobody", 404)["reason"] == "not_found"


@pytest.mark.parametrize("text", ["", ROWS, "class:person"])
def test_classes_are_counted_and_shared(web: Web, text: str) -> None:
    said = web.get("/classes", filter_=text)
    names = [c for row in web.rows for c in row["detections.class"] if text != "class:person" or c == "person"]
    assert {one["class"]: one["detections"] for one in said["items"]} == Counter(names)
    assert sum(one["share"] for one in said["items"]) == pytest.approx(1)
    one = said["items"][0]
    ppm = [
        p
        for row in web.rows
        for c, p in zip(row["detections.class"], row["detections.confidence_ppm"], strict=True)
        if c == one["class"]
    ]
    assert one["confidence_mean"] == pytest.approx(mean(ppm) / 1e6)
    assert one["inferences"] == sum(one["class"] in row["detections.class"] for row in web.rows)
    half = sorted(ppm)[-(-len(ppm) // 2) - 1]
    assert one["confidence_p50"] == pytest.approx(min(1, half // 10_000 / 100 + 0.005))


@pytest.mark.parametrize("sort", ["-time", "time", "-latency", "latency", "-confidence", "confidence"])
def test_pages_hold_every_inference_once_and_in_order(web: Web, sort: str) -> None:
    said, ids = web.get("/inferences", sort=sort, limit=150, filter_="model:helmets"), []
    while True:
        ids += [one["event_id"] for one in said["items"]]
        if not said["next"]:
            break
        said = web.get("/inferences", sort=sort, limit=150, filter_="model:helmets", cursor=said["next"])
    found = {row["event_id"]: row for row in web.rows if row["model_id"].startswith("helmets/")}
    assert sorted(ids) == sorted(found)
    sign = -1 if sort.startswith("-") else 1

    def known(row: dict[str, Any]) -> float | None:
        if sort.endswith("time"):
            return float(row["event_time"])
        if sort.endswith("latency"):
            return None if row["latency_us"] is None else float(row["latency_us"])
        return float(min(row["detections.confidence_ppm"])) if row["detections.class"] else None

    values = [known(found[event_id]) for event_id in ids]
    there = [value for value in values if value is not None]
    assert values == sorted(there, key=lambda value: sign * value) + [None] * (len(values) - len(there))


def test_a_page_goes_on_behind_the_last_whatever_comes_in_meanwhile(web: Web) -> None:
    first = web.get("/inferences", limit=10, filter_="device:cam-0")
    newer = rows(web.now_ms + 4000, 1)[0] | {"event_id": "newer", "device_id": "cam-0", "kafka_offset": 9999}
    with closing(connect(web.settings, "admin")) as admin:
        insert(admin, "inferences", [newer])
        second = web.get("/inferences", limit=10, filter_="device:cam-0", cursor=first["next"])
        assert web.get("/inferences/newer")["event_id"] == "newer"
        admin.command("DELETE FROM inferences WHERE event_id = 'newer'")
    expected = [row["event_id"] for row in web.rows if row["device_id"] == "cam-0"][:20]
    assert [one["event_id"] for one in first["items"] + second["items"]] == expected
    refused = web.get("/inferences", 400, limit=10, filter_="device:cam-1", cursor=first["next"])
    assert refused["reason"] == "bad_cursor"
    assert web.get("/inferences", 400, cursor="AAAA")["reason"] == "bad_cursor"
    assert web.get("/inferences", 400, sort="colour")["reason"] == "bad_sort"
    assert web.get("/inferences", 400, limit=501)["reason"] == "bad_request"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("has:error", lambda row: row["error"] != ""),
        ("-has:error model:vests", lambda row: row["error"] == "" and row["model_id"] == "vests"),
        ("metadata.site:s1 tag:edge", lambda row: row["metadata"]["site"] == "s1" and row["tags"] == ["edge"]),
        ("metadata.verdict:wrong", lambda row: row["event_id"] == "e0003"),
        ("latency:>80", lambda row: (row["latency_us"] or 0) > 80_000),
        (
            "class:person confidence:<0.2",
            lambda row: any(
                c == "person" and p < 200_000
                for c, p in zip(row["detections.class"], row["detections.confidence_ppm"], strict=True)
            ),
        ),
    ],
)
def test_a_filter_finds_what_it_says(web: Web, text: str, holds: Any) -> None:
    wanted = [row["event_id"] for row in web.rows if holds(row)]
    assert [one["event_id"] for one in web.get("/inferences", limit=500, filter_=text)["items"]] == wanted
    assert web.get("/inferences/total", filter_=text) == {"total": len(wanted)}
    assert wanted


def test_one_inference_has_its_boxes_and_the_last_word_of_what_came_later(web: Web) -> None:
    said = web.get("/inferences/e0003")
    row = web.rows[3]
    assert said["metadata"] == {"site": "s3", "verdict": "wrong"}
    assert said["metadata_added"] == ["verdict"]
    assert [one["class"] for one in said["predictions"]] == row["detections.class"]
    assert [one["confidence"] for one in said["predictions"]] == [p / 1e6 for p in row["detections.confidence_ppm"]]
    assert said["latency_ms"] is None
    assert web.get("/inferences/nowhere", 404)["reason"] == "not_found"


def test_devices_are_told_with_their_state(web: Web) -> None:
    items = {one["device_id"]: one for one in web.get("/devices")["items"]}
    states = {name: one["state"] for name, one in items.items()}
    assert states == {"cam-0": "up", "cam-1": "late", "cam-2": "lost", "cam-9": "stopped"}
    assert {items[name]["version"] for name in items} == {"1.0"}
    assert items["cam-0"]["tags"] == ["hall 2"]
    assert items["cam-1"]["inferences"] == sum(row["device_id"] == "cam-1" for row in web.rows)
    assert web.get("/devices", filter_="model:vests device:cam-1")["items"][0]["state"] == "late"


def test_what_cannot_be_asked_is_said(web: Web) -> None:
    for path, reason in (
        ("/overview?filter=colour:red", "bad_filter"),
        ("/overview?from=yesterday", "bad_time"),
        ("/overview?from=2026-02-30T00:00:00Z", "bad_time"),
        ("/overview?from=2026-11-02&to=2026-11-01", "bad_time"),
        ("/overview?filter=has:error&from=2026-01-01", "not_kept"),
        ("/overview?fliter=x", "unknown_parameter"),
    ):
        said = web.side.ask("GET", f"/v1/acme{path}")
        assert (said.status, said.json["reason"]) == (400, reason), path
    assert json.loads(web.side.ask("GET", "/v1/acme/overview?filter=a:b").body)["mistakes"][0]["position"] == 0


@pytest.mark.parametrize("text", ["", ROWS])
def test_series_are_told_at_the_rollup_that_fits(web: Web, text: str) -> None:
    said = web.get("/series", metric="inference_count", by="device", points=60, filter_=text)
    assert (said["step_s"], said["source"]) == (1800, "inferences" if text else "model_windows_1m")
    for line in said["series"]:
        of_device = [row for row in web.rows if row["device_id"] == line["key"]]
        assert sum(line["values"]) == len(of_device)
        assert line["values"][-2] == sum(
            said["times"][-2] <= moments.told(int(row["event_time"] * 1000)) < said["times"][-1] for row in of_device
        )
    assert len(said["times"]) == len(said["series"][0]["values"]) <= 60
    means = web.get("/series", metric="confidence_mean", points=1, filter_=text)["series"]
    ppm = [p for row in web.rows for p in row["detections.confidence_ppm"]]
    assert [value for line in means for value in line["values"] if value] == [pytest.approx(mean(ppm) / 1e6)]


def test_every_metric_of_a_rule_has_a_series(web: Web) -> None:
    for metric in Metric:
        by = "class" if metric is Metric.CLASS_SHARE else ""
        for text in ("", ROWS, "class:person", "model:helmets device:cam-1"):
            said = web.get("/series", metric=metric.value, by=by, filter_=text)
            assert said["series"], (metric, text)
            assert any(value is not None for value in said["series"][0]["values"]) or metric is Metric.CLASS_DISTANCE
    shares = web.get("/series", metric="class_share", by="class", points=4)["series"]
    for at in zip(*(line["values"] for line in shares), strict=True):
        assert at[0] is None or sum(filter(None, at)) == pytest.approx(1)
    [person] = web.get("/series", metric="class_share", by="class", points=4, filter_="class:pers*")["series"]
    assert person in shares
    assert web.get("/series", 400, metric="beauty")["reason"] == "bad_request"
    assert web.get("/series", 400, metric="class_count", by="site")["reason"] == "bad_by"
