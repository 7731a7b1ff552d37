"""Alerts: what is wrong now, what was, and how long it took."""

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as look

from deploy.grafana import dashboard as house
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
# A rule may name a model without a version: then all of its versions are meant.
_NAME = "replaceRegexpOne(model_id, '/[^/]*$', '') AS name, if(name = model_id, '$' || '__all', model_id) AS chosen"


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
        steps: tuple[house.Step, ...] = ((None, "green"), (1, _COLORS[severity]))
        return house.number(title, "Firing now, whatever the range.", "none", query, steps)

    def of_episodes(title: str, description: str, unit: str, value: str) -> stat.Panel:
        return house.number(title, description, unit, table(f"SELECT {value} AS value FROM (", *_EPISODES, ")"))

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
    to_model = house.link(
        "Model ${__value.text}",
        house.MODEL,
        model="${__data.fields.name:percentencode}",
        version="${__data.fields.chosen:percentencode}",
    )
    to_device = house.link("Device ${__value.text}", house.DEVICES, device="${__value.raw:percentencode}")
    colors = [{"type": "value", "options": {name: {"color": color} for name, color in _COLORS.items()}}]
    return (
        panel.override_by_name("name", house.column(custom_hidden=True))
        .override_by_name("chosen", house.column(custom_hidden=True))
        .override_by_name(
            "Severity", house.column(mappings=colors, custom_cellOptions={"type": "color-text"}, custom_width=90)
        )
        .override_by_name("Model", house.column(links=[to_model]))
        .override_by_name("Device", house.column(links=[to_device]))
        .override_by_name(
            "Summary", house.column(custom_minWidth=380, custom_cellOptions={"type": "auto", "wrapText": True})
        )
        .override_by_name("Lasted", house.column(unit="s", decimals=0))
        .decimals(3)
    )


def _open() -> table_panel.Panel:
    query = table(
        f'SELECT starts_at AS "Since", severity AS "Severity", state AS "State", summary AS "Summary", {_NAME},',
        '  model_id AS "Model", device_id AS "Device", class AS "Class", metric AS "Metric",',
        '  value AS "Value", expected AS "Expected", threshold AS "Threshold"',
        _OPEN,
        "ORDER BY indexOf(['critical', 'warning', 'info'], severity), starts_at DESC LIMIT 200",
    )
    panel = house.rows("Open alerts", "What fires now, whatever the range; the worst first.", query, height=8)
    return _styled(panel.no_value("Nothing fires"))


def _started() -> timeseries.Panel:
    query = series(
        "SELECT $__timeInterval(fired) AS time, severity, count() AS value FROM (",
        *_EPISODES,
        ") GROUP BY time, severity ORDER BY time",
    )
    panel = (
        house.lines("Alerts started", "By severity.", "none", query, display="${__field.labels.severity}")
        .draw_style(look.GraphDrawStyle.BARS)
        .fill_opacity(70)
        .line_width(0)
        .stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
        .interval("1m")
        .max_data_points(120)
        .min(0)
        .decimals(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(look.LegendDisplayMode.LIST)
            .placement(look.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["sum"])
        )
        .no_value("No alert started in this range")
        .height(6)
        .span(24)
    )
    for severity, color in _COLORS.items():
        panel.override_by_regexp(f"/{severity}/", house.column(color={"mode": "fixed", "fixedColor": color}))
    return panel


def _history() -> table_panel.Panel:
    query = table(
        'SELECT fired AS "Started", if(ends > 0, ended, NULL) AS "Ended",',
        "  dateDiff('second', fired, if(ends > 0, ended, now64(3))) AS \"Lasted\",",
        f'  severity AS "Severity", last_state AS "State", summary AS "Summary", {_NAME},',
        '  model_id AS "Model", device_id AS "Device", class AS "Class", metric AS "Metric",',
        '  value AS "Value", threshold AS "Threshold"',
        "FROM (",
        *_EPISODES,
        ') ORDER BY "Started" DESC LIMIT 500',
    )
    panel = house.rows("History", "Alerts that fired in the range, the latest first.", query, height=10)
    return _styled(panel.no_value("No alert fired in this range"))
