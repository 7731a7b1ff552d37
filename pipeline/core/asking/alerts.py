"""The filter language on alerts: as a condition of SQL on their last steps, and judged on a step at hand.

severity:critical kind:rule,anomaly model:helmets -device:cam-7 label.site:"north*"
"""

from collections.abc import Callable, Mapping

from pipeline.core.asking.language import LABEL, Fields, Filter, Term, Value, ValueKind, parse
from pipeline.core.asking.match import any_model, any_text
from pipeline.core.asking.sql import Bound, model, texts
from schemas.alert import AlertEvent

ALERT_FIELDS: Fields = {
    "model": (ValueKind.TEXT, "model_id; without a version: all versions"),
    "device": (ValueKind.TEXT, "device_id"),
    "class": (ValueKind.TEXT, "class that it is about"),
    "state": (ValueKind.TEXT, "pending, firing, acknowledged, recovering, resolved, suppressed, no_data"),
    "severity": (ValueKind.TEXT, "critical, warning, info"),
    "kind": (ValueKind.TEXT, "rule, anomaly, heartbeat, pipeline"),
    "rule": (ValueKind.TEXT, "rule_id"),
    "metric": (ValueKind.TEXT, "what was measured"),
    "fingerprint": (ValueKind.TEXT, "of an alert"),
    "summary": (ValueKind.TEXT, "its sentence; with * for any text"),
    LABEL: (ValueKind.TEXT, "label.KEY: a label of the alert"),
}
_COLUMNS: Mapping[str, str] = {
    "device": "device_id",
    "class": "class",
    "state": "state",
    "severity": "severity",
    "kind": "kind",
    "rule": "rule_id",
    "metric": "metric",
    "fingerprint": "fingerprint",
    "summary": "summary",
}
_SEEN: Mapping[str, Callable[[AlertEvent], str]] = {
    "model": lambda step: step.model_id or "",
    "device": lambda step: step.device_id or "",
    "class": lambda step: step.class_name or "",
    "state": lambda step: step.state.value,
    "severity": lambda step: step.severity.value,
    "kind": lambda step: step.kind.value,
    "rule": lambda step: step.rule_id or "",
    "metric": lambda step: step.metric,
    "fingerprint": lambda step: step.fingerprint,
    "summary": lambda step: step.summary,
}

Judge = Callable[[AlertEvent], bool]


def alert_filter(text: str) -> Filter:
    """The filter that a line says of alerts. Raises FilterError."""
    return parse(text, ALERT_FIELDS)


def alerts_where(asked: Filter, bound: Bound) -> str:
    """The condition on a row that says how an episode stands."""
    return " AND ".join(f"({_condition(term, bound)})" for term in asked.terms) or "1"


def _condition(term: Term, bound: Bound) -> str:
    if term.field == "model":
        plain = " OR ".join(model(value, bound) for value in term.values if isinstance(value, Value))
    elif term.field == LABEL:
        plain = texts(term, f"labels[{bound.text(term.key)}]", bound)
    else:
        plain = texts(term, _COLUMNS[term.field], bound)
    return f"NOT ({plain})" if term.negated else plain


def alerts_judge(asked: Filter) -> Judge:
    """Whether a step is what the filter asks for: the same truth as alerts_where has on its row."""
    parts = [_judge(term) for term in asked.terms]
    return lambda step: all(part(step) for part in parts)


def _judge(term: Term) -> Judge:
    key = term.key
    seen = _SEEN[term.field] if term.field != LABEL else (lambda step: step.labels.get(key, ""))
    fits = any_model(term) if term.field == "model" else any_text(term)
    return lambda step: fits(seen(step)) != term.negated
