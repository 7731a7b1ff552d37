"""Model: one model over time, its versions side by side, its devices."""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import heatmap, timeseries
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_look

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.fleet import total
from deploy.grafana.sql import (
    CLICKHOUSE,
    CONFIDENCE_MEAN,
    DEVICES,
    EMPTY_RATE,
    ERROR_RATE,
    LATENCY_MEAN_MS,
    MODELS,
    RATE,
    VERSIONS,
    WORKSPACE,
    confidence,
    latency_ms,
    over_time,
    table,
)

_WHERE = f"{WORKSPACE} AND {VERSIONS} AND {DEVICES}"
_ALERTS = "AND (model_id IN (${version:sqlstring}) OR model_id = ${model:sqlstring})"
_BINS = 20


def one_model() -> builder.Dashboard:
    """The dashboard."""
    built = house.dashboard(
        "Model",
        house.MODEL,
        "One model: its inference time and confidence with percentiles, errors, versions side by side, devices.",
        [house.workspace(), house.model_name(), house.version(), house.device(of_model=True)],
    ).annotation(house.Ready(house.alerts_on_series(_ALERTS)))
    for panel in (*_totals(), *_bands(), *_versions(), _histogram(), _version_table(), _device_table()):
        built.with_panel(panel)
    return built


def _totals() -> list[Builder[model.Panel]]:
    change = look.PercentChangeColorMode
    p95 = f"arrayElementOrNull({latency_ms(0.95)}, 1)"
    return [
        total("Requests", "Inferences in the range.", "short", "sum(inference_count)", _WHERE, change.SAME_AS_VALUE),
        total(
            "Average confidence", "Mean over all detections.", "percentunit", CONFIDENCE_MEAN, _WHERE, change.STANDARD
        ).decimals(1),
        total("Average inference time", "Mean.", "ms", LATENCY_MEAN_MS, _WHERE, change.INVERTED).decimals(1),
        total("Inference time p95", "19 of 20 are faster.", "ms", p95, _WHERE, change.INVERTED).decimals(1),
        total("Error rate", "Share of inferences with an error.", "percentunit", ERROR_RATE, _WHERE, change.INVERTED)
        .decimals(2)
        .thresholds(panels.thresholds(*panels.ERRORS)),
        total(
            "Empty results",
            "Share of inferences without a detection.",
            "percentunit",
            EMPTY_RATE,
            _WHERE,
            change.INVERTED,
        ).decimals(1),
    ]


def _bands() -> list[timeseries.Panel]:
    time = panels.lines(
        "Inference time",
        "Mean and percentiles over the chosen versions and devices, from histograms with an error of at most 1 %.",
        "ms",
        over_time(
            MODELS,
            _WHERE,
            f"{LATENCY_MEAN_MS} AS mean, {latency_ms(0.5, 0.95, 0.99)} AS q",
            shown=_named("p50", "p95", "p99"),
            present="mean",
        ),
    ).min(0)
    sure = panels.lines(
        "Confidence",
        "Mean and percentiles over the detections of the chosen versions and devices.",
        "percentunit",
        over_time(
            MODELS,
            _WHERE,
            f"{CONFIDENCE_MEAN} AS mean, {confidence(0.05, 0.5, 0.95)} AS q",
            shown=_named("p5", "p50", "p95"),
            present="mean",
        ),
    ).max(1)
    return [
        _band(time, {"mean": "text", "p50": "green", "p95": "orange", "p99": "red"}, {"p95": "p50", "p99": "p95"}),
        _band(sure, {"mean": "text", "p5": "red", "p50": "green", "p95": "blue"}, {"p50": "p5", "p95": "p50"}),
    ]


def _named(*names: str) -> str:
    return "mean, " + ", ".join(f"arrayElementOrNull(q, {i}) AS {name}" for i, name in enumerate(names, start=1))


def _band(panel: timeseries.Panel, colors: dict[str, str], down_to: dict[str, str]) -> timeseries.Panel:
    for name, color in colors.items():
        fill = {"custom_fillBelowTo": down_to[name], "custom_fillOpacity": 12} if name in down_to else {}
        width = {"custom_lineWidth": 2} if name == "mean" else {}
        panel.override_by_name(name, panels.column(color={"mode": "fixed", "fixedColor": color}, **fill, **width))
    return panel


