"""The dashboards and alert rules as files: equal to the code, whole, fit to be shown."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from jsonschema import Draft202012Validator

from deploy.grafana.__main__ import HERE, files
from deploy.grafana.dashboard import TAG, TO_DEVICE, TO_MODEL
from tests.integration.grafana import load_dashboards, queries
from tests.integration.grafana.dashboards import panels

DASHBOARDS = load_dashboards()
EACH = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())
BUILT_IN = {"__url_time_range", "__value", "__data", "__field"}
MADE = {"to_model": TO_MODEL, "to_device": TO_DEVICE}
ADDRESS = re.compile(
    r"/d/\$\{__data\.fields\.(to_\w+):raw\}&"
)  # in a hidden column: the dashboard and what it is asked

# What Grafana's own dashboard schema demands, as far as these dashboards use it.
SCHEMA = {
    "type": "object",
    "required": ["uid", "title", "schemaVersion", "panels", "templating", "annotations", "time", "refresh", "links"],
    "properties": {
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "panels": {
            "type": "array",
            "minItems": 5,
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "gridPos"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "type": {"enum": ["stat", "timeseries", "table", "heatmap", "state-timeline", "row"]},
                    "gridPos": {
                        "type": "object",
                        "required": ["x", "y", "w", "h"],
                        "properties": {
                            "x": {"type": "integer", "minimum": 0, "maximum": 23},
                            "w": {"type": "integer", "minimum": 1, "maximum": 24},
                            "h": {"type": "integer", "minimum": 1},
                        },
                    },
                    "targets": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["refId", "datasource"],
                            "properties": {
                                "datasource": {"required": ["type", "uid"]},
                                "format": {"enum": [0, 1]},
                            },
                        },
                    },
                },
            },
        },
        "templating": {
            "properties": {
                "list": {
                    "items": {
                        "required": ["name", "type"],
                        "properties": {"type": {"enum": ["datasource", "query", "custom"]}},
                    }
                }
            }
        },
    },
}  # fmt: skip


def drawn(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Its panels without its rows."""
    return [panel for panel in panels(dashboard) if panel["type"] != "row"]


def variables(dashboard: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in dashboard["templating"]["list"]}


