"""Alerts that were: episodes of a stretch of time, the newest first, and the steps of one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.asking.alerts import alerts_where
from pipeline.core.asking.language import Filter
from pipeline.core.asking.sql import Bound
from pipeline.edge.store.asks import Asks
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity

_TEXTS = ("fingerprint", "kind", "rule_id", "workspace", "model_id", "device_id", "class", "metric")
_LAST = ("state", "severity", "summary", "labels", "value", "expected", "threshold")
_MS = "toUnixTimestamp64Milli"


@dataclass(frozen=True, slots=True)
class EpisodeOf:
    """An episode: how it stood last, and when what happened. `fired_at_ms` None: nobody was told."""

    last: AlertEvent
    fired_at_ms: int | None
    steps: int


@dataclass(frozen=True, slots=True)
class EpisodePlace:
    """Where a page of episodes ended."""

    starts_at_ms: int
    fingerprint: str


async def episodes(
    store: Asks, workspace: str, asked: Filter, from_ms: int, to_ms: int, after: EpisodePlace | None, limit: int
) -> list[EpisodeOf]:
    """Those that began in that time, the newest first."""
    bound = Bound()
    where = alerts_where(asked, bound)
    parameters: dict[str, Any] = {"workspace": workspace, "from_ms": from_ms, "to_ms": to_ms, "limit": limit}
    page = "1"
    if after is not None:
        page = "(starts_ms < {after_ms:Int64} OR (starts_ms = {after_ms:Int64} AND fingerprint > {after:String}))"
        parameters |= {"after_ms": after.starts_at_ms, "after": after.fingerprint}
    same = ", ".join(f"any(a.{name}) AS {name}" for name in _TEXTS[1:])
    last = ", ".join(f"argMax(a.{name}, a.sequence) AS {name}" for name in _LAST)
    inner = (
        f"SELECT a.fingerprint AS fingerprint, {_MS}(a.episode) AS episode_ms, {same}, {last}, "
        f"{_MS}(min(a.starts_at)) AS starts_ms, {_MS}(max(a.at)) AS at_ms, max(a.sequence) AS sequence, "
        f"minOrNullIf({_MS}(a.at), a.state = 'firing') AS fired_ms, count() AS steps FROM alerts AS a "
        "WHERE a.workspace = {workspace:String} AND a.at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') "
        "AND a.starts_at >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') "
        "AND a.starts_at < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC') GROUP BY a.fingerprint, a.episode"
    )
    columns = ", ".join((*_TEXTS, *_LAST))
    rows = await store.ask(
        f"SELECT {columns}, episode_ms, starts_ms, at_ms, sequence, fired_ms, steps FROM ({inner}) "
        f"WHERE ({where}) AND {page} ORDER BY starts_ms DESC, fingerprint LIMIT {{limit:UInt32}}",
        parameters | bound.parameters,
    )
    return [_episode(row) for row in rows]


async def steps(store: Asks, workspace: str, fingerprint: str, episode_ms: int | None, limit: int) -> list[AlertEvent]:
    """Of an episode, in order; None: of the newest one."""
    newest = "(SELECT max(episode) FROM alerts WHERE workspace = {workspace:String} AND fingerprint = {fp:String})"
    wanted = newest if episode_ms is None else "fromUnixTimestamp64Milli({episode:Int64}, 'UTC')"
    columns = ", ".join(f"`{name}`" for name in (*_TEXTS, *_LAST))
    rows = await store.ask(
        f"SELECT {columns}, {_MS}(episode), {_MS}(starts_at), {_MS}(at), sequence, previous_state, evidence "
        "FROM alerts WHERE workspace = {workspace:String} AND fingerprint = {fp:String} "
        f"AND episode = {wanted} ORDER BY sequence LIMIT {{limit:UInt32}}",
        {"workspace": workspace, "fp": fingerprint, "episode": episode_ms or 0, "limit": limit},
    )
    return [_step(row[:-2], AlertState(row[-2]) if row[-2] else None, row[-1]) for row in rows]


def _episode(row: Sequence[Any]) -> EpisodeOf:
    *step, fired_ms, count = row
    return EpisodeOf(_step(step, None, ""), None if fired_ms is None else int(fired_ms), int(count))


def _step(row: Sequence[Any], previous: AlertState | None, evidence: str) -> AlertEvent:
    fingerprint, kind, rule_id, workspace, model_id, device_id, class_name, metric, *rest = row
    state, severity, summary, labels, value, expected, threshold, episode_ms, starts_ms, at_ms, sequence = rest
    return AlertEvent(
        fingerprint=fingerprint,
        episode=int(episode_ms),
        sequence=int(sequence),
        state=AlertState(state),
        previous_state=previous,
        at_ms=int(at_ms),
        starts_at_ms=int(starts_ms),
        kind=AlertKind(kind),
        metric=metric,
        severity=Severity(severity),
        workspace=workspace,
        rule_id=rule_id or None,
        model_id=model_id or None,
        device_id=device_id or None,
        class_name=class_name or None,
        value=value,
        expected=expected,
        threshold=threshold,
        labels=dict(labels),
        summary=summary,
        evidence=json.loads(evidence) if evidence else {},
    )
