"""docs/metrics.md, from the metrics themselves. `python -m pipeline.edge.metrics_reference` writes it."""

from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from pipeline.core.isolation import Judged
from pipeline.core.ledger.chain import Verdict
from pipeline.core.notifying.episodes import Lost
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.core.state import NoSnapshot
from pipeline.edge import metrics
from pipeline.edge.store.answers import Outcome
from schemas.alert import AlertKind, AlertState
from schemas.rejection import Reason
from schemas.tolerance import Adjustment

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = """# Metrics

Written by `make docs`. Every worker answers `/metrics` on `INFERWATCH_WEB_HOST:INFERWATCH_WEB_PORT` (6066 unless told
otherwise) in Prometheus' text format, with the metrics below and those of the process (`process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_open_fds`, `process_start_time_seconds`, `python_gc_*`). All workers have all
of them; what a role does not do stays at 0. Label values that are known in advance are there from the start, at 0.

Whose metrics they are is said by the scrape: `job="inferwatch"`, `role`, `instance` (deploy/prometheus/prometheus.yml).
Recording and alerting rules on them: deploy/prometheus/rules; what to do when one fires: [runbook.md](runbook.md).

| metric | type | labels | meaning |
|---|---|---|---|
"""
_LABELS_HEAD = """
## Labels

| label | of | values |
|---|---|---|
"""


def _values(*names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for group in names for name in group)


def _of(closed: type[Enum]) -> str:
    return _values(member.value for member in closed)


def _names(closed: type[Enum]) -> str:
    return _values(member.name.lower() for member in closed)


# What a label can be: in general, or of one metric.
LABELS = {
    ("version", ""): "the installed version of inferwatch",
    ("topic", ""): "a topic that the role reads, as on the broker (with its prefix)",
    ("partition", ""): "its number; only partitions that this worker has had",
    ("reason", ""): _of(Reason),
    ("reason", "inferwatch_adjusted_total"): _of(Adjustment),
    ("reason", "inferwatch_snapshots_not_used_total"): _names(NoSnapshot),
    ("what", "inferwatch_not_judged_total"): _names(Judged),
    ("what", "inferwatch_not_notified_total"): _of(Lost),
    ("verdict", ""): _of(Verdict),
    ("table", ""): "a ClickHouse table; rows of windows are sent to `model_windows_in` and `class_windows_in`",
    ("outcome", "inferwatch_inserts_total"): _of(Outcome),
    ("outcome", "inferwatch_notifications_total"): _values((metrics.SENT, metrics.FAILED)),
    ("outcome", "inferwatch_forwarded_total"): _values(metrics.FORWARD_OUTCOMES),
    ("what", "inferwatch_roboflow_left_out_total"): _values(metrics.LEFT_OUT),
    ("state", "inferwatch_partitions"): _values(metrics.STATES),
    ("state", "inferwatch_alerts_total"): _of(AlertState),
    ("kind", ""): _of(AlertKind),
    ("kind", "inferwatch_ingested_total"): _values(metrics.KINDS),
    ("kind", "inferwatch_not_ingested_total"): _values(metrics.KINDS),
    ("reason", "inferwatch_not_ingested_total"): f"{_of(Reason)}, {_values(metrics.HTTP_REASONS)}",
    ("part", ""): _values(metrics.HTTP_PARTS),
    ("status", ""): "the HTTP status",
    ("sender", ""): _of(RecipientKind),
}


def declared() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Every metric: its name as it is scraped (of a histogram without _bucket, _sum, _count), type, labels, meaning."""
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):
            (described,) = one.describe()
            suffix = {"counter": "_total", "info": "_info"}.get(described.type, "")
            labels = ("version",) if described.type == "info" else tuple(one._labelnames)
            yield described.name + suffix, described.type, labels, described.documentation


def reference() -> str:
    """The whole page."""
    rows = list(declared())
    lines = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
        for name, kind, labels, meaning in rows
    ]
    used = {label for _, _, labels, _ in rows for label in labels}
    of_labels = [
        f"| `{label}` | {f'`{metric}`' if metric else 'all'} | {values} |"
        for (label, metric), values in LABELS.items()
        if label in used
    ]
    return _HEAD + "\n".join(lines) + "\n" + _LABELS_HEAD + "\n".join(of_labels) + "\n"


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