def links(value: Any) -> Iterator[str]:
    """Every address, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "url" and isinstance(inner, str) and inner:
                yield inner
            else:
                yield from links(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from links(inner)


def test_the_files_are_what_the_code_writes() -> None:
    written = files()
    assert {str(path): (HERE / path).read_text("utf-8") == text for path, text in written.items()} == dict.fromkeys(
        map(str, written), True
    ), "run `make dashboards`"
    folders = {path.parent for path in written}
    assert {path.relative_to(HERE) for folder in folders for path in (HERE / folder).iterdir()} == set(written)


def test_there_are_six_and_each_has_an_address_of_its_own() -> None:
    assert set(DASHBOARDS) == {"Fleet", "Model", "Classes", "Devices", "Alerts", "Pipeline"}
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == 6


@EACH
def test_it_has_the_form_that_grafana_takes(dashboard: dict[str, Any]) -> None:
    errors = [error.message for error in Draft202012Validator(SCHEMA).iter_errors(dashboard)]
    assert errors == []
    asked = {number for number, panel in enumerate(dashboard["panels"]) if "targets" in panel}
    again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder, default=None))
    for number, panel in enumerate(again["panels"]):
        if number in asked:  # the SDK does not know the plugin's queries, and keeps them as they are
            panel["targets"] = dashboard["panels"][number]["targets"]
    again["annotations"]["list"] = dashboard["annotations"]["list"]
    for variable in again["templating"]["list"]:  # not ours: of variables of another type
        for name in ("auto", "auto_count", "auto_min"):
            del variable[name]
    assert again == dashboard


@EACH
def test_every_panel_says_what_it_shows_and_when_it_shows_nothing(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in drawn(dashboard)]
    assert len(set(titles)) == len(titles)
    for panel in drawn(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["noValue"], panel["title"]
        if panel["type"] in ("stat", "timeseries"):
            assert defaults["unit"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"]
        if panel["type"] == "stat":
            assert defaults["thresholds"]["steps"][0]["value"] is None


@EACH
def test_panels_fill_the_width_and_none_covers_another(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"]
        assert apart or b["y"] + b["h"] <= a["y"]
    for y in {place["y"] for place in places}:
        assert sum(place["w"] for place in places if place["y"] == y) == 24


@EACH
def test_every_time_series_has_the_alerts_and_every_source_can_be_chosen(dashboard: dict[str, Any]) -> None:
    [annotation] = dashboard["annotations"]["list"]
    assert annotation["enable"]
    assert "filter" not in annotation  # on every panel
    sources = {"${datasource}", "${prometheus}"}
    assert {source["uid"] for source in every_source(dashboard)} <= sources
    assert {"datasource"} | ({"prometheus"} if "Pipeline" in dashboard["title"] else set()) <= variables(dashboard)


def every_source(value: Any) -> Iterator[dict[str, Any]]:
    """Every reference to a data source, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "datasource":
                yield inner
            else:
                yield from every_source(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_source(inner)


@EACH
def test_every_link_leads_to_a_dashboard_and_sets_variables_that_it_has(dashboard: dict[str, Any]) -> None:
    by_uid = {other["uid"]: other for other in DASHBOARDS.values()}
    for url in addresses(dashboard):
        uid, _, parameters = url.removeprefix("/d/").partition("?")
        assert "${__url_time_range}" in parameters
        assert set(re.findall(r"\bvar-(\w+)=", parameters)) <= variables(by_uid[uid])
        assert set(re.findall(r"\$\{(\w+)", url)) - BUILT_IN <= variables(dashboard)
        for column in re.findall(r"__data\.fields\.(\w+)", url):
            assert re.search(rf"\bAS {column}\b", json.dumps(dashboard["panels"]))
        assert not re.search(r"\$\{__(?:data|value|field)[^}:]*\}", url), "names in an address are encoded"
    [bar] = dashboard["links"]
    assert (bar["type"], bar["tags"], bar["keepTime"], bar["includeVars"]) == ("dashboards", [TAG], True, True)
    assert dashboard["tags"] == [TAG]


def addresses(dashboard: dict[str, Any]) -> Iterator[str]:
    """Every address, and for one that the SQL makes all that it may make."""
    for url in links(dashboard):
        if column := ADDRESS.match(url):
            made = "".join(re.findall(r"'(inferwatch-.*?|&?var-.*?)'", MADE[column[1]]))
            for address in re.findall(r"inferwatch-\w+\?(?:(?!inferwatch).)*", made):
                yield url.replace(column[0], f"/d/{address}&")
        else:
            yield url


def test_from_the_fleet_one_gets_everywhere_in_the_end() -> None:
    by_uid = {dashboard["uid"]: dashboard for dashboard in DASHBOARDS.values()}
    reached, new = {"inferwatch-fleet"}, {"inferwatch-fleet"}
    while new:
        new = {url.split("?")[0].removeprefix("/d/") for uid in new for url in addresses(by_uid[uid])} - reached
        reached |= new
    assert reached == by_uid.keys() - {"inferwatch-pipeline"}  # which is in the bar of links only


def test_names_reach_the_sql_in_quotes_that_cannot_be_left() -> None:
    for query in queries():
        for name, form in re.findall(r"\$\{(\w+)(?::(\w+))?\}", query.sql):
            assert form == "sqlstring", f"{query}: {name}"
        bare = re.sub(r"\$__conditionalAll\([^$]*\$\{\w+:sqlstring\}\), \$\w+\)", "", query.sql)
        assert re.findall(r"(?<!\$)\$(?!__)(\w+)", bare) == [], str(query)
        for name in re.findall(r"\$\{(\w+)", query.sql):
            assert name in variables(DASHBOARDS[query.dashboard]), str(query)


def test_variables_read_small_tables_and_views_only() -> None:
    found = [query for query in queries() if query.kind == "variable"]
    assert {query.panel for query in found} == {"workspace", "model", "version", "device", "class"}
    # device_heartbeats has its projection for that: tests/integration/test_grafana.py sees what is read
    asked = {table for query in found for table in re.findall(r"\bFROM (\w+)", query.sql)}
    assert asked == {"models", "model_devices", "model_classes", "device_heartbeats"}


def test_the_version_is_shown_without_the_models_name_and_asked_for_with_it() -> None:
    [version] = [v for v in DASHBOARDS["Model"]["templating"]["list"] if v["name"] == "version"]
    pattern = re.compile(version["regex"].strip("/").replace(r"\/", "/").replace("(?<", "(?P<"))
    for model_id, shown in (("helmets/3", "3"), ("a/b/c", "c"), ("plain", "plain"), ("it's/x y", "x y")):
        found = pattern.match(model_id)
        assert found is not None
        assert (found["value"], found["text"]) == (model_id, shown)
