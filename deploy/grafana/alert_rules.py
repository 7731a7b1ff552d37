"""Alert rules for those who are alerted by Grafana. inferwatch's own detector needs none of them."""

from typing import Any

from deploy.grafana.sql import CLICKHOUSE_TYPE, PLUGIN_VERSION, latency_ms, sql

DATASOURCE_UID = "inferwatch-clickhouse"
# Not that of the dashboards: Grafana would make two folders of one name, or refuse the second.
FOLDER = "inferwatch rules"
_HOUR_S = 3600
_NOW = "window_start >= $__toTime - 300"
_MIN_COUNT = 30


def alert_rules() -> dict[str, Any]:
    """The file for provisioning/alerting."""
    rules = [_confidence(), _latency(), _silent_model(), _silent_device()]
    group = {"orgId": 1, "name": "inferwatch", "folder": FOLDER, "interval": "1m", "rules": rules}
    return {"apiVersion": 1, "groups": [group]}


def _confidence() -> dict[str, Any]:
    def mean(when: str) -> str:
        return f"sumIf(confidence_ppm_sum, {when}) / sumIf(detection_count, {when})"

    return _rule(
        "inferwatch-confidence",
        "Confidence sank",
        sql(
            f"SELECT workspace, model_id, {mean('now')} / nullIf({mean('NOT now')}, 0) AS ratio",
            f"FROM (SELECT *, {_NOW} AS now",
            "  FROM model_range(since = $__fromTime, until = $__toTime, step_s = 60))",
            "GROUP BY workspace, model_id",
            f"HAVING sumIf(detection_count, now) >= {_MIN_COUNT} AND sumIf(detection_count, NOT now) >= {_MIN_COUNT}",
        ),
        ("lt", 0.85),
        "{{ $labels.model_id }} is less sure than usual",
        "Over the last 5 minutes its mean confidence is {{ humanizePercentage $values.A.Value }} of the hour's before.",
        range_s=_HOUR_S + 300,
    )


def _latency() -> dict[str, Any]:
    return _rule(
        "inferwatch-latency",
        "Inference time grew",
        sql(
            "SELECT workspace, model_id,",
            "  anyIf(p95, now) / nullIf(anyIf(p95, NOT now), 0) AS ratio",
            "FROM",
            "(",
            f"  SELECT workspace, model_id, {_NOW} AS now, arrayElementOrNull({latency_ms(0.95)}, 1) AS p95",
            "  FROM model_range(since = $__fromTime, until = $__toTime, step_s = 60)",
            f"  GROUP BY workspace, model_id, now HAVING sum(latency_count) >= {_MIN_COUNT}",
            ")",
            "GROUP BY workspace, model_id HAVING uniqExact(now) = 2",
        ),
        ("gt", 1.5),
        "{{ $labels.model_id }} is slower than usual",
        "Over the last 5 minutes its p95 is {{ humanize $values.A.Value }} times that of the hour before.",
        range_s=_HOUR_S + 300,
    )


def _silent_model() -> dict[str, Any]:
    return _rule(
        "inferwatch-silent-model",
        "A model fell silent",
        sql(
            "SELECT workspace, model_id, dateDiff('second', last_window, now()) AS silent_s",
            "FROM models WHERE last_window > now() - INTERVAL 1 DAY",
        ),
        ("gt", 300),
        "No inference of {{ $labels.model_id }}",
        "For {{ humanizeDuration $values.A.Value }}; it was active within the last day.",
        range_s=300,
    )


def _silent_device() -> dict[str, Any]:
    return _rule(
        "inferwatch-silent-device",
        "A device fell silent",
        sql(
            "SELECT workspace, device_id,",
            "  dateDiff('millisecond', max(sent_at), now64(3)) / greatest(max(interval_ms), 1) AS missed",
            "FROM device_heartbeats",
            "WHERE toStartOfHour(sent_at) >= toStartOfHour(now() - INTERVAL 1 DAY)",
            "GROUP BY workspace, device_id HAVING argMax(status, sent_at) != 'stopping'",
        ),
        ("gt", 5),
        "No heartbeat of {{ $labels.device_id }}",
        "It missed {{ humanize $values.A.Value }} of its own intervals; it was heard within the last day.",
        range_s=300,
    )


def _rule(
    uid: str, title: str, query: str, condition: tuple[str, float], summary: str, description: str, *, range_s: int
) -> dict[str, Any]:
    """A query that gives one number for each series, and what it is compared with."""
    asked = {
        "refId": "A",
        "datasource": {"type": CLICKHOUSE_TYPE, "uid": DATASOURCE_UID},
        "editorType": "sql",
        "queryType": "table",
        "format": 1,
        "rawSql": query,
        "pluginVersion": PLUGIN_VERSION,
        "intervalMs": 60_000,
        "maxDataPoints": 100,
    }
    compared = {
        "refId": "B",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "type": "threshold",
        "expression": "A",
        "conditions": [{"evaluator": {"type": condition[0], "params": [condition[1]]}}],
    }
    return {
        "uid": uid,
        "title": title,
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "datasourceUid": DATASOURCE_UID,
                "relativeTimeRange": {"from": range_s, "to": 0},
                "model": asked,
            },
            {
                "refId": "B",
                "datasourceUid": "__expr__",
                "relativeTimeRange": {"from": 0, "to": 0},
                "model": compared,
            },
        ],
        "for": "2m",
        "noDataState": "OK",
        "execErrState": "Error",
        "annotations": {"summary": summary, "description": description},
        "labels": {"severity": "warning", "source": "inferwatch"},
        "isPaused": False,
    }
