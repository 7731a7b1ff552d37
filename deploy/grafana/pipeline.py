"""Pipeline: is the system itself well? ClickHouse's side, and the workers' own metrics from Prometheus."""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders import table as table_panel

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.sql import PROMETHEUS, series, table

_TRIED = "An attempt that failed is made again; nothing is lost."


def pipeline() -> builder.Dashboard:
    """The dashboard."""
    prometheus_choice = builder.DatasourceVariable("prometheus").label("Prometheus").type("prometheus")
    built = house.dashboard(
        "Pipeline",
        house.PIPELINE,
        "Lag, refused records, inserts, cuts and parts: is inferwatch itself well?",
        [prometheus_choice],
    ).annotation(house.Ready(house.alerts_on_series(where="kind = 'pipeline'")))
    for panel in (*_totals(), _refused(), _refused_latest(), _lag(), _parts()):
        built.with_panel(panel)
    built.with_row(builder.Row("Workers, from Prometheus"))
    for panel in (*_progress(), *_inserts()):
        built.with_panel(panel)
    return built


def _totals() -> list[stat.Panel]:
    late: tuple[panels.Step, ...] = ((None, "green"), (60, "yellow"), (300, "red"))
    return [
        panels.number(
            "Age of the newest window",
            "Since the end of the last window of any model. Grows while no inference arrives.",
            "s",
            table("SELECT dateDiff('second', max(last_window) + 10, now()) AS age FROM models HAVING count() > 0"),
            late,
        ),
        panels.number(
            "Event to row, p99",
            "From an event's own time to its row, over the rows of the last 5 minutes; the slowest partition.",
            "ms",
            table("SELECT max(event_to_row_p99_ms) AS p99 FROM pipeline_lag"),
            ((None, "green"), (5_000, "yellow"), (60_000, "red")),
        ),
        panels.number(
            "Rows, last 5 minutes",
            "Inferences that reached their table.",
            "short",
            table("SELECT sum(row_count) AS inferences FROM pipeline_lag"),
        ),
        panels.number(
            "Refused",
            "Records in the range that were not as they must be. `inferwatch dead-letters list` shows them.",
            "short",
            table("SELECT count() AS refused FROM dead_letters WHERE $__timeFilter_ms(kafka_time)"),
            ((None, "green"), (1, "orange")),
        ),
        panels.number(
            "Parts of a partition, most",
            "Active parts of the fullest partition of any table. ClickHouse slows inserts down at 1000.",
            "none",
            table("SELECT max(parts_max) AS parts FROM table_parts"),
            ((None, "green"), (300, "yellow"), (1000, "red")),
        ),
        panels.number(
            "On disk",
            "All tables of this database, compressed.",
            "bytes",
            table("SELECT sum(bytes) AS bytes FROM table_parts"),
        ),
    ]


def _refused() -> timeseries.Panel:
    query = series(
        "SELECT $__timeInterval(kafka_time) AS time, reason, count() AS value",
        "FROM dead_letters WHERE $__timeFilter_ms(kafka_time)",
        "GROUP BY time, reason ORDER BY time",
    )
    return (
        panels.bars(panels.lines("Refused records", "By reason.", "short", query, by="reason"))
        .no_value("No record was refused in this range")
        .span(24)
    )


def _refused_latest() -> table_panel.Panel:
    query = table(
        'SELECT kafka_time AS "Time", reason AS "Reason", field AS "Field", kafka_topic AS "Topic",',
        '  kafka_partition AS "Partition", kafka_offset AS "Offset", substringUTF8(value, 1, 200) AS "Record"',
        "FROM dead_letters WHERE $__timeFilter_ms(kafka_time) ORDER BY kafka_time DESC LIMIT 50",
    )
    return (
        panels.rows("Latest refused records", "Their first 200 characters.", query, height=8)
        .override_by_name("Time", panels.column(**panels.MOMENT))
        .override_by_name("Topic", panels.column(custom_minWidth=140))
        .override_by_name("Record", panels.column(custom_minWidth=300, custom_inspect=True))
    )


