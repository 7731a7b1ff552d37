"""What each field of the public records means: for schemas/json and docs/events.md.

Apart from the structs, which say what is allowed. tests/unit/test_json_schema.py holds the two to the same fields.
"""

import msgspec

from schemas.alert import AlertEvent
from schemas.event import Image, InferenceEvent, Prediction
from schemas.heartbeat import Heartbeat
from schemas.metadata import InferenceMetadata
from schemas.rule import Rule

MEANINGS: dict[type[msgspec.Struct], dict[str, str]] = {
    InferenceEvent: {
        "event_id": "yours: the name under which the inference is found again; unique, e.g. a UUID",
        "event_time_ms": "when the inference was made, UTC, milliseconds since 1970",
        "workspace": "who it belongs to: a team, a customer",
        "model_id": "model and version: helmets/3",
        "schema": "version of this contract",
        "device_id": "what ran it: a camera, an edge device, a server",
        "latency_ms": "how long it took; absent: unknown",
        "predictions": "what was seen; empty is a request too",
        "error": "what went wrong; absent or empty: nothing",
        "image": "the picture that was looked at",
        "metadata": "anything flat you want to search by: strings, numbers, true or false",
        "tags": "free words",
        "source": "what sent it",
        "deployment": "where it runs: hosted, server, edge",
        "server_version": "of the inference server",
    },
    Prediction: {
        "class": "what was seen",
        "confidence": "how sure the model is",
        "x": "centre of the box, pixels from the left",
        "y": "centre of the box, pixels from the top",
        "width": "of the box, pixels",
        "height": "of the box, pixels",
        "class_id": "kept as given",
        "detection_id": "kept as given",
        "tracker_id": "kept as given",
        "points": "outline of a segment; kept as given",
        "keypoints": "kept as given",
    },
    Image: {
        "width": "pixels",
        "height": "pixels",
        "url": "where it is kept; the picture itself never travels through Kafka",
    },
    Heartbeat: {
        "device_id": "the device that lives",
        "workspace": "who it belongs to",
        "sent_at_ms": "when it was sent, UTC, milliseconds since 1970",
        "interval_ms": "the promise: the next beat comes by then",
        "schema": "version of this contract",
        "server_id": "of the inference server on it",
        "version": "of the software on it",
        "tags": "free words; site:NAME groups devices that fail together",
        "boot_id": "changes when the device restarts",
        "status": "stopping: a planned stop, not a loss",
        "expected_downtime_ms": "with stopping: how long silence is nothing to worry about",
    },
    InferenceMetadata: {
        "workspace": "who it belongs to",
        "inference_id": "the event_id of the inference",
        "field": "what became known: a label, a verdict",
        "value": "its value; the latest sent_at_ms wins",
        "sent_at_ms": "when it was sent, UTC, milliseconds since 1970",
        "schema": "version of this contract",
    },
    Rule: {
        "rule_id": "its name for machines; applying it again replaces it",
        "workspace": "who it belongs to",
        "metric": "what is measured over the window",
        "operator": "how the value stands to the threshold when the rule is breached",
        "threshold": "in the metric's own unit",
        "window_s": "rolling window in seconds, sliding by 10; beyond an hour whole minutes",
        "schema": "version of this contract",
        "name": "its name for people",
        "model_id": "helmets/3, or helmets: each version by itself; null: every model",
        "device_id": "one device; null: all together",
        "class": "one class",
        "hold_s": "breached for so long before it fires",
        "keep_firing_s": "well for so long before it is resolved",
        "min_count": "fewer inferences or detections say nothing about a mean, a share, a quantile",
        "severity": "how bad a breach is",
        "labels": "go with the alert: for routing and silences",
        "recipients": (
            "who is told: alertmanager, pagerduty:KEY, mailto:NAME@HOST, a webhook's or an apprise address; "
            "empty: INFERWATCH_NOTIFY_RECIPIENTS"
        ),
        "max_per_hour": "notifications; beyond it they are counted, not sent; null: no limit",
        "max_per_day": "the same for a day",
        "enabled": "false: kept, but not watched",
    },
    AlertEvent: {
        "fingerprint": "what the alert is about, as 16 hexadecimal digits: the same each time it comes back",
        "episode": "with the fingerprint, the episode's name: equals starts_at_ms",
        "sequence": "of the step in the episode, from 1",
        "state": "where the episode stands now",
        "previous_state": "where it stood before; null: the episode begins",
        "at_ms": "of the step, in the log's time",
        "starts_at_ms": "since when",
        "kind": "who raised it",
        "metric": "what was measured",
        "severity": "how bad it is",
        "workspace": "who it belongs to",
        "schema": "version of this contract",
        "rule_id": "of the rule that raised it",
        "model_id": "the model it is about",
        "device_id": "the device it is about",
        "class": "the class it is about",
        "value": "seen",
        "expected": "what is usual",
        "threshold": "of the rule, or of the detector",
        "labels": "of the rule, or of the device's site",
        "summary": "one sentence a person understands",
        "evidence": "what led to it: numbers for a picture",
    },
}
