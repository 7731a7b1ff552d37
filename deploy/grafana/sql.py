"""What the dashboards ask ClickHouse, and the pieces of SQL that they share."""

from collections.abc import Sequence
from typing import Literal

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef

CLICKHOUSE_TYPE = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.20.0"
CLICKHOUSE = DataSourceRef(type_val=CLICKHOUSE_TYPE, uid="${datasource}")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${prometheus}")

# model_range and class_range (schemas/clickhouse/0009_ranges.sql) read only the rollup that fits the range.
MODELS = "model_range(since = $__fromTime, until = $__toTime, step_s = $__interval_s)"
CLASSES = "class_range(since = $__fromTime, until = $__toTime, step_s = $__interval_s)"
# The range, and the one of equal length before it.
_BEFORE = "$__fromTime - ($__toTime - $__fromTime)"
MODELS_AND_BEFORE = f"model_range(since = {_BEFORE}, until = $__toTime, step_s = $__interval_s)"
CLASSES_AND_BEFORE = f"class_range(since = {_BEFORE}, until = $__toTime, step_s = $__interval_s)"
NOT_EARLIER = f"window_start >= {_BEFORE}"

WORKSPACE = "workspace = ${workspace:sqlstring}"
VERSIONS = "model_id IN (${version:sqlstring})"  # All is written out: a model has few versions
DEVICES = "$__conditionalAll(device_id IN (${device:sqlstring}), $device)"
CLASS = "$__conditionalAll(class IN (${class:sqlstring}), $class)"

CONFIDENCE_MEAN = "sum(confidence_ppm_sum) / nullIf(sum(detection_count), 0) / 1e6"
LATENCY_MEAN_MS = "sum(latency_us_sum) / nullIf(sum(latency_count), 0) / 1e3"
ERROR_RATE = "sum(error_count) / nullIf(sum(inference_count), 0)"
EMPTY_RATE = "sum(empty_count) / nullIf(sum(inference_count), 0)"
RATE = "sum(inference_count) / any(seconds)"

# Of a merged histogram: keys and estimates as schemas/clickhouse/0002_windows.sql says.
_LATENCY_KEYS = "quantilesExactWeightedArray({levels})(mapKeys(latency_histogram), mapValues(latency_histogram))"
_CONFIDENCE_KEYS = (
    "quantilesExactWeightedArray({levels})(mapKeys(confidence_histogram), mapValues(confidence_histogram))"
)


def latency_ms(*levels: float) -> str:
    """An array with an estimate of each quantile of the inference time, in ms; empty where nothing was timed."""
    keys = _LATENCY_KEYS.format(levels=", ".join(map(str, levels)))
    estimate = "if(key = -2147483648, 0, 2 * pow(1.01 / 0.99, key) / (1.01 / 0.99 + 1) / 1e3)"
    return f"if(sum(latency_count) = 0, [], arrayMap(key -> toNullable({estimate}), {keys}))"


def confidence(*levels: float) -> str:
    """An array with an estimate of each quantile of the confidence; empty where nothing was detected."""
    keys = _CONFIDENCE_KEYS.format(levels=", ".join(map(str, levels)))
    return f"if(sum(detection_count) = 0, [], arrayMap(key -> toNullable(least(key / 100 + 0.005, 1)), {keys}))"


def sql(*lines: str) -> str:
    """A statement of several lines."""
    return "\n".join(line for line in lines if line)


class SqlQuery(Dataquery):
    """A query in the plugin's own form. `format`: 0 for series by time, 1 for a table."""

    def __init__(self, text: str, form: Literal["series", "table"], ref_id: str = "A") -> None:
        self.text, self.form, self.ref_id = text, form, ref_id

    def to_json(self) -> dict[str, object]:
        """As it stands in a dashboard."""
        return {
            "refId": self.ref_id,
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "queryType": "timeseries" if self.form == "series" else "table",
            "format": 0 if self.form == "series" else 1,
            "rawSql": self.text,
            "pluginVersion": PLUGIN_VERSION,
        }


class Target(Builder[Dataquery]):
    """A builder around a query, as panels want it."""

    def __init__(self, query: SqlQuery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """The query."""
        return self._query

    @property
    def text(self) -> str:
        """Its SQL."""
        return self._query.text


def series(*lines: str, ref_id: str = "A") -> Target:
    """Series by time; text columns become labels."""
    return Target(SqlQuery(sql(*lines), "series", ref_id))


_STARTED = "toDateTime(intDiv(toUnixTimestamp({moment}), point_s) * point_s, 'UTC')"
# What is younger than a minute may still be on its way.
_FIRST, _ENDED = (
    _STARTED.format(moment=m) for m in ("$__fromTime", "greatest($__fromTime, least($__toTime, now() - 60))")
)


def over_time(
    source: str, where: str, *values: str, keys: Sequence[str] = (), shown: str = "value", present: str = "value"
) -> Target:
    """Series of `values` by time, one of each of `keys`; `shown`: of them, what is drawn.

    Each series has every point: where nothing was, a rate is 0 and what has no value is NULL (a gap). Without such rows
    Grafana draws a straight line through a silence. A series without any value is none: of points, only those
    count that have `present`.
    """
    rollup = f"{source.partition('_')[0]}_rollup(since = $__fromTime, step_s = $__interval_s)"
    point_s = f"(SELECT intDiv($__interval_s + window_s - 1, window_s) * window_s FROM {rollup})"
    names = ", ".join(("workspace", *keys, "time"))
    return series(
        f"WITH toUInt32(assumeNotNull({point_s})) AS point_s",
        f"SELECT {', '.join(('time', *keys, shown))} FROM (",
        f"SELECT {names},",
        "  " + ", ".join(values),
        f"FROM {source}",
        f"WHERE {where}",
        f"GROUP BY {names} HAVING isNotNull({present})",
        f"ORDER BY {names} WITH FILL",
        f"  FROM ({_FIRST})",
        f"  TO ({_ENDED})",
        "  STEP point_s",
        ") WHERE workspace != ''",  # what is filled in where there is no series at all
        f"ORDER BY {', '.join(('time', *keys))}",
    )


def compared(value: str, source: str, where: str) -> Target:
    """`value` over the range before and over the range, in this order.

    Grafana shows the change between the two, red where that is 0, also where there is one row only. Against infinity it
    shows none: that stands first where nothing was to compare with, nothing is now, or nothing changed.
    """
    return series(
        "SELECT period,",
        "  if(period = $__toTime, now, if(before > 0 AND before != now, before, toFloat64('inf'))) AS value",
        "FROM (",
        "  SELECT anyIf(value, period = $__fromTime) AS before, anyIf(value, period = $__toTime) AS now",
        "  FROM (",
        f"    SELECT if(window_start < $__fromTime, $__fromTime, $__toTime) AS period, toFloat64({value}) AS value",
        f"    FROM {source}",
        f"    WHERE {where} AND {NOT_EARLIER}",
        "    GROUP BY period",
        "  )",
        ") AS both CROSS JOIN (SELECT arrayJoin([$__fromTime, $__toTime]) AS period) AS periods",
        "ORDER BY period",
    )


def table(*lines: str, ref_id: str = "A") -> Target:
    """Rows as they are."""
    return Target(SqlQuery(sql(*lines), "table", ref_id))
