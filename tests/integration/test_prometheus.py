"""A real Prometheus at real workers, a real Alertmanager behind both: what our rules, routes and documents rely on."""

import asyncio
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.config import Settings
from pipeline.edge.kafka.compacted import put_rules
from schemas.roles import ROLE_NAMES as ROLES
from tests.alerting import rule
from tests.integration.feed import Feed, Traffic
from tests.integration.proof import quick
from tests.integration.watching import DEPLOY, Server, alertmanager, prometheus
from tests.integration.workers import Fleet, eventually, fleet

pytestmark = pytest.mark.integration

SURE = rule(
    rule_id="always", metric="confidence_mean", operator=">", threshold=0.01, window_s=60, recipients=["alertmanager"]
)


def rules() -> list[dict[str, str]]:
    """All rules of deploy/prometheus."""
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [one for group in groups for one in group["rules"]]


def named_metrics() -> set[str]:
    """Every metric of ours that a rule or a dashboard asks for."""
    dashboards = [json.loads(file.read_text()) for file in (DEPLOY / "grafana" / "dashboards").glob("*.json")]
    asked = [one["expr"] for one in rules()] + list(expressions(dashboards))
    return {name for text in asked for name in re.findall(r"(?<![\w:])inferwatch_\w+(?![\w:])", text)}


def expressions(node: object) -> Iterator[str]:
    """What is asked of Prometheus, anywhere in a dashboard."""
    if isinstance(node, dict):
        if isinstance(expression := node.get("expr"), str):
            yield expression
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from expressions(inner)


def start(workers: Fleet) -> dict[str, int]:
    """One worker of each role, ready; their ports."""
    started = {role: workers.start(role) for role in ROLES}
    workers.wait_ready(*started.values())
    return {role: worker.web_port for role, worker in started.items()}


def wait_for_data(server: Server) -> None:
    """Every recording rule has numbers."""

    def empty() -> list[str]:
        names = [one["record"] for one in rules() if "record" in one]
        return [name for name in names if not any(not math.isnan(value) for _, value in server.query(name))]

    eventually(lambda: not empty(), 40, "recording rules have data", empty)


def alerts(server: Server, state: str) -> set[tuple[str, str]]:
    """Alerts of Prometheus in a state: name and role."""
    found = [one["labels"] for one in server.data("/api/v1/alerts")["alerts"] if one["state"] == state]
    return {(labels["alertname"], labels.get("role", "")) for labels in found}


def told(server: Server) -> dict[str, set[tuple[str, str]]]:
    """What an Alertmanager has: by receiver, names of alerts and the model that they are grouped by."""
    out: dict[str, set[tuple[str, str]]] = {}
    for group in server.get("/api/v2/alerts/groups"):
        names = {
            (one["labels"]["alertname"], group["labels"].get("model_id", ""))
            for one in group["alerts"]
            if one["status"]["state"] == "active"
        }
        out.setdefault(group["receiver"]["name"], set()).update(names)
    return out


def test_what_is_scraped_is_what_rules_routes_and_dashboards_ask_for_seed_31(world: Settings, tmp_path: Path) -> None:
    with (
        alertmanager(tmp_path) as people,
        fleet(
            quick(world).model_copy(
                update={"alertmanager_url": people.url, "watchdog_recipients": "alertmanager", "group_wait_s": 0.5}
            ),
            tmp_path,
        ) as workers,
    ):
        asyncio.run(put_rules(workers.settings, [SURE]))
        ports = start(workers)
        traffic = Traffic(seed=31, events=100_000, rate=60, speed=1)
        with prometheus(tmp_path, ports, people) as server, Feed(workers.settings, traffic):
            up = {(role, "up") for role in ROLES}

            def targets() -> set[tuple[str, str]]:
                found = server.data("/api/v1/targets")["activeTargets"]
                assert all(one["lastError"] == "" for one in found), found
                return {(one["labels"]["role"], one["health"]) for one in found if one["labels"]["job"] == "inferwatch"}

            eventually(lambda: targets() == up, 20, "all targets are up", targets)
            assert named_metrics() - set(server.data("/api/v1/label/__name__/values")) == set()
            wait_for_data(server)
            evaluated = [one for group in server.data("/api/v1/rules")["groups"] for one in group["rules"]]
            assert len(evaluated) == len(rules())
            assert [(one["name"], one["lastError"]) for one in evaluated if one["health"] != "ok"] == []

            both = {("InferwatchWatchdog", ""), ("watchdog", "")}
            eventually(lambda: told(people).get("dead-man") == both, 30, "both watchdogs", lambda: told(people))
            eventually(
                lambda: len({one for one in told(people).get("people", set()) if one[0] == "always" and one[1]}) == 6,
                30,
                "the rule's alert for each model, in a group of its own",
                lambda: told(people),
            )
            assert alerts(server, "firing") == {("InferwatchWatchdog", "")}

            workers.alive("recorder")[0].kill9()

            missed = {("InferwatchRoleAbsent", "recorder"), ("InferwatchWorkerDown", "recorder")}
            eventually(
                lambda: missed <= alerts(server, "pending"),
                20,
                "the recorder is missed",
                lambda: alerts(server, "pending"),
            )
