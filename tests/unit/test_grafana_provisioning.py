"""The provisioning files as Grafana reads them: what it expands, what it takes as it stands, what then is there."""

import re
from pathlib import Path

import pytest

from deploy.grafana.__main__ import HERE
from tests.integration.grafana import expand, interpolated, load_alert_rules, provisioned

FILES = HERE / "provisioning"
ENVIRONMENT = {
    "CLICKHOUSE_HOST": "clickhouse", "CLICKHOUSE_PORT": "9000", "CLICKHOUSE_PROTOCOL": "native",
    "CLICKHOUSE_SECURE": "false", "CLICKHOUSE_DATABASE": "inferwatch", "CLICKHOUSE_READER_USER": "reader",
    "CLICKHOUSE_READER_PASSWORD": "pa$$word", "PROMETHEUS_URL": "http://prometheus:9090",
}  # fmt: skip
# What Go's text/template and Grafana know: a function, then the labels of the query or its number.
PLACEHOLDER = re.compile(
    r"\{\{ (?:(?:humanize|humanizeDuration|humanizePercentage) )?\$(?:labels\.(\w+)|values\.A\.Value) \}\}"
)


@pytest.mark.parametrize(("text", "read"), [
    ("$NAME and ${NAME}", "x and x"),
    ("$__env{NAME}", "x"),
    ("$$NAME, $$$NAME", "$NAME, $x"),
    ("$NAME_OF and ${NOTHING}.", " and ."),
    ("$__toTime, $1a", ", a"),
    ("100 $ or $", "100 $ or $"),
    ("no dollar", "no dollar"),
])  # fmt: skip
def test_a_text_is_expanded_as_grafana_does_it(text: str, read: str) -> None:
    assert interpolated(text, {"NAME": "x"}) == read


def test_a_text_that_names_another_file_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="another file"):
        interpolated("$__file{/run/secrets/password}", {})


def test_of_a_rule_the_model_and_the_annotations_stay_as_they_are_and_all_else_is_expanded(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{title: a $NAME, annotations: {a: $$x}, labels: {b: $$x}, data: [{model: {c: $$x}}]}]")
    [rule] = provisioned(file, {"NAME": "rule"})["rules"]
    assert rule == {
        "title": "a rule", "annotations": {"a": "$$x"}, "labels": {"b": "$x"}, "data": [{"model": {"c": "$$x"}}],
    }  # fmt: skip


def test_alert_rules_are_for_confidence_latency_and_silence_and_ask_a_source_that_is_there() -> None:
    rules = load_alert_rules()
    assert set(rules) == {"Confidence sank", "Inference time grew", "A model fell silent", "A device fell silent"}
    sources = provisioned(FILES / "datasources/inferwatch.yaml", ENVIRONMENT)["datasources"]
    for rule in rules.values():
        asked, compared = rule["data"]
        assert asked["datasourceUid"] in {source["uid"] for source in sources}
        assert (rule["condition"], compared["model"]["expression"]) == (compared["refId"], asked["refId"])


@pytest.mark.parametrize("title", load_alert_rules())
def test_a_rules_question_has_no_dollar_left_when_the_plugin_has_expanded_it(title: str) -> None:
    sql = load_alert_rules()[title]["data"][0]["model"]["rawSql"]
    assert "$" not in expand(sql, 0, 3_600_000, 60_000, {})


@pytest.mark.parametrize("title", load_alert_rules())
def test_what_a_person_is_told_by_a_rule_is_a_template_of_its_own_columns(title: str) -> None:
    rule = load_alert_rules()[title]
    sql = rule["data"][0]["model"]["rawSql"]
    for text in rule["annotations"].values():
        assert set(PLACEHOLDER.findall(text)) - {""} <= set(re.findall(r"\w+", sql[: sql.index("FROM")]))
        assert not re.search(r"[{}$]", PLACEHOLDER.sub("", text)), text
    assert PLACEHOLDER.search(rule["annotations"]["summary"])


def test_the_sources_take_what_the_environment_names() -> None:
    clickhouse, prometheus = provisioned(FILES / "datasources/inferwatch.yaml", ENVIRONMENT)["datasources"]
    assert clickhouse["jsonData"]["host"] == "clickhouse"
    assert clickhouse["secureJsonData"]["password"] == "pa$$word"  # what a variable holds is not expanded again
    assert prometheus["url"] == "http://prometheus:9090"
    named = set(re.findall(r"\$([A-Z_]+)", (FILES / "datasources/inferwatch.yaml").read_text("utf-8")))
    assert named <= ENVIRONMENT.keys()


def test_no_two_folders_have_one_name() -> None:
    """Rules are provisioned first and make a folder with an address of their own."""
    [provider] = provisioned(FILES / "dashboards/inferwatch.yaml", {})["providers"]
    folders = {group["folder"] for group in provisioned(FILES / "alerting/inferwatch.yaml", {})["groups"]}
    assert provider["folder"] not in folders
