"""Every query in the provisioned dashboards and alert rules: panels, variables, annotations, rules."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.integration.grafana.provisioning import provisioned

DIRECTORY = Path(__file__).parents[3] / "deploy" / "grafana"
CLICKHOUSE = "grafana-clickhouse-datasource"
Kind = Literal["panel", "variable", "annotation", "alert"]
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL statement as it stands in a file. `panel` is the title of the panel, or the variable's or rule's name."""

    dashboard: str
    panel: str
    kind: Kind
    sql: str
    panel_type: str = ""
    min_interval_ms: int = 0
    max_data_points: int = 1000
    range_ms: int = 0  # of an alert rule: its own, whatever somebody looks at
    is_series: bool = False  # else a table

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.kind} {self.panel}"


def load_dashboards(directory: Path = DIRECTORY / "dashboards") -> dict[str, dict[str, Any]]:
    """The dashboards' JSON by title."""
    loaded = [json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*.json"))]
    return {dashboard["title"]: dashboard for dashboard in loaded}


def load_alert_rules(directory: Path = DIRECTORY / "provisioning" / "alerting") -> dict[str, dict[str, Any]]:
    """The provisioned alert rules by title."""
    files = [provisioned(path, {}) for path in sorted(directory.glob("*.yaml"))]
    return {rule["title"]: rule for file in files for group in file.get("groups", ()) for rule in group["rules"]}


def queries() -> list[Query]:
    """Every SQL statement that Grafana would send to ClickHouse."""
    found = [query for title, dashboard in load_dashboards().items() for query in _of_dashboard(title, dashboard)]
    return found + [query for title, rule in load_alert_rules().items() for query in _of_rule(title, rule)]


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those in collapsed rows included."""
    for panel in dashboard.get("panels", ()):
        yield panel
        yield from panel.get("panels", ())


def _of_dashboard(title: str, dashboard: dict[str, Any]) -> Iterator[Query]:
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            if _is_sql(target):
                yield Query(
                    title,
                    panel.get("title", ""),
                    "panel",
                    target["rawSql"],
                    panel["type"],
                    _duration_ms(panel.get("interval") or "0s"),
                    panel.get("maxDataPoints") or 1000,
                    is_series=target["format"] == 0,
                )
    for variable in dashboard.get("templating", {}).get("list", ()):
        if variable["type"] == "query" and (variable.get("datasource") or {}).get("type") == CLICKHOUSE:
            query = variable["query"]
            yield Query(title, variable["name"], "variable", query if isinstance(query, str) else query["rawSql"])
    for annotation in dashboard.get("annotations", {}).get("list", ()):
        if _is_sql(annotation.get("target") or {}):
            yield Query(title, annotation["name"], "annotation", annotation["target"]["rawSql"])


def _of_rule(title: str, rule: dict[str, Any]) -> Iterator[Query]:
    for step in rule["data"]:
        if "rawSql" in step["model"]:
            range_ms = 1000 * step["relativeTimeRange"]["from"]
            yield Query("alert rules", title, "alert", step["model"]["rawSql"], range_ms=range_ms)


def _is_sql(target: dict[str, Any]) -> bool:
    return "rawSql" in target


def _duration_ms(text: str) -> int:
    number = text.rstrip("mshd")
    return int(number) * _UNITS_MS[text[len(number) :]]
