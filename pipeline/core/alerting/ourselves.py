"""What is said about inferwatch itself: that it lives, that windows are missing, that its input lags."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.alerting.condition import Condition, Subject
from pipeline.core.alerting.routing import WATCHDOG
from schemas.alert import AlertKind, Severity
from schemas.topics import AGGREGATES

WORKSPACE = "inferwatch"  # of these alerts
CHAIN_GAP, INPUT_LAG = "chain_gap", "input_lag_s"  # the metrics
LAG_MS_MAX = 120_000  # of a source partition behind the others
_LAG_KEEP_FIRING_MS = 60_000


def alive(at_ms: int) -> Condition:
    """Always fires: a service outside raises the alarm when it does not hear it any more."""
    subject = Subject(AlertKind.PIPELINE, None, WORKSPACE, None, None, None, WATCHDOG)
    return _condition(subject, at_ms, True, Severity.INFO, "inferwatch is watching; this alert always fires")


def gap(partition: int, at_ms: int, source: int, evidence: Mapping[str, Any]) -> Condition:
    """A link of the chain is missing: what is judged may be wrong."""
    text = f"windows of source partition {source} are missing; run inferwatch audit"
    return _of_partition(
        partition, CHAIN_GAP, at_ms, True, Severity.CRITICAL, text, evidence={"source": source, **evidence}
    )


def gap_over(partition: int, at_ms: int) -> Condition:
    """Nothing has been missing of late."""
    return _of_partition(partition, CHAIN_GAP, at_ms, False, Severity.CRITICAL, "no windows are missing any more")


def input_lag(partition: int, at_ms: int, lag_ms: int, source: int | None) -> Condition:
    """How far the slowest source partition (None: one that was never heard) is behind: nothing newer is judged."""
    who = "a source partition" if source is None else f"source partition {source}"
    return _of_partition(
        partition,
        INPUT_LAG,
        at_ms,
        lag_ms >= LAG_MS_MAX,
        Severity.WARNING,
        f"{who} is {lag_ms // 1000} s behind the others: nothing newer is judged",
        value=lag_ms / 1000,
        threshold=LAG_MS_MAX / 1000,
        keep_firing_ms=_LAG_KEEP_FIRING_MS,
        evidence={"source": source},
    )


def _of_partition(partition: int, metric: str, *rest: Any, **fields: Any) -> Condition:
    """Each partition of aggregates has alerts of its own; they are one message, for they have one topic."""
    place = f"{AGGREGATES.name}/{partition}"
    subject = Subject(AlertKind.PIPELINE, None, WORKSPACE, None, place, None, metric)
    return _condition(subject, *rest, labels={"topic": AGGREGATES.name, "partition": str(partition)}, **fields)


def _condition(
    subject: Subject,
    at_ms: int,
    breached: bool,
    severity: Severity,
    summary: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
    keep_firing_ms: int = 0,
    labels: Mapping[str, str] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Condition:
    return Condition(
        subject=subject,
        at_ms=at_ms,
        breached=breached,
        value=value,
        expected=None,
        threshold=threshold,
        severity=severity,
        hold_ms=0,
        keep_firing_ms=keep_firing_ms,
        summary=summary,
        labels=labels or {},
        evidence=evidence or {},
    )
