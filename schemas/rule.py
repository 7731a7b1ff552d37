"""A threshold that a person watches: topic inference.rules (compacted, key = rule_id), schema version 1.

A rule is read by two: by workers, who take it or refuse it (`decode`), and by people, who are told all that is wrong
with it (`mistakes`).
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.alert import END, LABEL_NAME, Labels, Severity
from schemas.event import Name
from schemas.mistakes import mistakes as mistakes_of
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1
WINDOW_S_MAX = 86_400
EXACT_WINDOW_S_MAX = 3600  # longer windows begin on whole minutes

_RULE_ID = "^[A-Za-z0-9][A-Za-z0-9._-]*" + END
_RECIPIENT = "^(alertmanager|[A-Za-z][A-Za-z0-9+.-]*:.+)" + END
_FORMATS = {
    _RULE_ID: "letters, digits, '.', '_' and '-', beginning with a letter or a digit",
    _RECIPIENT: "alertmanager, pagerduty:KEY, mailto:NAME@HOST or another address with its scheme",
    LABEL_NAME: "a label's name: letters, digits and '_', not beginning with a digit",
}

HoldS = Annotated[int, Meta(ge=0, le=86_400)]
Limit = Annotated[int, Meta(ge=0, le=100_000)]


class Metric(Enum):
    """What is measured over the window."""

    INFERENCE_COUNT = "inference_count"
    INFERENCE_RATE = "inference_rate"  # per second
    CONFIDENCE_MEAN = "confidence_mean"  # of all detections, 0..1; so are the next two
    CONFIDENCE_P5 = "confidence_p5"
    CONFIDENCE_P50 = "confidence_p50"
    LATENCY_MEAN_MS = "latency_mean_ms"
    LATENCY_P50_MS = "latency_p50_ms"
    LATENCY_P95_MS = "latency_p95_ms"
    LATENCY_P99_MS = "latency_p99_ms"
    CLASS_COUNT = "class_count"  # detections of the class
    CLASS_SHARE = "class_share"  # of all detections, 0..1
    ERROR_RATE = "error_rate"  # of all inferences, 0..1
    EMPTY_RATE = "empty_rate"  # inferences without a detection, of all, 0..1
    CLASS_DISTANCE = "class_distance"  # how far the mix of classes is from the day before, 0..1
    SILENCE_S = "silence_s"  # since the last inference


class Operator(Enum):
    """How the value must stand to the threshold for the rule to be breached."""

    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of some models over a sliding window, and the threshold it must keep to. Null: not narrowed to one."""

    rule_id: Annotated[str, Meta(pattern=_RULE_ID, max_length=128)]
    workspace: Name
    metric: Metric
    operator: Operator
    threshold: Annotated[float, Meta(ge=-1e15, le=1e15)]
    window_s: Annotated[int, Meta(ge=60, le=WINDOW_S_MAX, multiple_of=10)] = 300
    schema: int = SCHEMA_VERSION
    name: Annotated[str, Meta(max_length=200)] = ""
    model_id: Name | None = None  # "helmets/3", or "helmets": each version of it by itself
    device_id: Name | None = None
    class_name: Name | None = msgspec.field(name="class", default=None)
    hold_s: HoldS = 0  # breached for so long before it fires
    keep_firing_s: HoldS = 0  # well for so long before it is resolved
    min_count: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 30  # fewer say nothing about a mean, a share, a quantile
    severity: Severity = Severity.WARNING
    labels: Labels = {}
    recipients: Annotated[list[Annotated[str, Meta(pattern=_RECIPIENT, max_length=2000)]], Meta(max_length=50)] = []
    max_per_hour: Limit | None = None  # notifications; None: no limit
    max_per_day: Limit | None = None
    enabled: bool = True


SHARES = frozenset(
    {
        Metric.CONFIDENCE_MEAN,
        Metric.CONFIDENCE_P5,
        Metric.CONFIDENCE_P50,
        Metric.CLASS_SHARE,
        Metric.ERROR_RATE,
        Metric.EMPTY_RATE,
        Metric.CLASS_DISTANCE,
    }
)  # 0..1
_NEED_CLASS = frozenset({Metric.CLASS_COUNT, Metric.CLASS_SHARE})
# What is not kept for each class.
_WITHOUT_CLASS = frozenset(
    {
        Metric.LATENCY_MEAN_MS,
        Metric.LATENCY_P50_MS,
        Metric.LATENCY_P95_MS,
        Metric.LATENCY_P99_MS,
        Metric.ERROR_RATE,
        Metric.EMPTY_RATE,
        Metric.CLASS_DISTANCE,
    }
)

_decode_json = msgspec.json.Decoder(Rule).decode


def decode(raw: bytes | None) -> Rule | Rejected:
    """The rule in `raw`, or why it is refused. Never raises. A tombstone (None) is the caller's to know."""
    rule = decode_or_reject(_decode_json, raw)
    if isinstance(rule, Rejected):
        return rule
    if rule.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    for field, _ in _contradictions(msgspec.to_builtins(rule)):
        return Rejected(Reason.OUT_OF_RANGE, field)
    return rule


def encode(rule: Rule) -> bytes:
    """The record of inference.rules."""
    return msgspec.json.encode(rule)


def mistakes(given: Any) -> list[str]:
    """All that is wrong with a rule as a person gave it: "field: what is wrong"; empty if nothing is.

    Stricter than `decode`: a field that does not exist is a slip of the pen here, a later version's there.
    """
    found = mistakes_of(given, Rule, _FORMATS)
    if not isinstance(given, dict):
        return found
    wrong = {mistake.split(":")[0] for mistake in found}
    sound = {name: value for name, value in given.items() if name not in wrong}
    if sound.get("schema", SCHEMA_VERSION) != SCHEMA_VERSION:
        found.append(f"schema: only version {SCHEMA_VERSION} is known")
    if given.get("operator") == "" and "operator" in wrong:
        found.append("operator: put it in quotes: YAML reads a bare > as the beginning of a text")
    return found + [f"{field}: {what}" for field, what in _contradictions(sound)]


def from_fields(given: Mapping[str, Any]) -> Rule:
    """The rule of fields that have no mistakes."""
    return msgspec.convert(given, Rule)


def _contradictions(rule: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What types and bounds cannot say, of the fields that are there: (field, what is wrong)."""
    known = rule.get("metric")
    metric = Metric(known) if known in _METRIC_NAMES else None
    class_name, device_id = rule.get("class"), rule.get("device_id")
    if metric in _NEED_CLASS and class_name is None:
        yield "class", f"{known} is about one class: give its name"
    if class_name is not None and metric in _WITHOUT_CLASS:
        yield "class", f"there is no {known} of a single class"
    if class_name is not None and device_id is not None:
        yield "device_id", "classes are counted by model, not by device: give class or device_id"
    elif device_id is not None and metric is Metric.CLASS_DISTANCE:
        yield "device_id", "classes are counted by model, not by device"
    threshold = rule.get("threshold")
    if isinstance(threshold, int | float) and metric is not None:
        if metric in SHARES and not 0 <= threshold <= 1:
            near = f"; {threshold / 100:g}?" if 1 < threshold <= 100 else ""
            yield "threshold", f"{known} lies between 0 and 1, {threshold:g} does not{near}"
        elif threshold < 0:
            yield "threshold", f"{known} is never below 0"
    window_s = rule.get("window_s")
    if isinstance(window_s, int) and window_s > EXACT_WINDOW_S_MAX and window_s % 60:
        yield "window_s", "beyond one hour, expected whole minutes (a multiple of 60)"


_METRIC_NAMES = frozenset(metric.value for metric in Metric)
