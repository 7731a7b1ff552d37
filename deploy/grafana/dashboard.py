"""What every dashboard has: its variables, annotations, links, and the panels' common look."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.sql import CLICKHOUSE, CLICKHOUSE_TYPE, WORKSPACE, SqlQuery, Target, sql

FLEET, MODEL, CLASSES, DEVICES, ALERTS, PIPELINE = (
    f"inferwatch-{name}" for name in ("fleet", "model", "classes", "devices", "alerts", "pipeline")
)
TAG = "inferwatch"
NOTHING = "No data in this range"
_NO_BACKSLASH = "position({column}, char(92)) = 0"  # Grafana doubles quotes, but leaves a backslash to ClickHouse

Step = tuple[float | None, str]


def dashboard(
    title: str, uid: str, description: str, variables: Sequence[Builder[model.VariableModel]], since: str = "now-1h"
) -> builder.Dashboard:
    """An empty one, with a link to each of the others that keeps range and variables."""
    built = (
        builder.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .editable()
        .link(
            builder.DashboardLink("inferwatch")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(builder.DatasourceVariable("datasource").label("ClickHouse").type(CLICKHOUSE_TYPE))
    )
    for variable in variables:
        built.with_variable(variable)
    return built


# Variables. All of them read small tables or views.


def query_variable(name: str, label: str, *lines: str) -> builder.QueryVariable:
    """Values from ClickHouse, asked for when the dashboard is loaded."""
    return (
        builder.QueryVariable(name)
        .label(label)
        .datasource(CLICKHOUSE)
        .query(sql(*lines))
        .refresh(model.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def any_of(variable: builder.QueryVariable) -> builder.QueryVariable:
    """Several may be chosen, or all."""
    everything = model.VariableOption(text=["All"], value=["$__all"], selected=True)
    return variable.multi(True).include_all(True).current(everything)


def any_of_these(name: str, label: str, values: Sequence[str]) -> builder.CustomVariable:
    """Several of a fixed list may be chosen, or all."""
    everything = model.VariableOption(text=["All"], value=["$__all"], selected=True)
    choice = builder.CustomVariable(name).label(label).values(",".join(values))
    return choice.multi(True).include_all(True).current(everything)


def workspace() -> builder.QueryVariable:
    """One workspace."""
    return query_variable(
        "workspace", "Workspace", f"SELECT DISTINCT workspace FROM models WHERE {_safe('workspace')} ORDER BY workspace"
    )


def model_name() -> builder.QueryVariable:
    """One model, by its name without the version."""
    return query_variable(
        "model", "Model", f"SELECT DISTINCT model FROM models WHERE {WORKSPACE} AND {_safe('model')} ORDER BY model"
    )


def version() -> builder.QueryVariable:
    """Versions of the model: the value is the whole model_id, what is shown is what stands after the last slash."""
    return any_of(
        query_variable(
            "version",
            "Version",
            f"SELECT model_id FROM models WHERE {WORKSPACE} AND model = ${{model:sqlstring}} AND {_safe('model_id')}",
            "ORDER BY model_id",
        ).regex(r"/^(?<value>(?:.*\/)?(?<text>[^\/]+))$/")
    )


def device(*, of_model: bool) -> builder.QueryVariable:
    """Devices: of the chosen versions, or all that infer or beat."""
    inferring = f"SELECT DISTINCT device_id FROM model_devices WHERE {WORKSPACE} AND device_id != ''"
    if of_model:
        lines = [f"{inferring} AND model_id IN (${{version:sqlstring}}) AND {_safe('device_id')}", "ORDER BY device_id"]
    else:
        lines = [
            f"SELECT DISTINCT device_id FROM ({inferring}",
            f"UNION ALL SELECT device_id FROM device_heartbeats WHERE {WORKSPACE} GROUP BY device_id)",
            f"WHERE {_safe('device_id')} ORDER BY device_id",
        ]
    return any_of(query_variable("device", "Device", *lines))


def class_name() -> builder.QueryVariable:
    """Classes of the chosen versions."""
    return any_of(
        query_variable(
            "class",
            "Class",
            f"SELECT DISTINCT class FROM model_classes WHERE {WORKSPACE} AND model_id IN (${{version:sqlstring}})",
            f"AND {_safe('class')} ORDER BY class",
        )
    )


def _safe(column: str) -> str:
    return _NO_BACKSLASH.format(column=column)


def alerts_on_series(condition: str = "", where: str = WORKSPACE) -> model.AnnotationQuery:
    """Alerts as regions on every series by time, from their start to their end (or the end of the range)."""
    text = sql(
        "SELECT",
        "  min(at) AS time,",
        "  if(countIf(state = 'resolved') > 0, maxIf(at, state = 'resolved'), $__toTime_ms) AS timeEnd,",
        "  argMaxIf(summary, sequence, state = 'firing') AS text,",
        "  concat(any(severity), ',', any(metric), ',', any(model_id)) AS tags",
        "FROM alerts",
        f"WHERE {where} AND $__timeFilter_ms(at) AND state IN ('firing', 'resolved') {condition}",
        "GROUP BY fingerprint, episode HAVING countIf(state = 'firing') > 0",
        "ORDER BY time LIMIT 200",
    )
    annotation = model.AnnotationQuery(
        name="Alerts", datasource=CLICKHOUSE, enable=True, icon_color="red", hide=False, built_in=0
    )
    annotation.target = SqlQuery(text, "table", "alerts")  # type: ignore[assignment]  # the SDK knows Grafana's own only
    return annotation


class Ready(Builder[model.AnnotationQuery]):
    """A builder around an annotation."""

    def __init__(self, annotation: model.AnnotationQuery) -> None:
        self._annotation = annotation

    def build(self) -> model.AnnotationQuery:
        """The annotation."""
        return self._annotation


# The look of panels.


def thresholds(*steps: Step) -> builder.ThresholdsConfig:
    """(from this value on, this colour), the first from minus infinity."""
    return (
        builder.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


# Few enough that a week is read from hours and a month too; more cannot be told apart on a screen.
POINTS = 200
PLAIN: tuple[Step, ...] = ((None, "text"),)
ERRORS: tuple[Step, ...] = ((None, "green"), (0.01, "yellow"), (0.05, "red"))


def number(
    title: str,
    description: str,
    unit: str,
    query: Target,
    steps: Sequence[Step] = PLAIN,
    decimals: int | None = None,
) -> stat.Panel:
    """One number."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .unit(unit)
        .interval("10s")
        .max_data_points(POINTS)
        .thresholds(thresholds(*steps))
        .color_scheme(builder.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .graph_mode(look.BigValueGraphMode.NONE)
        .color_mode(look.BigValueColorMode.VALUE)
        .text_mode(look.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).fields(""))
        .no_value("–")
        .height(4)
        .span(4)
        .with_target(query)
    )
    return panel if decimals is None else panel.decimals(decimals)