def _lag() -> table_panel.Panel:
    query = table(
        'SELECT kafka_partition AS "Partition", last_offset AS "Last offset", last_kafka_time AS "Last record",',
        '  row_count AS "Rows, 5 min", event_to_row_p50_ms AS "p50",',
        '  event_to_row_p99_ms AS "p99", kafka_to_row_p99_ms AS "p99 from Kafka"',
        "FROM pipeline_lag ORDER BY kafka_partition",
    )
    panel = panels.rows(
        "Partitions of inference.events",
        "How far each is recorded, and how long rows took from event to table over the last 5 minutes.",
        query,
    ).span(12)
    for name in ("p50", "p99", "p99 from Kafka"):
        panel.override_by_name(name, panels.column(unit="ms", decimals=0))
    return panel.override_by_name("Last record", panels.column(**panels.AGO))


def _parts() -> table_panel.Panel:
    query = table(
        'SELECT table AS "Table", parts AS "Parts", partitions AS "Partitions", parts_max AS "Parts, most",',
        '  rows AS "Rows", bytes AS "On disk"',
        "FROM table_parts ORDER BY bytes DESC",
    )
    return (
        panels.rows("Tables", "Active parts; `most` is of the fullest partition.", query)
        .span(12)
        .override_by_name("Rows", panels.column(unit="short"))
        .override_by_name("On disk", panels.column(unit="bytes"))
        .override_by_name("Table", panels.column(custom_minWidth=190))
    )


def _of_workers(title: str, description: str, unit: str, *queries: tuple[str, str]) -> timeseries.Panel:
    built = [
        prometheus.Dataquery().ref_id(chr(65 + i)).datasource(PROMETHEUS).expr(expression).legend_format(legend)
        for i, (expression, legend) in enumerate(queries)
    ]
    panel = panels.lines(title, description, unit, built[0]).datasource(PROMETHEUS).interval("15s").min(0)
    for query in built[1:]:
        panel.with_target(query)
    return panel.no_value("No metrics: is Prometheus scraping the workers?")


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _p99(metric: str, by: str = "le") -> str:
    return f"histogram_quantile(0.99, {_rate(f'{metric}_bucket', by)})"


def _progress() -> list[timeseries.Panel]:
    return [
        _of_workers(
            "Lag, records",
            "Not taken yet, by topic.",
            "short",
            ("sum by (topic) (inferwatch_lag_records)", "{{topic}}"),
        ),
        _of_workers(
            "Lag, seconds",
            "Age of the oldest record that waits, by topic; the worst partition.",
            "s",
            ("max by (topic) (inferwatch_lag_seconds)", "{{topic}}"),
        ),
        _of_workers(
            "Records read", "A second, by topic.", "cps", (_rate("inferwatch_records_total", "topic"), "{{topic}}")
        ),
        _of_workers(
            "Records refused",
            "A second, by reason.",
            "cps",
            (_rate("inferwatch_refused_total", "reason"), "{{reason}}"),
        ),
        _of_workers(
            "Cuts",
            "A second, by topic. Redone: named before and made again. Fenced: the partition had gone elsewhere.",
            "cps",
            (_rate("inferwatch_cuts_total", "topic"), "{{topic}}"),
            (_rate("inferwatch_cuts_redone_total", "topic"), "{{topic}} redone"),
            (_rate("inferwatch_cuts_fenced_total", "topic"), "{{topic}} fenced"),
        ),
        _of_workers(
            "Partitions of the workers",
            "By state. A failed one stands still until someone acts: `inferwatch doctor` says how.",
            "none",
            ("sum by (state) (inferwatch_partitions)", "{{state}}"),
        ),
    ]


def _inserts() -> list[timeseries.Panel]:
    return [
        _of_workers(
            "Inserts",
            f"A second, by outcome. {_TRIED}",
            "cps",
            (_rate("inferwatch_inserts_total", "outcome"), "{{outcome}}"),
        ),
        _of_workers(
            "Rows inserted", "A second, by table.", "cps", (_rate("inferwatch_insert_rows_total", "table"), "{{table}}")
        ),
        _of_workers(
            "Time of an insert, p99",
            "By table.",
            "s",
            (_p99("inferwatch_insert_seconds", "le, table"), "{{table}}"),
        ),
        _of_workers(
            "Delays, p99",
            "From an event's broker timestamp to its row; from a window's end to the record that holds it.",
            "s",
            (_p99("inferwatch_event_to_row_seconds"), "event to row"),
            (_p99("inferwatch_window_close_delay_seconds"), "window to record"),
        ),
    ]
