"""What Grafana and its ClickHouse plugin do between a dashboard and ClickHouse: queries found, macros expanded."""

from tests.integration.grafana.dashboards import Query, load_alert_rules, load_dashboards, queries
from tests.integration.grafana.macros import All, MacroError, Value, expand, interval_ms
from tests.integration.grafana.provisioning import interpolated, provisioned

__all__ = [
    "All",
    "MacroError",
    "Query",
    "Value",
    "expand",
    "interpolated",
    "interval_ms",
    "load_alert_rules",
    "load_dashboards",
    "provisioned",
    "queries",
]