def changing(panel: stat.Panel, colors: look.PercentChangeColorMode) -> stat.Panel:
    """With the change in % since the row before the last."""
    return panel.show_percent_change(True).percent_change_color_mode(colors)


def lines(title: str, description: str, unit: str, query: Builder[Dataquery], *, display: str = "") -> timeseries.Panel:
    """Series by time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .unit(unit)
        .interval("10s")
        .max_data_points(POINTS)
        .color_scheme(builder.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(1)
        .fill_opacity(8)
        .show_points(look.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(look.LegendDisplayMode.TABLE)
            .placement(look.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
        .no_value(NOTHING)
        .height(8)
        .span(12)
        .with_target(query)
    )
    return panel.display_name(display) if display else panel


def rows(title: str, description: str, query: Target, *, height: int = 9) -> table_panel.Panel:
    """A table."""
    return (
        table_panel.Panel()
        .title(title)
        .description(description)
        .datasource(CLICKHOUSE)
        .interval("10s")
        .max_data_points(POINTS)
        .no_value(NOTHING)
        .cell_height(look.TableCellHeight.SM)
        .filterable(False)
        .height(height)
        .span(24)
        .with_target(query)
    )


def column(**properties: object) -> list[model.DynamicConfigValue]:
    """Properties of a column by their names, `_` standing for `.`: unit="ms", custom_width=90."""
    return [model.DynamicConfigValue(name.replace("_", "."), value) for name, value in properties.items()]


def link(title: str, uid: str, **variables: str) -> dict[str, object]:
    """To another dashboard, with the range and these variables, whose values are templates of Grafana's."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return {
        "title": title,
        "url": f"/d/{uid}?${{__url_time_range}}&${{datasource:queryparam}}&${{workspace:queryparam}}{chosen}",
        "targetBlank": False,
    }


CHANGE = {"unit": "percentunit", "decimals": 1, "custom_cellOptions": {"type": "color-text"}}


def change(better: str) -> list[model.DynamicConfigValue]:
    """A column with a change: green where it goes the better way ("up", "down"), red the other; "" is no matter."""
    up, down = {"up": ("green", "red"), "down": ("red", "green"), "": ("text", "text")}[better]
    steps = [{"value": None, "color": down}, {"value": -0.02, "color": "text"}, {"value": 0.02, "color": up}]
    return column(**CHANGE, thresholds={"mode": "absolute", "steps": steps})


def errors_column() -> list[model.DynamicConfigValue]:
    """A column with an error rate."""
    steps = [{"value": value, "color": color} for value, color in ERRORS]
    return column(**{**CHANGE, "decimals": 2}, thresholds={"mode": "absolute", "steps": steps})
