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
from tests.asked_once import create_topics
from tests.integration.asked_world import fill, rows
from tests.integration.engines import Engines, world_settings
from tests.integration.http_side import HttpSide, http_side
from tests.integration.outside import connect, ensure_users, migrate

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
    with http_side(settings, tmp_path_factory.mktemp("web")) as side:
        yield Web(side, settings, found, at_ms)
    with closing(connect(settings, "admin", database="default")) as client:
        client.command(f"DROP DATABASE {settings.clickhouse_database}")


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
