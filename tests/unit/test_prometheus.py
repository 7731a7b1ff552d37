"""Prometheus' and Alertmanager's files, docs/metrics.md and docs/runbook.md: valid, complete, true of the code."""

import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client.metrics import MetricWrapperBase

from pipeline.cli import up
from pipeline.config import Settings
from pipeline.core.alerting import ourselves
from pipeline.core.alerting.ourselves import OurLimits
from pipeline.core.alerting.standstill import RoleProgress
from pipeline.core.condition import WATCHDOG, Condition
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER
from pipeline.edge import metrics, metrics_reference

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
METRIC = r"(?<![\w:])inferwatch_\w+(?![\w:])"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


CONFIG = load(PROMETHEUS / "prometheus.yml")
RULES = [
    rule for path in (PROMETHEUS / "rules").glob("*.yml") for group in load(path)["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def program(name: str, *arguments: str | Path) -> str:
    """What it prints; skips the test where it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here: install the Debian packages prometheus and prometheus-alertmanager")
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What Prometheus reads


def test_prometheus_takes_its_configuration_and_its_rules() -> None:
    said = program("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULES) - len(RECORDED)} rules found" in said
    assert f"{len(RECORDED)} rules found" in said


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    program("promtool", "test", "rules", *TESTS)


def asked_of_each_alert() -> dict[str, list[list[str]]]:
    """By alert: the series that each question of deploy/prometheus/tests expects; none: it must not fire."""
    asked: dict[str, list[list[str]]] = {}
    for test in (test for path in TESTS for test in load(path)["tests"]):
        for one in test.get("promql_expr_test", []):
            if found := re.fullmatch(r'ALERTS\{alertname="(\w+)", alertstate="firing"\}', one["expr"]):
                asked.setdefault(found[1], []).append([sample["labels"] for sample in one["exp_samples"]])
    return asked


def test_each_alert_is_seen_firing_and_all_but_the_watchdog_are_seen_silent() -> None:
    asked = asked_of_each_alert()
    assert [name for name in ALERTS if not any(asked.get(name, []))] == []
    assert [name for name in ALERTS if all(asked.get(name, []))] == ["InferwatchWatchdog"]


def test_an_alert_speaks_only_of_labels_that_it_has() -> None:
    asked = asked_of_each_alert()
    for name, rule in ALERTS.items():
        spoken = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        for series in asked[name]:
            assert all(spoken <= set(re.findall(r'(\w+)="', one)) for one in series), name


def test_each_alert_says_how_bad_what_and_where_to_read_on() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_rules_ask_for_metrics_that_are_there() -> None:
    there = {name for name, *_ in metrics_reference.declared()} | {
        f"{name}_bucket" for name, kind, *_ in metrics_reference.declared() if kind == "histogram"
    }
    asked = {name for rule in RULES for name in re.findall(METRIC, rule["expr"])}
    assert asked - there == set()
    recorded = {name for rule in RULES for name in re.findall(r"[\w]*:?inferwatch_\w+:\w+", rule["expr"])}
    assert recorded - RECORDED == set()


def test_every_role_is_scraped_where_it_answers() -> None:
    (job,) = (job for job in CONFIG["scrape_configs"] if job["job_name"] == "inferwatch")
    (by_name,) = job["dns_sd_configs"]
    assert by_name["names"] == list(up.PROCESSES)
    assert by_name["port"] == Settings.model_fields["web_port"].default
    absent = str(ALERTS["InferwatchRoleAbsent"]["expr"])
    assert re.findall(r'role="(\w+)"', absent) == list(up.ROLES)


# What Alertmanager reads


def test_alertmanager_takes_its_configuration() -> None:
    assert "SUCCESS" in program("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=InferwatchWatchdog", "severity=info"], "dead-man"),
        ([f"alertname={WATCHDOG}", "kind=pipeline"], "dead-man"),
        (["alertname=InferwatchClickHouseDown"], "people"),
        (["alertname=chain_gap", "kind=pipeline", "topic=inference.aggregates"], "people"),
        (["alertname=unsure", "kind=rule", "workspace=acme", "model_id=helmets/3"], "people"),
    ],
)
def test_watchdogs_go_to_the_dead_man_and_all_else_to_people(labels: list[str], receiver: str) -> None:
    said = program("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    assert said.strip() == receiver


def test_alerts_that_keep_others_quiet_exist() -> None:
    named = set(re.findall(r"Inferwatch\w+", ALERTMANAGER.read_text()))
    assert named - ALERTS.keys() == {"Inferwatch"} & named


# Metrics and their reference


def test_the_reference_of_metrics_is_what_the_command_writes() -> None:
    """`make docs` writes docs/metrics.md."""
    assert metrics_reference.FILE.read_text() == metrics_reference.reference()


def test_every_label_of_every_metric_is_explained() -> None:
    for name, _, labels, _ in metrics_reference.declared():
        for label in labels:
            assert (label, "") in metrics_reference.LABELS or (label, name) in metrics_reference.LABELS, (name, label)


def test_a_metric_is_named_by_its_unit() -> None:
    for name, kind, *_ in metrics_reference.declared():
        assert name.startswith("inferwatch_")
        assert name.endswith("_total") == (kind == "counter")
        if kind == "histogram":
            assert name.endswith("_seconds")


def test_what_never_happened_reads_zero_and_is_not_absent() -> None:
    """The labels that are known before a worker has read anything; all else starts with its topic or table."""
    later = {"topic", "table", "partition"}
    empty = [
        name
        for name, _, labels, _ in metrics_reference.declared()
        if labels and not set(labels) & later and not samples(name)
    ]
    assert empty == []
    metrics.watch_topic("test.topic")
    metrics.watch_tables(["test_in"], ["test"], ["done"])
    declared = list(metrics_reference.declared())
    assert [name for name, _, labels, _ in declared if "partition" not in labels and not samples(name)] == []


def samples(name: str) -> list[Any]:
    return [
        sample
        for one in vars(metrics).values()
        if isinstance(one, MetricWrapperBase)
        for family in one.collect()
        for sample in family.samples
        if sample.name in (name, f"{name}_count")
    ]


# The runbook


def our_own_alerts() -> set[str]:
    """Metrics of the alerts that inferwatch raises about itself."""
    limits, nothing = OurLimits(), RoleProgress(0, 0, ())
    said = {
        "alive": [ourselves.alive(0)],
        "gap": [ourselves.gap(0, 0, 0, {})],
        "gap_over": [ourselves.gap_over(0, 0)],
        "input_lag": [ourselves.input_lag(0, 0, 0, None, breached=False)],
        "not_judged": [ourselves.not_judged("inference.aggregates", 0, 0, ())],
        "refusals": [ourselves.refusals(0, 0, {}, limits)],
        "standstill": [ourselves.standstill(role, 0, nothing, limits) for role in (AGGREGATOR, RECORDER)],
    }
    makers = inspect.getmembers(ourselves, inspect.isfunction)
    public = {name for name, maker in makers if maker.__annotations__.get("return") is Condition and name[0] != "_"}
    assert said.keys() == public, "this test has to learn of an alert"
    return {condition.subject.metric for conditions in said.values() for condition in conditions}


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    sections = re.findall(r"^### (\S+)$", RUNBOOK, re.MULTILINE)
    assert sorted(sections) == sorted(ALERTS.keys() | our_own_alerts())


def test_each_section_says_what_it_means_and_what_to_do() -> None:
    for section in re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]:
        assert "*Means*: " in section, section
        assert "*Do*:" in section or "*Look at*, *do*: " in section, section


def test_links_of_the_runbook_lead_somewhere() -> None:
    anchors = {name.lower() for name in re.findall(r"^#+ (\S+)$", RUNBOOK, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK):
        path, _, anchor = target.partition("#")
        assert (ROOT / "docs" / path).exists(), target
        assert path or anchor in anchors, target


def commands() -> list[str]:
    """Every command of ours in the runbook."""
    blocks = re.findall(r"^```\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(inferwatch [a-z][^`]*)`", RUNBOOK)
    return sorted({line for line in lines if line.startswith("inferwatch ")})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_runbook_is_understood(command: str) -> None:
    import agents.main  # noqa: F401 -- puts the verb `worker` into the app
    from pipeline.cli.app import app

    _, *arguments = shlex.split(command)
    node: Any = typer.main.get_command(app)
    context = None
    while True:
        # Arguments are converted and checked, and nothing is run.
        context = node.make_context(node.name, list(arguments), parent=context)
        node = context.command
        if not hasattr(node, "commands"):
            break
        name, inner, arguments = node.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None, name
        node = inner
        if not arguments and not hasattr(node, "commands"):
            break  # named in a sentence, not to be typed like that


def test_metrics_and_settings_that_the_runbook_names_exist() -> None:
    declared = {name for name, *_ in metrics_reference.declared()} | RECORDED
    for name in re.findall(r"`((?:\w+:)?inferwatch_[\w:]+)`", RUNBOOK):
        assert name in declared, name
    for name in re.findall(r"`INFERWATCH_(\w+)`", RUNBOOK):
        assert name.lower().removesuffix("_file") in Settings.model_fields, name
