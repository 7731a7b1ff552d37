"""Alerts: what is wrong now, what was, and how long it took."""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders import table as table_panel

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.sql import WORKSPACE, series, table

_SEVERITY = "severity IN (${severity:sqlstring})"
_OPEN = f"FROM open_alerts WHERE {WORKSPACE} AND {_SEVERITY} AND state IN ('firing', 'acknowledged', 'recovering')"
_COLORS = {"critical": "red", "warning": "orange", "info": "blue"}
# One row an episode: an alert from its first firing to its end.
_EPISODES = (
    "SELECT fingerprint, episode, any(a.severity) AS severity, any(a.metric) AS metric, any(a.model_id) AS model_id,",
    "  any(a.device_id) AS device_id, any(a.class) AS class, any(a.threshold) AS threshold,",
    "  minIf(at, state = 'firing') AS fired,",
    "  maxIf(at, state = 'resolved') AS ended, countIf(state = 'resolved') AS ends,",
    "  argMaxIf(a.value, sequence, state = 'firing') AS value, argMax(state, sequence) AS last_state,",
    "  argMaxIf(a.summary, sequence, state = 'firing') AS summary",
    f"FROM alerts AS a WHERE {WORKSPACE} AND a.{_SEVERITY} AND $__timeFilter_ms(at)",
    "GROUP BY fingerprint, episode HAVING countIf(state = 'firing') > 0",
)
_ABOUT = (
    """nullIf(model_id, '') AS "Model", nullIf(device_id, '') AS "Device", nullIf(class, '') AS "Class",""",
    f'metric AS "Metric", {house.TO_MODEL}, {house.TO_DEVICE},',
)


def alerts() -> builder.Dashboard:
    """The dashboard."""
    severities = house.any_of_these("severity", "Severity", list(_COLORS))
    built = house.dashboard(
        "Alerts", house.ALERTS, "Open alerts and their history.", [house.workspace(), severities], since="now-24h"
    ).annotation(house.Ready(house.alerts_on_series(f"AND {_SEVERITY}")))
    for panel in (*_totals(), _open(), _started(), _history()):
        built.with_panel(panel)
    return built


def _totals() -> list[stat.Panel]:
    def count(title: str, severity: str) -> stat.Panel:
        query = table(f"SELECT count() AS alerts {_OPEN} AND severity = '{severity}'")
        steps: tuple[panels.Step, ...] = ((None, "green"), (1, _COLORS[severity]))
        return panels.number(title, "Firing now, whatever the range.", "none", query, steps)

    def of_episodes(title: str, description: str, unit: str, value: str) -> stat.Panel:
        return panels.number(title, description, unit, table(f"SELECT {value} AS value FROM (", *_EPISODES, ")"))

    return [
        count("Open, critical", "critical"),
        count("Open, warning", "warning"),
        count("Open, info", "info"),
        of_episodes("Started", "Alerts that fired in the range.", "none", "count()"),
        of_episodes("Resolved", "Of those, how many ended in the range.", "none", "countIf(ends > 0)"),
        of_episodes(
            "Time to resolve",
            "Median of those that ended.",
            "s",
            "if(countIf(ends > 0) = 0, NULL, medianIf(dateDiff('millisecond', fired, ended) / 1000, ends > 0))",
        ),
    ]


def _styled(panel: table_panel.Panel) -> table_panel.Panel:
    wide = panels.column(custom_minWidth=300, custom_cellOptions={"type": "auto", "wrapText": True})
    panel.override_by_name("Severity", panels.text_colors(_COLORS)).override_by_name("Summary", wide)
    panel.override_by_name("Metric", panels.column(custom_minWidth=130))
    for name in ("Since", "Started", "Ended"):
        panel.override_by_name(name, panels.column(**panels.MOMENT))
    panel.override_by_name("Lasted", panels.column(unit="s", decimals=0)).decimals(3)
    return house.linked(house.linked(panel, "Model", "to_model"), "Device", "to_device")


def _open() -> table_panel.Panel:
    query = table(
        'SELECT starts_at AS "Since", severity AS "Severity", state AS "State", summary AS "Summary",',
        *_ABOUT,
        '  value AS "Measured", expected AS "Expected", threshold AS "Threshold"',
        _OPEN,
        "ORDER BY indexOf(['critical', 'warning', 'info'], severity), starts_at DESC LIMIT 200",
    )
    panel = panels.rows("Open alerts", "What fires now, whatever the range; the worst first.", query, height=8)
    return _styled(panel)


def _started() -> timeseries.Panel:
    query = series(
        "SELECT $__timeInterval(fired) AS time, severity, count() AS value FROM (",
        *_EPISODES,
        ") GROUP BY time, severity ORDER BY time",
    )
    panel = (
        panels.bars(panels.lines("Alerts started", "By severity.", "none", query, by="severity"))
        .interval("1m")
        .decimals(0)
        .no_value("No alert started in this range")
        .height(6)
        .span(24)
    )
    for severity, color in _COLORS.items():
        panel.override_by_regexp(f"/{severity}/", panels.column(color={"mode": "fixed", "fixedColor": color}))
    return panel


def _history() -> table_panel.Panel:
    query = table(
        'SELECT fired AS "Started", if(ends > 0, ended, NULL) AS "Ended",',
        "  dateDiff('second', fired, if(ends > 0, ended, now64(3))) AS \"Lasted\",",
        '  severity AS "Severity", last_state AS "State", summary AS "Summary",',
        *_ABOUT,
        '  value AS "Measured", threshold AS "Threshold"',
        "FROM (",
        *_EPISODES,
        ') ORDER BY "Started" DESC LIMIT 500',
    )
    panel = panels.rows("History", "Alerts that fired in the range, the latest first.", query, height=10)
    return _styled(panel)
