"""What people read, and what machines are given."""

import json
from typing import Any

import pytest

from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import RecipientKind, kind_of, mail_addresses, redacted
from pipeline.edge.notification.mail import mail
from pipeline.edge.notification.pagerduty import DEDUP_KEY_LENGTH_MAX, dedup_key, event_body
from pipeline.edge.notification.webhook import signature, webhook_body
from pipeline.edge.notification.wording import NEVER, html, subject, text
from schemas.alert import AlertEvent, AlertState, Severity
from tests.alerts import T0, alert, silent


def notification(*events: AlertEvent, **fields: Any) -> Notification:
    whole: dict[str, Any] = {
        "recipient": "mailto:ann@example.com",
        "group": "model acme helmets/3",
        "events": events or (alert(),),
        "reason": TellReason.FIRST,
        "idempotency_key": "k",
        "at_ms": T0,
    }
    return Notification(**(whole | fields))


def test_the_subject_says_how_bad_what_and_how_many_more() -> None:
    assert subject(notification()) == "[WARNING] confidence of helmets/3 is 0.61, below 0.75"
    both = notification(alert(), silent("cam-1"), left_out=3)
    assert subject(both) == "[CRITICAL] confidence of helmets/3 is 0.61, below 0.75 (+4 more)"
    assert subject(notification(alert(AlertState.RESOLVED))).startswith("[RESOLVED] confidence")
    assert subject(notification(events=(), reason=TellReason.WITHHELD, group="limit r")) == (
        "[INFERWATCH] summary of what was withheld: limit r"
    )


def test_a_subject_is_one_short_line_whatever_the_summary() -> None:
    line = subject(notification(alert(summary="a\r\nBcc: all@example.com\n" + "x" * 2000)))
    assert "\n" not in line
    assert "\r" not in line
    assert len(line) <= 200


def test_the_text_says_why_what_was_seen_and_how_to_take_it() -> None:
    said = text(notification(note="A note."), "https://watch.example.com")
    for part in (
        "Why you are told: first notification.",
        "A note.",
        "FIRING (warning): confidence of helmets/3 is 0.61, below 0.75",
        "  seen: 0.61",
        "  expected: 0.82",
        "  since: 2026-",
        f"  id: {alert().id}",
        f"inferwatch alerts ack {alert().fingerprint}",
        "See https://watch.example.com",
    ):
        assert part in said


def test_what_others_wrote_is_no_markup_of_ours() -> None:
    evil = alert(summary="<script>alert(1)</script>", labels={"site": '"><img src=x>'}, device_id="<b>")
    page = html(notification(evil, note="<i>"), "javascript:alert(1)")
    for part in ("<script", "<img", "<b>x", "<i>", "javascript:"):
        assert part not in page


def test_a_mail_has_both_forms_a_thread_and_an_id_of_its_own() -> None:
    message = mail(notification(), "Watch <watch@example.com>", ["ann@example.com"], "")
    assert message["Message-ID"] == "<k@example.com>"
    assert (
        message["References"] == mail(notification(idempotency_key="l"), "w@example.com", ["b@c.de"], "")["References"]
    )
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("recipient", "addresses"),
    [
        ("mailto:ann@example.com", ["ann@example.com"]),
        ("mailto:ann@example.com,bob@example.com?subject=x", ["ann@example.com", "bob@example.com"]),
        ("mailto:ann%2Bwatch@example.com", ["ann+watch@example.com"]),
        ("mailto:ann@example.com%0d%0aBcc:all@example.com", []),
        ("mailto:nobody", []),
        ("mailto:", []),
    ],
)
def test_recipients_of_mail(recipient: str, addresses: list[str]) -> None:
    assert mail_addresses(recipient) == addresses


def test_a_webhook_has_alertmanagers_body() -> None:
    ended = alert(AlertState.RESOLVED, 2, model_id="m/2")
    body = json.loads(json.dumps(webhook_body(notification(alert(), ended, left_out=2), "https://w.example.com")))
    assert (body["version"], body["status"], body["truncatedAlerts"]) == ("4", "firing", 2)
    assert body["commonLabels"]["alertname"] == "low-confidence"
    assert "model_id" not in body["commonLabels"]
    first, second = body["alerts"]
    assert (first["status"], first["endsAt"], first["fingerprint"]) == ("firing", NEVER, alert().fingerprint)
    assert second["status"] == "resolved"
    assert second["endsAt"] > second["startsAt"]


def test_a_signature_is_of_the_body() -> None:
    # printf '{}' | openssl dgst -sha256 -hmac s
    assert signature("s", b"{}") == "sha256=143ca8d517ba1b181025d732b1cf275d90104fca57bb02a565542978aa18c4b6"
    assert signature("s", b"{}") != signature("t", b"{}")
    assert signature("s", b"{}") != signature("s", b"{ }")


def test_labels_know_an_alert_by_what_it_is_about() -> None:
    labels = alertmanager_labels(alert(labels={"team": "vision", "severity": "forged", "empty": ""}))
    assert labels == {
        "alertname": "low-confidence",
        "kind": "rule",
        "metric": "confidence_mean",
        "severity": "warning",
        "workspace": "acme",
        "model_id": "helmets/3",
        "rule_id": "low-confidence",
        "team": "vision",
    }


@pytest.mark.parametrize(
    ("states", "action"),
    [
        ("F", "trigger"),
        ("FR", "trigger"),
        ("A", "acknowledge"),
        ("AR", "acknowledge"),
        ("FA", "trigger"),
        ("R", "resolve"),
        ("RR", "resolve"),
    ],
)
def test_an_incident_follows_its_group(states: str, action: str) -> None:
    known = {"F": AlertState.FIRING, "A": AlertState.ACKNOWLEDGED, "R": AlertState.RESOLVED}
    events = [alert(known[state], model_id=f"m/{i}") for i, state in enumerate(states)]
    body = event_body(notification(*events), "key", "")
    assert (body["event_action"], body["routing_key"]) == (action, "key")
    assert ("payload" in body) == (action == "trigger")


def test_a_dedup_key_is_never_too_long() -> None:
    assert dedup_key("model acme helmets/3") == "inferwatch model acme helmets/3"
    long = dedup_key("m" * 1000)
    assert len(long) <= DEDUP_KEY_LENGTH_MAX
    assert long != dedup_key("m" * 1001)


@pytest.mark.parametrize(
    ("recipient", "kind", "shown"),
    [
        ("mailto:a@b.c", RecipientKind.MAIL, "mailto:a@b.c"),
        ("alertmanager", RecipientKind.ALERTMANAGER, "alertmanager"),
        ("pagerduty:hush", RecipientKind.PAGERDUTY, "pagerduty:***"),
        ("https://u:hush@x.example.com/hush", RecipientKind.WEBHOOK, "https:***"),
        ("SLACK://hush/hush/hush", RecipientKind.CHAT, "slack:***"),
    ],
)
def test_a_recipient_is_shown_without_its_secrets(recipient: str, kind: RecipientKind, shown: str) -> None:
    assert (kind_of(recipient), redacted(recipient)) == (kind, shown)


def test_the_worst_that_still_fires_counts() -> None:
    ended = alert(AlertState.RESOLVED, severity=Severity.CRITICAL)
    assert notification(ended, alert(model_id="m/2")).severity is Severity.WARNING
    assert notification(ended).severity is Severity.CRITICAL
