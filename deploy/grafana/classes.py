"""Classes: what a model sees, how often, how surely, and what changed."""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as look

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.sql import (
    CLASS,
    CLASSES,
    CLASSES_AND_BEFORE,
    CONFIDENCE_MEAN,
    NOT_EARLIER,
    VERSIONS,
    WORKSPACE,
    compared,
    over_time,
    table,
)

_WHERE = f"{WORKSPACE} AND {VERSIONS} AND {CLASS}"
_ALERTS = "AND (model_id IN (${version:sqlstring}) OR model_id = ${model:sqlstring})"


def classes() -> builder.Dashboard:
    """The dashboard."""
    built = house.dashboard(
        "Classes",
        house.CLASSES,
        "What a model detects: counts, share, confidence of each class, and how they changed.",
        [house.workspace(), house.model_name(), house.version(), house.class_name()],
    ).annotation(house.Ready(house.alerts_on_series(_ALERTS)))
    for panel in (*_totals(), _table(), *_over_time()):
        built.with_panel(panel)
    return built


def _totals() -> list[stat.Panel]:
    def total(title: str, description: str, unit: str, value: str, colors: look.PercentChangeColorMode) -> stat.Panel:
        query = compared(value, CLASSES_AND_BEFORE, _WHERE)
        text = f"{description} The change is against the period of equal length before."
        return panels.changing(panels.number(title, text, unit, query), colors).span(8)

    change = look.PercentChangeColorMode
    return [
        total("Detections", "In the range.", "short", "sum(detection_count)", change.SAME_AS_VALUE),
        total("Classes seen", "With at least one detection.", "none", "uniqExact(class)", change.SAME_AS_VALUE),
        total("Average confidence", "Mean over detections.", "percentunit", CONFIDENCE_MEAN, change.STANDARD).decimals(
            1
        ),
    ]


def _table() -> table_panel.Panel:
    query = table(
        "WITH window_start >= $__fromTime AS now",
        "SELECT",
        '  class AS "Class",',
        '  sumIf(detection_count, now) AS "Detections",',
        "  sumIf(detection_count, NOT now) AS before,",
        '  "Detections" / nullIf(before, 0) - 1 AS "Detections change",',
        '  "Detections" / nullIf(sum("Detections") OVER (), 0) AS "Share",',
        '  "Share" - before / nullIf(sum(before) OVER (), 0) AS "Share change",',
        '  sumIf(confidence_ppm_sum, now) / nullIf("Detections", 0) / 1e6 AS "Confidence",',
        '  "Confidence" / nullIf(sumIf(confidence_ppm_sum, NOT now) / nullIf(before, 0) / 1e6, 0) - 1',
        '    AS "Confidence change",',
        '  sumIf(inference_count, now) AS "In inferences",',
        '  max(window_start) AS "Last window"',
        f"FROM {CLASSES_AND_BEFORE}",
        f"WHERE {_WHERE} AND {NOT_EARLIER}",
        'GROUP BY class ORDER BY "Detections" DESC, "Class" LIMIT 500',
    )
    share = {"unit": "percentunit", "decimals": 1}
    gauge = {"custom_cellOptions": {"type": "gauge", "mode": "basic"}, "min": 0, "max": 1}
    return (
        panels.rows(
            "Classes",
            "Share is of the detections of the chosen classes. Changes are against the period of equal length before; "
            "that of the share in percentage points. A class that was not there before has no change.",
            query,
        )
        .override_by_name("Class", panels.column(custom_minWidth=140))
        .override_by_name("before", panels.column(custom_hidden=True))
        .override_by_name("Detections", panels.column(unit="short"))
        .override_by_name("Detections change", panels.change(""))
        .override_by_name("Share", panels.column(**share, **gauge, color={"mode": "fixed", "fixedColor": "blue"}))
        .override_by_name("Share change", panels.change(""))
        .override_by_name("Confidence", panels.column(**share))
        .override_by_name("Confidence change", panels.change("up"))
        .override_by_name("In inferences", panels.column(unit="short"))
        .override_by_name("Last window", panels.column(**panels.AGO))
    )


def _over_time() -> list[timeseries.Panel]:
    def by_class(title: str, description: str, unit: str, value: str, shown: str = "value") -> timeseries.Panel:
        query = over_time(CLASSES, _WHERE, f"{value} AS value", keys=["class"], shown=shown)
        return panels.lines(title, description, unit, query, by="class")

    count = "sum(detection_count)"
    share = "value / nullIf(sum(value) OVER (PARTITION BY time), 0) AS share"
    return [
        panels.stacked(by_class("Detections by class", "A second.", "cps", f"{count} / any(seconds)")),
        panels.stacked(
            by_class("Share by class", "Of the detections of the chosen classes.", "percentunit", count, share), 40
        ).max(1),
        by_class("Confidence by class", "Mean over detections.", "percentunit", CONFIDENCE_MEAN)
        .axis_soft_max(1)
        .span(24),
    ]
