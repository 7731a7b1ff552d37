"""Fleet: is all well, and if not, which model?"""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as look

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.sql import (
    CONFIDENCE_MEAN,
    ERROR_RATE,
    LATENCY_MEAN_MS,
    MODELS,
    MODELS_AND_BEFORE,
    NOT_EARLIER,
    RATE,
    WORKSPACE,
    Target,
    compared,
    over_time,
    table,
)

_COMPARED = "The change is against the period of equal length before."
_CHANGE = look.PercentChangeColorMode


def fleet() -> builder.Dashboard:
    """The dashboard."""
    built = house.dashboard(
        "Fleet", house.FLEET, "All models of a workspace: traffic, confidence, speed, errors.", [house.workspace()]
    ).annotation(house.Ready(house.alerts_on_series()))
    for panel in (*_totals(), _models(), *_over_time()):
        built.with_panel(panel)
    return built


def total(
    title: str, description: str, unit: str, value: str, where: str, colors: look.PercentChangeColorMode
) -> stat.Panel:
    """A number over the range, and its change against the range before."""
    query = compared(value, MODELS_AND_BEFORE, where)
    return panels.changing(panels.number(title, f"{description} {_COMPARED}", unit, query), colors)


def _totals() -> list[stat.Panel]:
    alerts = panels.number(
        "Open alerts",
        "Alerts of this workspace that fire now, whatever the range.",
        "none",
        table(
            "SELECT count() AS alerts",
            f"FROM open_alerts WHERE {WORKSPACE} AND state IN ('firing', 'acknowledged', 'recovering')",
        ),
        steps=((None, "green"), (1, "red")),
    ).data_links([builder.DashboardLink("Alerts").url(str(house.link("", house.ALERTS)["url"]))])
    return [
        total(
            "Requests", "Inferences in the range.", "short", "sum(inference_count)", WORKSPACE, _CHANGE.SAME_AS_VALUE
        ),
        total(
            "Average confidence",
            "Mean over all detections.",
            "percentunit",
            CONFIDENCE_MEAN,
            WORKSPACE,
            _CHANGE.STANDARD,
        ).decimals(1),
        total(
            "Average inference time",
            "Mean over all timed inferences.",
            "ms",
            LATENCY_MEAN_MS,
            WORKSPACE,
            _CHANGE.INVERTED,
        ).decimals(1),
        total(
            "Error rate", "Share of inferences with an error.", "percentunit", ERROR_RATE, WORKSPACE, _CHANGE.INVERTED
        )
        .decimals(2)
        .thresholds(panels.thresholds(*panels.ERRORS)),
        total(
            "Active devices",
            "Devices with at least one inference in the range.",
            "none",
            "uniqExact(device_id)",
            WORKSPACE,
            _CHANGE.STANDARD,
        ),
        alerts,
    ]


def _models_query() -> Target:
    def mean(total: str, count: str, when: str) -> str:
        return f"sumIf({total}, {when}) / nullIf(sumIf({count}, {when}), 0)"

    return table(
        "WITH window_start >= $__fromTime AS now, window_start > $__toTime - 60 - window_s AS fresh,",
        f"  {mean('confidence_ppm_sum', 'detection_count', 'NOT now')} / 1e6 AS confidence_before,",
        f"  {mean('latency_us_sum', 'latency_count', 'NOT now')} / 1e3 AS time_before",
        "SELECT",
        '  model_id AS "Model",',
        "  replaceRegexpOne(model_id, '/[^/]*$', '') AS name,",
        '  sumIf(inference_count, now) AS "Requests",',
        '  "Requests" / nullIf(sumIf(inference_count, NOT now), 0) - 1 AS "Requests change",',
        f'  {mean("confidence_ppm_sum", "detection_count", "now")} / 1e6 AS "Confidence",',
        '  "Confidence" / nullIf(confidence_before, 0) - 1 AS "Confidence change",',
        f'  {mean("confidence_ppm_sum", "detection_count", "fresh")} / 1e6 AS "Latest",',
        '  "Latest" / nullIf("Confidence", 0) - 1 AS "Latest vs range",',
        f'  {mean("latency_us_sum", "latency_count", "now")} / 1e3 AS "Inference time",',
        '  "Inference time" / nullIf(time_before, 0) - 1 AS "Time change",',
        '  sumIf(error_count, now) / nullIf("Requests", 0) AS "Errors",',
        '  uniqExactIf(device_id, now) AS "Devices",',
        '  max(window_start) AS "Last window"',
        f"FROM {MODELS_AND_BEFORE}",
        f"WHERE {WORKSPACE} AND {NOT_EARLIER}",
        "GROUP BY model_id",
        'ORDER BY least(round(ifNull("Latest vs range", 0), 1), 0), "Model"',
        "LIMIT 500",
    )


def _models() -> table_panel.Panel:
    to_model = house.link(
        "Model ${__value.text}",
        house.MODEL,
        model="${__data.fields.name:percentencode}",
        version="${__value.raw:percentencode}",
    )
    share = {"unit": "percentunit", "decimals": 1}
    return (
        panels.rows(
            "Models",
            "Each version of each model, first those whose confidence sank by 5 % or more. Latest: the mean confidence "
            "of the last minute of the range (of the last window, where those are longer). "
            "A model's name opens its dashboard. " + _COMPARED,
            _models_query(),
        )
        .override_by_name("Model", panels.column(links=[to_model], custom_minWidth=160))
        .override_by_name("name", panels.column(custom_hidden=True))
        .override_by_name("Requests", panels.column(unit="short"))
        .override_by_name("Requests change", panels.change(""))
        .override_by_name("Confidence", panels.column(**share))
        .override_by_name("Confidence change", panels.change("up"))
        .override_by_name("Latest", panels.column(**share))
        .override_by_name("Latest vs range", panels.change("up"))
        .override_by_name("Inference time", panels.column(unit="ms", decimals=1))
        .override_by_name("Time change", panels.change("down"))
        .override_by_name("Errors", panels.errors_column())
        .override_by_name("Last window", panels.column(**panels.AGO))
    )


def _over_time() -> list[timeseries.Panel]:
    def by_model(title: str, description: str, unit: str, value: str) -> timeseries.Panel:
        name = "replaceRegexpOne(model_id, '/[^/]*$', '') AS model"
        query = over_time(MODELS, WORKSPACE, f"{value} AS value", keys=["model_id"], shown=f"{name}, value")
        to_model = house.link(
            "Model ${__field.labels.model_id}",
            house.MODEL,
            model="${__field.labels.model:percentencode}",
            version="${__field.labels.model_id:percentencode}",
        )
        return panels.lines(title, description, unit, query, by="model_id").data_links(
            [builder.DashboardLink(str(to_model["title"])).url(str(to_model["url"]))]
        )

    return [
        panels.stacked(by_model("Requests by model", "Inferences a second.", "reqps", RATE)),
        by_model("Average confidence by model", "Mean over detections.", "percentunit", CONFIDENCE_MEAN).axis_soft_max(
            1
        ),
        by_model("Average inference time by model", "Mean.", "ms", LATENCY_MEAN_MS).min(0),
        by_model("Error rate by model", "Share of inferences with an error.", "percentunit", ERROR_RATE)
        .min(0)
        .axis_soft_max(0.05),
    ]
