"""Whom an alert is for, with which others it belongs together, and which alert makes which other superfluous."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.condition import WATCHDOG
from pipeline.core.devices.quiet import SITE_SILENCE
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.rule import Rule

ALERTMANAGER = "alertmanager"
# Pipeline alerts that say that our own input is not to be trusted: a silence may be ours then.
INPUT_METRICS = frozenset({"input_lag_s", "chain_gap", "topic_silence"})
SILENCE_METRICS = frozenset({"silence_s", SITE_SILENCE, "inference_count", "inference_rate", "traffic"})
_COMMA = re.compile(r",|%2C", re.IGNORECASE)
OPEN = (AlertState.FIRING, AlertState.ACKNOWLEDGED, AlertState.RECOVERING, AlertState.NO_DATA)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Who hears of alerts without a rule, and of those whose rule names nobody."""

    recipients: Sequence[str] = ()
    severity_min: Severity = Severity.WARNING
    watchdog_recipients: Sequence[str] = ()  # a dead-man service, which raises the alarm when it hears nothing


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to tell, and how often at most."""

    recipients: tuple[str, ...]
    per_hour: int | None = None
    per_day: int | None = None


class Routing:
    """A machine: the records of inference.rules in, routes out. Its state is the compacted topic itself."""

    def __init__(self, defaults: Defaults | None = None) -> None:
        """No rule yet."""
        self._defaults = defaults or Defaults()
        self._rules: dict[str, Rule] = {}

    def observe(self, rule_id: str, rule: Rule | None) -> None:
        """A record; None: deleted."""
        if rule is None:
            self._rules.pop(rule_id, None)
        else:
            self._rules[rule_id] = rule

    def route(self, event: AlertEvent) -> Route:
        """Whom the alert is for."""
        if event.kind is AlertKind.PIPELINE and event.metric == WATCHDOG:
            return Route(each_address(self._defaults.watchdog_recipients))
        rule = self._rules.get(event.rule_id) if event.rule_id else None
        if rule is not None and rule.recipients:
            return Route(each_address(rule.recipients), rule.max_per_hour, rule.max_per_day)
        if rule is None and event.severity.rank < self._defaults.severity_min.rank:
            return Route(())
        limits = (None, None) if rule is None else (rule.max_per_hour, rule.max_per_day)
        return Route(each_address(self._defaults.recipients), *limits)


def each_address(recipients: Iterable[str]) -> tuple[str, ...]:
    """Once each, and every mail address by itself: one that is slow or full delays and fails nobody else."""
    found: dict[str, None] = {}
    for recipient in recipients:
        scheme, _, rest = recipient.partition(":")
        if scheme.lower() == "mailto":
            found |= dict.fromkeys(f"{scheme}:{one.strip()}" for one in _COMMA.split(rest.partition("?")[0]))
        else:
            found[recipient] = None
    return tuple(found)


def cause_of(event: AlertEvent) -> str:
    """The group: alerts with one cause are one message."""
    if event.kind is AlertKind.PIPELINE:
        return f"pipeline {event.workspace} {event.labels.get('topic', event.metric)}"
    if event.model_id is not None:
        return f"model {event.workspace} {event.model_id}"
    site = event.labels.get("site")
    return f"site {event.workspace} {site}" if site else f"workspace {event.workspace}"


def is_source(event: AlertEvent) -> bool:
    """Whether it can make others superfluous."""
    if event.state not in OPEN:
        return False
    if event.kind is AlertKind.PIPELINE:
        return event.metric in INPUT_METRICS
    return event.kind is AlertKind.HEARTBEAT and event.metric == SITE_SILENCE


def inhibits(source: AlertEvent, target: AlertEvent) -> bool:
    """Whether who hears of `source` need not hear of `target`: a site's outage says it of its devices, broken input
    of all silences."""
    if source.fingerprint == target.fingerprint:
        return False
    if source.kind is AlertKind.PIPELINE:
        return target.kind is not AlertKind.PIPELINE and target.metric in SILENCE_METRICS
    return (
        target.kind is AlertKind.HEARTBEAT
        and target.metric == "silence_s"
        and target.workspace == source.workspace
        and target.labels.get("site") == source.labels.get("site")
    )


def is_inhibited(event: AlertEvent, sources: Mapping[str, AlertEvent]) -> bool:
    """Whether any of the open `sources` says it already."""
    return event.state is AlertState.SUPPRESSED or any(inhibits(source, event) for source in sources.values())
