"""One step in the life of an alert: topic inference.alerts, the `data` of a CloudEvents 1.0 JSON envelope, version 1.

An alert is known by its fingerprint (what it is about), an episode of it by the moment it began, a step by its number
in the episode. All three come from the log, so a step that is told twice has the same id both times.
"""

from collections.abc import Mapping
from enum import Enum
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import numpy as np
from msgspec import Meta

from schemas.event import TIME_MS_MAX, Name
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1
SPEC_VERSION = "1.0"
TYPE_PREFIX = "inferwatch.alert."
SUMMARY_LENGTH_MAX = 2000

END = r"(?!\n)$"  # of a pattern: a bare $ would let a newline through
LABEL_NAME = "^[a-zA-Z_][a-zA-Z0-9_]*" + END  # as Prometheus and Alertmanager have it
TimeMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX)]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{16}" + END)]
LabelName = Annotated[str, Meta(pattern=LABEL_NAME, max_length=100)]
LabelValue = Annotated[str, Meta(max_length=1000)]
Labels = Annotated[dict[LabelName, LabelValue], Meta(max_length=50)]


class AlertState(Enum):
    """Where an episode stands."""

    PENDING = "pending"  # breached, but not for long enough: nobody is told
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"  # a person has it
    RECOVERING = "recovering"  # well again, but not for long enough
    RESOLVED = "resolved"  # the end of the episode
    SUPPRESSED = "suppressed"  # another alert says it already
    NO_DATA = "no_data"  # nothing has been heard that would end it or go on with it


class AlertKind(Enum):
    """Who raised it."""

    RULE = "rule"  # a person's threshold
    ANOMALY = "anomaly"  # automatic detection
    HEARTBEAT = "heartbeat"  # a silent device
    PIPELINE = "pipeline"  # inferwatch about itself


class Severity(Enum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The larger the worse."""
        return ("info", "warning", "critical").index(self.value)


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one episode of an alert. Null: not about such a thing, or not known."""

    fingerprint: Fingerprint
    episode: TimeMs  # starts_at_ms: with the fingerprint, the episode's name
    sequence: Annotated[int, Meta(ge=1)]  # of the step in the episode
    state: AlertState
    previous_state: AlertState | None = None  # None: the episode begins
    at_ms: TimeMs  # of the step, in the log's time
    starts_at_ms: TimeMs
    kind: AlertKind
    metric: Name
    severity: Severity
    workspace: Name
    schema: int = SCHEMA_VERSION
    rule_id: Name | None = None
    model_id: Name | None = None
    device_id: Name | None = None
    class_name: Name | None = msgspec.field(name="class", default=None)
    value: float | None = None  # seen
    expected: float | None = None
    threshold: float | None = None
    labels: Labels = {}
    summary: Annotated[str, Meta(max_length=SUMMARY_LENGTH_MAX)] = ""  # one sentence a person understands
    evidence: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """The step's id: the same whenever and by whomever it is told."""
        return f"{self.fingerprint}:{self.episode}:{self.sequence}"


def fingerprint(
    kind: AlertKind,
    rule_id: str | None,
    workspace: str,
    model_id: str | None,
    device_id: str | None,
    class_name: str | None,
    metric: str,
) -> str:
    """What an alert is about, as 16 hexadecimal digits."""
    identity = msgspec.json.encode([kind, rule_id, workspace, model_id, device_id, class_name, metric])
    return blake2b(identity, digest_size=8).hexdigest()


def encode(event: AlertEvent) -> bytes:
    """The record of inference.alerts: a CloudEvents 1.0 envelope."""
    return msgspec.json.encode(
        {
            "specversion": SPEC_VERSION,
            "id": event.id,
            "source": f"/inferwatch/{quote(event.workspace, safe='')}",
            "type": TYPE_PREFIX + event.state.value,
            "subject": event.fingerprint,
            "time": f"{np.datetime64(event.at_ms, 'ms')}Z",
            "datacontenttype": "application/json",
            "data": event,
        }
    )


class _Envelope(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    data: AlertEvent


_decode_json = msgspec.json.Decoder(_Envelope).decode


def decode(raw: bytes | None) -> AlertEvent | Rejected:
    """The alert event in `raw`, or why it is refused. Never raises."""
    envelope = decode_or_reject(_decode_json, raw)
    if isinstance(envelope, Rejected):
        return envelope
    event = envelope.data
    if envelope.specversion != SPEC_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "specversion")
    if event.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "data.schema")
    if envelope.id != event.id:  # whoever keeps track by one of them would be misled by the other
        return Rejected(Reason.OUT_OF_RANGE, "id")
    if envelope.type != TYPE_PREFIX + event.state.value:
        return Rejected(Reason.OUT_OF_RANGE, "type")
    return event


def matchable(event: AlertEvent) -> Mapping[str, str]:
    """What a silence's matchers see: the labels, and over them the fields by their names in JSON."""
    fields = {
        "fingerprint": event.fingerprint,
        "kind": event.kind.value,
        "severity": event.severity.value,
        "metric": event.metric,
        "workspace": event.workspace,
        "rule_id": event.rule_id or "",
        "model_id": event.model_id or "",
        "device_id": event.device_id or "",
        "class": event.class_name or "",
    }
    return {**event.labels, **fields}
