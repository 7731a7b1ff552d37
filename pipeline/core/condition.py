"""What is said about a subject at a moment of the log: by a rule, a detector or the heartbeat monitor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.alert import AlertKind, Severity, fingerprint

WATCHDOG = "watchdog"  # the metric of the alert that always fires


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about. None: not about such a thing, or all of them together."""

    kind: AlertKind
    workspace: str
    metric: str
    rule_id: str | None = None
    model_id: str | None = None
    device_id: str | None = None
    class_name: str | None = None

    @property
    def fingerprint(self) -> str:
        """Its name: equal subjects, equal fingerprints."""
        return fingerprint(
            self.kind, self.rule_id, self.workspace, self.model_id, self.device_id, self.class_name, self.metric
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Whether something is wrong with a subject, at a moment of the log."""

    subject: Subject
    at_ms: int  # log time it is about: the end of the window, or the deadline that passed
    breached: bool | None  # None: no data; an episode neither ends nor begins on it
    severity: Severity
    summary: str  # one sentence a person understands
    value: float | None = None
    expected: float | None = None
    threshold: float | None = None
    hold_ms: int = 0  # breached for so long before it fires
    keep_firing_ms: int = 0  # well for so long before it is resolved
    labels: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    suppressed_by: str | None = None  # fingerprint of the alert that says it already (a whole site is gone)
