"""Alert events, changing only what a test is about."""

from typing import Any

from schemas.alert import AlertEvent, AlertKind, AlertState, Severity, fingerprint
from tests.builders import START_MS

T0 = START_MS


def alert(state: AlertState = AlertState.FIRING, sequence: int = 1, **fields: Any) -> AlertEvent:
    """The confidence of acme's model helmets/3 is low; it has fired since T0."""
    whole: dict[str, Any] = {
        "state": state,
        "sequence": sequence,
        "episode": T0,
        "at_ms": T0 + sequence * 1000,
        "kind": AlertKind.RULE,
        "rule_id": "low-confidence",
        "workspace": "acme",
        "model_id": "helmets/3",
        "metric": "confidence_mean",
        "severity": Severity.WARNING,
        "value": 0.61,
        "expected": 0.82,
        "threshold": 0.75,
        "summary": "confidence of helmets/3 is 0.61, below 0.75",
    } | fields
    about = (whole["kind"], whole["rule_id"], whole["workspace"], whole["model_id"], whole.get("device_id"))
    whole.setdefault("fingerprint", fingerprint(*about, whole.get("class_name"), whole["metric"]))
    return AlertEvent(**{"starts_at_ms": whole["episode"], **whole})


def silent(device_id: str, site: str | None = None, **fields: Any) -> AlertEvent:
    """A device that is not heard."""
    labels = {"partition": "0"} | ({"site": site} if site else {})
    about: dict[str, Any] = {
        "kind": AlertKind.HEARTBEAT,
        "rule_id": None,
        "model_id": None,
        "metric": "silence_s",
        "labels": labels,
    }
    about |= {"device_id": device_id, "severity": Severity.CRITICAL, "summary": f"{device_id} is silent"}
    return alert(**(about | fields))