def _versions() -> list[timeseries.Panel]:
    def side_by_side(title: str, description: str, unit: str, value: str) -> timeseries.Panel:
        query = over_time(MODELS, _WHERE, f"{value} AS value", keys=["model_id"])
        return panels.lines(title, description, unit, query, by="model_id")

    p95 = f"arrayElementOrNull({latency_ms(0.95)}, 1)"
    failures = panels.lines(
        "Errors and empty results",
        "Shares of inferences: with an error; without a detection.",
        "percentunit",
        over_time(
            MODELS,
            _WHERE,
            f"{ERROR_RATE} AS errors, {EMPTY_RATE} AS empty",
            shown='errors, empty AS "empty results"',
            present="errors",
        ),
    )
    return [
        panels.stacked(side_by_side("Requests by version", "Inferences a second.", "reqps", RATE)),
        failures.min(0)
        .axis_soft_max(0.05)
        .override_by_name("errors", panels.column(color={"mode": "fixed", "fixedColor": "red"}))
        .override_by_name("empty results", panels.column(color={"mode": "fixed", "fixedColor": "blue"})),
        side_by_side("Confidence by version", "Mean over detections.", "percentunit", CONFIDENCE_MEAN).axis_soft_max(1),
        side_by_side("Inference time p95 by version", "19 of 20 are faster.", "ms", p95).min(0),
    ]


def _histogram() -> heatmap.Panel:
    width = 100 // _BINS
    steps = f"arrayMap(key -> toUInt8(least(intDiv(key, {width}), {_BINS - 1})), mapKeys(confidence_histogram))"
    counted = f"sumMap({steps}, mapValues(confidence_histogram)) AS counted"
    bins = ", ".join(f'bins[{i}] AS "{i * width} %"' for i in range(_BINS))
    query = over_time(
        MODELS, _WHERE, f"{counted}, CAST(counted, 'Map(UInt8, UInt64)') AS bins", shown=bins, present="counted"
    )
    return (
        heatmap.Panel()
        .title("Distribution of confidence")
        .description("Detections by confidence, in steps of 5 %. A model that grows unsure moves down.")
        .datasource(CLICKHOUSE)
        .interval("10s")
        .max_data_points(panels.POINTS)
        .calculate(False)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(look.HeatmapCellLayout.GE))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_look.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .scale(heatmap_look.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
            .fill("dark-blue")
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
        .mode(look.TooltipDisplayMode.SINGLE)
        .y_axis(heatmap.YAxisConfig().axis_placement(look.AxisPlacement.LEFT))
        .no_value(panels.NOTHING)
        .height(9)
        .span(24)
        .with_target(query)
    )


def _columns(key: str, *named: str) -> list[str]:
    return [
        f"WITH {latency_ms(0.5, 0.95, 0.99)} AS q",
        f"SELECT {', '.join(named)},",
        '  sum(inference_count) AS "Requests",',
        f'  {CONFIDENCE_MEAN} AS "Confidence",',
        f'  {LATENCY_MEAN_MS} AS "Inference time",',
        '  arrayElementOrNull(q, 1) AS "p50", arrayElementOrNull(q, 2) AS "p95", arrayElementOrNull(q, 3) AS "p99",',
        f'  {ERROR_RATE} AS "Errors",',
        f'  {EMPTY_RATE} AS "Empty results",',
        '  max(window_start) AS "Last window"',
        f"FROM {MODELS} WHERE {_WHERE} GROUP BY {key} ORDER BY",
    ]


def _styled(panel: table_panel.Panel) -> table_panel.Panel:
    panel.override_by_name("Requests", panels.column(unit="short"))
    for name in ("Confidence", "Empty results"):
        panel.override_by_name(name, panels.column(unit="percentunit", decimals=1))
    for name in ("Inference time", "p50", "p95", "p99"):
        panel.override_by_name(name, panels.column(unit="ms", decimals=1))
    return panel.override_by_name("Errors", panels.errors_column()).override_by_name(
        "Last window", panels.column(**panels.AGO)
    )


def _version_table() -> table_panel.Panel:
    classes = house.link(
        "Classes of ${__value.text}",
        house.CLASSES,
        model="${model:percentencode}",
        version="${__value.raw:percentencode}",
    )
    panel = panels.rows(
        "Versions",
        "The chosen versions side by side. A version opens its classes.",
        table(*_columns("model_id", 'model_id AS "Version"'), '"Version" LIMIT 100'),
        height=6,
    )
    return _styled(panel).override_by_name("Version", panels.column(links=[classes], custom_minWidth=160))


def _device_table() -> table_panel.Panel:
    panel = panels.rows(
        "Devices",
        "The chosen versions on each device, the least sure first. A device opens its heartbeats.",
        table(
            *_columns("device_id", """nullIf(device_id, '') AS "Device\"""", house.TO_DEVICE),
            '"Confidence" ASC NULLS LAST LIMIT 200',
        ),
    )
    return house.linked(_styled(panel), "Device", "to_device")
