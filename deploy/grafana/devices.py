"""Devices: who beats, who fell silent, what each does."""

from grafana_foundation_sdk.builders import common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana import dashboard as house
from deploy.grafana import panels
from deploy.grafana.sql import (
    CLICKHOUSE,
    CONFIDENCE_MEAN,
    DEVICES,
    MODELS,
    RATE,
    WORKSPACE,
    Target,
    over_time,
    series,
    table,
)

_WHERE = f"{WORKSPACE} AND {DEVICES}"
_STATES = {"up": "green", "silent": "red", "stopped": "blue", "no heartbeat": "text"}
# From the projection `hourly`: a row an hour and device. On whole hours, so that it can be used.
_HEARD = (
    "SELECT device_id, max(sent_at) AS last_beat, max(interval_ms) AS beat_ms, argMax(version, sent_at) AS runs,",
    "  multiIf(argMax(status, sent_at) = 'stopping', 'stopped',",
    "    dateDiff('millisecond', last_beat, now64(3)) > 3 * beat_ms, 'silent', 'up') AS state",
    f"FROM device_heartbeats WHERE {_WHERE} AND toStartOfHour(sent_at) >= toStartOfHour(now() - INTERVAL 7 DAY)",
    "GROUP BY device_id",
)
_RECENT = "Heard in the last 7 days. Silent: nothing for three of its own intervals, without having said that it stops."


def devices() -> builder.Dashboard:
    """The dashboard."""
    built = house.dashboard(
        "Devices",
        house.DEVICES,
        "Heartbeats of the devices, when each was seen last, and what it infers.",
        [house.workspace(), house.device(of_model=False)],
    ).annotation(house.Ready(house.alerts_on_series("AND device_id != ''")))
    for panel in (*_totals(), _table(), _heard(), *_over_time()):
        built.with_panel(panel)
    return built


def _totals() -> list[stat.Panel]:
    def counted(title: str, state: str, color: str) -> stat.Panel:
        query = table(f"SELECT countIf(state = '{state}') AS devices FROM (", *_HEARD, ")")
        return panels.number(title, _RECENT, "none", query, ((None, "text"), (1, color))).span(6)

    beats = panels.number(
        "Heartbeats",
        "A minute, over the last 5 minutes of the range.",
        "none",
        table(
            "SELECT count() / 5 AS beats FROM device_heartbeats",
            f"WHERE {_WHERE} AND sent_at > $__toTime - INTERVAL 5 MINUTE AND sent_at <= $__toTime",
        ),
    )
    return [
        counted("Devices up", "up", "green"),
        counted("Silent devices", "silent", "red"),
        counted("Stopped devices", "stopped", "blue"),
        beats.decimals(1).span(6),
    ]


def _table() -> table_panel.Panel:
    query = table(
        "SELECT",
        '  device_id AS "Device",',
        "  if(heard.beat_ms = 0, 'no heartbeat', heard.state) AS \"State\",",
        '  if(heard.beat_ms = 0, NULL, heard.last_beat) AS "Last heartbeat",',
        '  if(heard.beat_ms = 0, NULL, heard.beat_ms) AS "Interval",',
        '  heard.runs AS "Runs",',
        '  done.requests AS "Requests",',
        '  done.rate AS "Rate",',
        '  done.confidence AS "Confidence",',
        '  if(done.requests = 0, NULL, done.last_window) AS "Last window"',
        "FROM (",
        *_HEARD,
        ") AS heard",
        "FULL JOIN (",
        "SELECT device_id, sum(inference_count) AS requests,",
        "  requests / greatest($__toTime - $__fromTime, 1) AS rate,",
        f"  {CONFIDENCE_MEAN} AS confidence, max(window_start) AS last_window",
        f"FROM {MODELS} WHERE {_WHERE} AND device_id != '' GROUP BY device_id",
        ") AS done USING (device_id)",
        "ORDER BY indexOf(['silent', 'up', 'stopped', 'no heartbeat'], \"State\"), \"Device\" LIMIT 1000",
    )
    return (
        panels.rows("Devices", f"{_RECENT} Requests, rate and confidence are of the range.", query)
        .override_by_name("Device", panels.column(custom_minWidth=140))
        .override_by_name("State", panels.text_colors(_STATES))
        .override_by_name("Last heartbeat", panels.column(**panels.AGO))
        .override_by_name("Interval", panels.column(unit="ms"))
        .override_by_name("Requests", panels.column(unit="short"))
        .override_by_name("Rate", panels.column(unit="reqps", decimals=2))
        .override_by_name("Confidence", panels.column(unit="percentunit", decimals=1))
        .override_by_name("Last window", panels.column(**panels.AGO))
    )


