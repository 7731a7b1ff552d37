"""Rules, windows and conditions for tests of alerting."""

from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.core.condition import Condition, Subject
from schemas import aggregate
from schemas.aggregate import Rows
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.rule import Rule
from tests import builders

START_S = 1_795_374_000  # a whole hour
START_MS = START_S * 1000

SUBJECT = Subject(AlertKind.RULE, "acme", "error_rate", "r", "helmets/3")


def rule(**fields: Any) -> Rule:
    """A rule about every model of acme, over a minute. Fields by their names in JSON."""
    whole = {
        "rule_id": "r",
        "workspace": "acme",
        "metric": "error_rate",
        "operator": ">",
        "threshold": 0.1,
        "window_s": 60,
        "min_count": 1,
    }
    return msgspec.convert(whole | fields, Rule)


def rows(models: Sequence[dict[str, Any]] = (), classes: Sequence[dict[str, Any]] = ()) -> tuple[Rows, Rows]:
    """Rows of windows, as they come from inference.aggregates; what is not said of a row is 0."""
    record = aggregate.decode(
        builders.aggregate(
            models=[_EMPTY_MODEL | row for row in models], classes=[_EMPTY_CLASS | row for row in classes]
        )
    )
    assert isinstance(record, aggregate.AggregateRecord), record
    return record.models, record.classes


_NAMES = ("window_start_s", "workspace", "model_id", "device_id", "class")
_EMPTY_MODEL: dict[str, Any] = {
    name: {} if isinstance(value, dict) else 0 for name, value in builders.MODEL_ROW.items() if name not in _NAMES
}
_EMPTY_CLASS: dict[str, Any] = {
    name: {} if isinstance(value, dict) else 0 for name, value in builders.CLASS_ROW.items() if name not in _NAMES
}


def condition(at_ms: int, breached: bool | None = True, **fields: Any) -> Condition:
    """What is said of SUBJECT at a moment."""
    whole: dict[str, Any] = {
        "subject": SUBJECT,
        "at_ms": at_ms,
        "breached": breached,
        "value": 0.2,
        "expected": None,
        "threshold": 0.1,
        "severity": Severity.WARNING,
        "hold_ms": 0,
        "keep_firing_ms": 0,
        "summary": "helmets/3: too many errors",
        "labels": {"team": "vision"},
        "evidence": {"count": 40},
    }
    return Condition(**(whole | fields))


def event(**fields: Any) -> AlertEvent:
    """The first step of an episode that began at START_MS."""
    whole: dict[str, Any] = {
        "fingerprint": SUBJECT.fingerprint,
        "episode": START_MS,
        "sequence": 1,
        "state": AlertState.FIRING,
        "at_ms": START_MS,
        "starts_at_ms": START_MS,
        "kind": AlertKind.RULE,
        "rule_id": "r",
        "workspace": "acme",
        "model_id": "helmets/3",
        "metric": "error_rate",
        "severity": Severity.WARNING,
    }
    return AlertEvent(**(whole | fields))
