"""What is said about inferwatch itself: that it lives; missing windows, lag, refused records, a role that is stuck.

The detector judges all of it, without ClickHouse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.alerting.standstill import RoleProgress
from pipeline.core.condition import WATCHDOG, Condition, Subject
from pipeline.core.isolation import NotJudged
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER
from schemas.alert import AlertKind, Severity
from schemas.topics import AGGREGATES, EVENTS

WORKSPACE = "inferwatch"  # of these alerts
CHAIN_GAP, INPUT_LAG, DEAD_LETTERS = "chain_gap", "input_lag_s", "dead_letter_share"  # the metrics
NOT_JUDGED = "not_judged"
LAG_MS_MAX = 120_000  # of a source partition behind the others...
LAG_HOLD_MS = 60_000  # ...for so long, as the log goes on
_LAG_KEEP_FIRING_MS = 60_000
_REASONS_TOLD = 3
_FAILED_TOLD = 20
_STUCK = {
    RECORDER: "nothing was written to ClickHouse for {s} s: ClickHouse is down or no recorder runs",
    AGGREGATOR: "no events were taken into windows for {s} s, and nothing newer is judged: no aggregator runs",
}
_STUCK_IN_PART = "the {role} stands still in some partitions, for {s} s in one"


@dataclass(frozen=True, slots=True)
class OurLimits:
    """When we say that something is wrong with us."""

    refused_share_max: float = 0.01
    refused_min: int = 20  # fewer say nothing of a share
    refused_window_ms: int = 300_000
    standstill_ms: int = 60_000


def alive(at_ms: int) -> Condition:
    """Always fires: a service outside raises the alarm when it does not hear it any more."""
    subject = Subject(AlertKind.PIPELINE, WORKSPACE, WATCHDOG)
    text = "inferwatch is watching; this alert always fires"
    return Condition(subject=subject, at_ms=at_ms, breached=True, severity=Severity.INFO, summary=text)


def gap(partition: int, at_ms: int, source: int, evidence: Mapping[str, Any]) -> Condition:
    """A link of the chain is missing: what is judged may be wrong."""
    text = f"windows of source partition {source} are missing; run inferwatch audit"
    return _of_partition(
        partition, CHAIN_GAP, at_ms, True, Severity.CRITICAL, text, evidence={"source": source, **evidence}
    )


def gap_over(partition: int, at_ms: int) -> Condition:
    """Nothing has been missing of late."""
    return _of_partition(partition, CHAIN_GAP, at_ms, False, Severity.CRITICAL, "no windows are missing any more")


def not_judged(topic: str, partition: int, at_ms: int, failed: Sequence[NotJudged]) -> Condition:
    """Something could not be judged. It begins anew, and nothing else is concerned; nobody would miss it otherwise."""
    breached, text = bool(failed), "everything is judged again"
    if failed:
        one, more = failed[0], f", and {len(failed) - 1:,} more" if len(failed) > 1 else ""
        text = f"{one.what.value} {one.name} of {one.workspace} could not be judged ({one.why}){more}"
    told = [f"{one.what.value} {one.workspace} {one.name}: {one.why}" for one in failed[:_FAILED_TOLD]]
    return _of_partition(
        partition, NOT_JUDGED, at_ms, breached, Severity.WARNING, text, topic=topic, evidence={"failed": told}
    )


def input_lag(partition: int, at_ms: int, lag_ms: int, source: int | None, *, breached: bool) -> Condition:
    """How far the slowest source partition (None: one that was never heard) is behind: nothing newer is judged."""
    who = "a source partition" if source is None else f"source partition {source}"
    return _of_partition(
        partition,
        INPUT_LAG,
        at_ms,
        breached,
        Severity.WARNING,
        f"{who} is {lag_ms // 1000} s behind the others: nothing newer is judged",
        value=lag_ms / 1000,
        threshold=LAG_MS_MAX / 1000,
        keep_firing_ms=_LAG_KEEP_FIRING_MS,
        evidence={"source": source},
    )


def refusals(end_ms: int, read: int, refused: Mapping[str, int], limits: OurLimits) -> Condition:
    """How many events were refused in the window that ends then: they are in dead_letters, and count nowhere."""
    count = sum(refused.values())
    share = count / read if read else 0.0
    most = sorted(refused.items(), key=lambda item: (-item[1], item[0]))[:_REASONS_TOLD]
    why = ", ".join(f"{number:,} {reason}" for reason, number in most) or "none"
    text = (
        f"{share:.2%} of the {read:,} records of {EVENTS.name} in {limits.refused_window_ms // 1000} s were refused "
        f"({why}); inferwatch dead-letters list shows them"
    )
    return Condition(
        subject=Subject(AlertKind.PIPELINE, WORKSPACE, DEAD_LETTERS, device_id=EVENTS.name),
        at_ms=end_ms,
        breached=count >= limits.refused_min and share > limits.refused_share_max,
        severity=Severity.WARNING,
        summary=text,
        value=share,
        threshold=limits.refused_share_max,
        keep_firing_ms=limits.refused_window_ms // 5,
        labels={"topic": EVENTS.name},
        evidence={"read": read, "refused": dict(refused)},
    )


def standstill(role: str, at_ms: int, progress: RoleProgress, limits: OurLimits) -> Condition:
    """Whether a role gets on."""
    waiting = progress.waiting
    stuck = [one for one in waiting if at_ms - one.since_ms >= limits.standstill_ms]
    waited_ms = at_ms - waiting[0].since_ms if waiting else 0
    text = f"the {role} gets on"
    if stuck:
        # One that moves elsewhere lives, and so does what it writes to. (What it had just done it commits later.)
        is_all = at_ms - progress.moved_ms >= limits.standstill_ms / 2
        what = (_STUCK[role] if is_all else _STUCK_IN_PART).format(role=role, s=waited_ms // 1000)
        told = waiting if is_all else stuck
        where = told[0].partition + (" and others" if len(told) > 1 else "")
        problem = next((f": {one.problem}" for one in stuck if one.problem), "")
        count = f"{len(told)} of {progress.partitions} partitions wait"
        text = f"{what} ({count}: {where}{problem}); inferwatch doctor says which"
    return Condition(
        subject=Subject(AlertKind.PIPELINE, WORKSPACE, f"{role}_standstill_s", device_id=role),
        at_ms=at_ms,
        breached=bool(stuck),
        severity=Severity.CRITICAL,
        summary=text,
        value=waited_ms / 1000,
        threshold=limits.standstill_ms / 1000,
        labels={"role": role},
        evidence={"waiting": {one.partition: one.records for one in waiting}},
    )


def _of_partition(
    partition: int,
    metric: str,
    at_ms: int,
    breached: bool,
    severity: Severity,
    summary: str,
    *,
    topic: str = AGGREGATES.name,
    **fields: Any,
) -> Condition:
    """Each partition has alerts of its own; they are one message, for they have one topic."""
    return Condition(
        subject=Subject(AlertKind.PIPELINE, WORKSPACE, metric, device_id=f"{topic}/{partition}"),
        at_ms=at_ms,
        breached=breached,
        severity=severity,
        summary=summary,
        labels={"topic": topic, "partition": str(partition)},
        **fields,
    )
