"""What every dashboard has: its variables, annotations and links."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana import panels
from deploy.grafana.sql import CLICKHOUSE, CLICKHOUSE_TYPE, WORKSPACE, SqlQuery, sql

FLEET, MODEL, CLASSES, DEVICES, ALERTS, PIPELINE = (
    f"inferwatch-{name}" for name in ("fleet", "model", "classes", "devices", "alerts", "pipeline")
)
TAG = "inferwatch"
_NO_BACKSLASH = "position({column}, char(92)) = 0"  # Grafana doubles quotes, but leaves a backslash to ClickHouse


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
    """Alerts on every series by time: a region from start to end, a line for one that is still open.

    Those that overlap are one region: Grafana would lay them over each other until nothing else is seen.
    """
    before = "(ORDER BY fired, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    text = sql(
        "SELECT min(fired) AS time, if(max(ended) > time, max(ended), NULL) AS timeEnd,",
        "  concat(arrayStringConcat(groupArray(5)(said), '; '),",
        "    if(count() > 5, concat('; and ', toString(count() - 5), ' more'), '')) AS text,",
        "  arrayStringConcat(arraySort(groupUniqArray(level)), ',') AS tags",
        "FROM (SELECT *, sum(is_apart) OVER (ORDER BY fired, ended) AS island",
        f"FROM (SELECT *, fired > max(ended) OVER {before} + toIntervalSecond($__interval_s) AS is_apart",
        "FROM (",
        "  SELECT minIf(at, state = 'firing') AS fired, greatest(fired, maxIf(at, state = 'resolved')) AS ended,",
        "    argMaxIf(a.summary, sequence, state = 'firing') AS said, any(a.severity) AS level",
        "  FROM alerts AS a",
        f"  WHERE {where} AND $__timeFilter_ms(at) AND state IN ('firing', 'resolved') {condition}",
        "  GROUP BY fingerprint, episode HAVING countIf(state = 'firing') > 0",
        "))) GROUP BY island ORDER BY time LIMIT 200",
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


# In a hidden column of a table: where its row leads. Every cell is a link, so one without a name leads to all of them.
TO_MODEL = f"""if(model_id = '', '{FLEET}?', concat('{MODEL}?var-model=',
    encodeURLComponent(replaceRegexpOne(model_id, '/[^/]*$', '') AS name),
    '&var-version=', if(name = model_id, '%24__all', encodeURLComponent(model_id)))) AS to_model"""
TO_DEVICE = f"""concat('{DEVICES}?', if(device_id = '' OR startsWith(device_id, 'site:'), '',
    concat('var-device=', encodeURLComponent(device_id)))) AS to_device"""
_KEPT = "${__url_time_range}&${datasource:queryparam}&${workspace:queryparam}"


def link(title: str, uid: str, **variables: str) -> dict[str, object]:
    """To another dashboard, with the range and these variables, whose values are templates of Grafana's."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return {"title": title, "url": f"/d/{uid}?{_KEPT}{chosen}", "targetBlank": False}


def linked(panel: table.Panel, name: str, address: str) -> table.Panel:
    """With links in column `name` to what column `address` says: TO_MODEL or TO_DEVICE."""
    to_there = {"title": f"{name} ${{__value.text}}", "url": f"/d/${{__data.fields.{address}:raw}}&{_KEPT}"}
    return panel.override_by_name(address, panels.column(custom_hidden=True)).override_by_name(
        name, panels.column(links=[{**to_there, "targetBlank": False}], custom_minWidth=140)
    )