def _said_at_each_point() -> Target:
    """1 where a device was heard, 0 where not, 2 after it said that it stops, NULL before its first beat."""
    # Points of hours and more, and what was before the range, come from the projection `hourly`.
    said = f"argMax(status, sent_at) AS said, max(sent_at) AS last FROM device_heartbeats WHERE {_WHERE}"
    hour, first_hour = "toStartOfHour(sent_at)", "toStartOfHour($__fromTime)"
    return series(
        "WITH greatest($__interval_s, 60) AS point_s, intDiv(toUnixTimestamp($__fromTime), point_s) AS first,",
        "  range(toUInt32(intDiv(toUnixTimestamp($__toTime), point_s) - first)) AS points,",
        # At each point what was said there, or else last: after 'stopping', and before any beat, nothing is no silence.
        "  arrayMap(i -> heard[i], points) AS there,",
        "  arrayPopFront(arrayFill(x -> x != '', arrayPushFront(there, heard[-1]))) AS known,",
        "  arrayMap((x, y) -> multiIf(x != '', 1, y = '', NULL, y = 'stopping', 2, 0), there, known) AS states",
        "SELECT toDateTime((first + i) * point_s, 'UTC') AS time, device_id, states[i + 1] AS value",
        "FROM (",
        "  SELECT device_id, CAST(groupArray((point, said)), 'Map(Int64, String)') AS heard",
        "  FROM (",
        "    SELECT device_id, greatest(intDiv(toUnixTimestamp(at), point_s) - first, -1) AS point,",
        "      argMax(said, last) AS said",
        "    FROM (",
        f"      SELECT device_id, toStartOfMinute(sent_at) AS at, {said}",
        f"      AND $__interval_s < 3600 AND sent_at >= {first_hour} AND sent_at <= $__toTime GROUP BY device_id, at",
        "      UNION ALL",
        f"      SELECT device_id, {hour} AS at, {said} AND {hour} >= {first_hour} - INTERVAL 7 DAY",
        f"      AND {hour} <= $__toTime AND ($__interval_s >= 3600 OR {hour} < {first_hour}) GROUP BY device_id, at",
        "    ) GROUP BY device_id, point",
        "  ) GROUP BY device_id ORDER BY device_id LIMIT 50",
        ") ARRAY JOIN points AS i",
        "ORDER BY time, device_id",
    )


def _heard() -> statetimeline.Panel:
    states = [
        model.ValueMap(
            options={
                "1": model.ValueMappingResult(text="heard", color="green", index=0),
                "0": model.ValueMappingResult(text="silent", color="red", index=1),
                "2": model.ValueMappingResult(text="stopped", color="blue", index=2),
            }
        )
    ]
    return (
        statetimeline.Panel()
        .title("Heartbeats heard")
        .description(
            "Green where at least one heartbeat was sent, red where none was, blue where the device had said that it "
            "stops. The first 50 devices by name."
        )
        .datasource(CLICKHOUSE)
        .interval("1m")
        .max_data_points(panels.POINTS)
        .mappings(list(states))
        .display_name("${__field.labels.device_id}")
        .color_scheme(builder.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(panels.thresholds((None, "red"), (1, "green"), (2, "blue")))
        .show_value(look.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(look.LegendDisplayMode.LIST)
            .placement(look.LegendPlacement.BOTTOM)
            .calcs([])
        )
        .no_value(panels.NOTHING)
        .height(9)
        .span(24)
        .with_target(_said_at_each_point())
    )


def _over_time() -> list[timeseries.Panel]:
    busiest = (
        f"{_WHERE} AND device_id IN (SELECT device_id FROM {MODELS} WHERE {_WHERE} AND device_id != ''"
        " GROUP BY device_id ORDER BY sum(inference_count) DESC, device_id LIMIT 25)"
    )

    def by_device(title: str, description: str, unit: str, value: str) -> timeseries.Panel:
        query = over_time(MODELS, busiest, f"{value} AS value", keys=["device_id"])
        return panels.lines(title, f"{description} The 25 busiest of those chosen.", unit, query, by="device_id")

    return [
        by_device("Requests by device", "Inferences a second.", "reqps", RATE).min(0),
        by_device("Confidence by device", "Mean over detections.", "percentunit", CONFIDENCE_MEAN).axis_soft_max(1),
    ]
