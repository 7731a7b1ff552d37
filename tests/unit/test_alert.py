"""An alert event: its envelope, its ids, and what is refused."""

import json
from itertools import permutations
from typing import Any

import pytest

from schemas.alert import AlertEvent, AlertKind, AlertState, Severity, decode, encode, fingerprint, matchable
from schemas.rejection import Reason, Rejected
from tests.alerting import START_MS, SUBJECT, event


def test_the_envelope_is_a_cloud_event() -> None:
    of = event(workspace="acme/ä b", at_ms=START_MS + 1)
    envelope = json.loads(encode(of))
    data = envelope.pop("data")
    assert envelope == {
        "specversion": "1.0",
        "id": f"{SUBJECT.fingerprint}:{START_MS}:1",
        "source": "/inferwatch/acme%2F%C3%A4%20b",
        "type": "inferwatch.alert.firing",
        "subject": SUBJECT.fingerprint,
        "time": "2026-11-22T19:00:00.001Z",
        "datacontenttype": "application/json",
    }
    assert data["class"] is None
    assert data["schema"] == 1
    assert data["state"] == "firing"
    assert data["previous_state"] is None


def test_what_was_written_is_read_again() -> None:
    of = event(
        state=AlertState.RESOLVED,
        previous_state=AlertState.RECOVERING,
        sequence=7,
        class_name="person",
        device_id="cam-7",
        value=0.25,
        expected=0.1,
        threshold=0.2,
        severity=Severity.CRITICAL,
        labels={"team": "vision"},
        summary="a sentence",
        evidence={"count": 40, "classes": [{"class": "person", "share": 0.5}]},
    )
    assert decode(encode(of)) == of


def changed(**fields: Any) -> bytes:
    envelope = json.loads(encode(event()))
    for path, value in fields.items():
        where = envelope["data"] if path in envelope["data"] else envelope
        where[path] = value
    return json.dumps(envelope).encode()


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"specversion": "0.3"}, Reason.UNKNOWN_SCHEMA, "specversion"),
        ({"schema": 2}, Reason.UNKNOWN_SCHEMA, "data.schema"),
        ({"sequence": 2}, Reason.OUT_OF_RANGE, "id"),
        ({"sequence": 0}, Reason.OUT_OF_RANGE, "data.sequence"),
        ({"type": "inferwatch.alert.resolved"}, Reason.OUT_OF_RANGE, "type"),
        ({"fingerprint": "x"}, Reason.OUT_OF_RANGE, "data.fingerprint"),
        ({"state": "open"}, Reason.OUT_OF_RANGE, "data.state"),
        ({"at_ms": -1}, Reason.OUT_OF_RANGE, "data.at_ms"),
        ({"at_ms": "now"}, Reason.WRONG_TYPE, "data.at_ms"),
        ({"labels": {"a b": "c"}}, Reason.OUT_OF_RANGE, "data.labels[...]"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], reason: Reason, field: str) -> None:
    refused = decode(changed(**fields))
    assert isinstance(refused, Rejected)
    assert refused.reason is reason
    assert refused.field.startswith(field.removesuffix("[...]"))


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b'{"id": "x"}'])
def test_what_is_no_envelope_is_refused(raw: bytes | None) -> None:
    assert isinstance(decode(raw), Rejected)


def test_a_fingerprint_is_16_digits_and_of_all_that_it_is_about() -> None:
    one = fingerprint(AlertKind.RULE, "r", "acme", "helmets/3", None, None, "error_rate")
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert one == SUBJECT.fingerprint == "fd74e24414d91212"  # known to those who were told: never to change
    about = ("a", "b", "c", "d", "e", None)
    found = {
        fingerprint(AlertKind.RULE, p[0], p[1] or "", p[2], p[3], p[4], p[5] or "")
        for p in permutations(about)
        if p[1] and p[5]
    }
    assert len(found) == 720 - 2 * 120
    assert fingerprint(AlertKind.ANOMALY, "r", "acme", "helmets/3", None, None, "error_rate") != one


def test_severities_have_an_order() -> None:
    assert sorted(Severity, key=lambda severity: severity.rank) == [Severity.INFO, Severity.WARNING, Severity.CRITICAL]


def test_a_matcher_sees_fields_and_labels_and_no_label_hides_a_field() -> None:
    seen = matchable(event(labels={"team": "vision", "workspace": "mine"}, class_name="person"))
    assert seen["team"] == "vision"
    assert seen["workspace"] == "acme"
    assert seen["class"] == "person"
    assert seen["device_id"] == ""
    assert {"fingerprint", "kind", "severity", "metric", "rule_id", "model_id"} <= seen.keys()


def test_an_event_has_an_id_that_names_its_step() -> None:
    of: AlertEvent = event(sequence=3)
    assert of.id == f"{of.fingerprint}:{of.episode}:3"
