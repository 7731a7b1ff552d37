"""What Grafana chooses when a dashboard is opened: a variable's first value, or all where several may be chosen."""

from typing import Any

from clickhouse_connect.driver.client import Client

from tests.integration.grafana.dashboards import CLICKHOUSE
from tests.integration.grafana.macros import All, Value, expand


def chosen_at_first(reader: Client, dashboard: dict[str, Any], from_ms: int, to_ms: int) -> dict[str, Value]:
    """Every variable's value; each may depend on those before it."""
    chosen: dict[str, Value] = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        if variable["type"] == "custom":
            found = variable["query"].split(",")
        else:
            assert variable["datasource"]["type"] == CLICKHOUSE
            sql = expand(variable["query"], from_ms, to_ms, 60_000, chosen)
            found = [str(row[0]) for row in reader.query(sql).result_rows]
        assert found, f"{dashboard['title']}: nothing to choose for {variable['name']}"
        chosen[variable["name"]] = All(tuple(found)) if variable.get("multi") else found[0]
    return chosen
