"""The words of a notification: for people as text and HTML, for machines as Alertmanager and PagerDuty show them.

Names come from whoever may publish an event. For people each is text on one line, whatever it holds (`shown`, or what a
sender asks for beyond it); for machines a label is exactly what it was.
"""

from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np

from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.words import shown
from schemas.alert import AlertEvent, AlertState

Say = Callable[[str], str]  # how what others wrote is put among our own words

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: Alertmanager's "has not ended"
_SUBJECT_LENGTH_MAX = 200
_COLOURS = {"critical": "#b3261e", "warning": "#b26a00", "info": "#1f5fa8", "resolved": "#2e7d32"}


def iso(ms: int) -> str:
    """A moment as RFC 3339 has it, in UTC."""
    return f"{np.datetime64(ms, 'ms')}Z"


def subject(notification: Notification, say: Say = shown) -> str:
    """One line: how bad, what, how many more."""
    events = notification.events
    if not events:
        return f"[INFERWATCH] {notification.reason.value}: {say(notification.group)}"[:_SUBJECT_LENGTH_MAX]
    first = next((event for event in events if event.state is not AlertState.RESOLVED), events[0])
    head = notification.severity.value.upper() if notification.is_open else "RESOLVED"
    more = len(events) + notification.left_out - 1
    tail = f" (+{more} more)" if more else ""
    text = f"[{head}] {say(' '.join((first.summary or named(first)).split()))}"
    return text[: _SUBJECT_LENGTH_MAX - len(tail)] + tail


def text(notification: Notification, link: str = "", say: Say = shown) -> str:
    """All of it, for people, without markup."""
    lines = [f"Why you are told: {notification.reason.value}."]
    if notification.note:
        lines.append(say(notification.note))
    for event in notification.events:
        lines += ["", f"{_head(event)}: {say(event.summary)}"]
        lines += [f"  {say(name)}: {say(value)}" for name, value in _facts(event)]
        lines.append(f"  id: {event.id}")
    if notification.left_out:
        lines += ["", f"... and {notification.left_out} more."]
    if notification.is_open and notification.events:
        lines += ["", f"To take it: inferwatch alerts ack {notification.events[0].fingerprint}"]
    return "\n".join(lines + ([f"See {link}"] if link else [])) + "\n"


def html(notification: Notification, link: str = "") -> str:
    """The same for mail programs; every value is escaped."""
    parts = ['<html><body style="font-family: sans-serif">']
    parts.append(f"<p>Why you are told: <b>{escape(notification.reason.value)}</b>. {_html(notification.note)}</p>")
    for event in notification.events:
        colour = _COLOURS["resolved" if event.state is AlertState.RESOLVED else event.severity.value]
        parts.append(
            f'<div style="border-left: 4px solid {colour}; padding-left: 12px; margin: 12px 0">'
            f'<b style="color: {colour}">{escape(_head(event))}</b><br>{_html(event.summary)}<table>'
        )
        parts += [f"<tr><td>{_html(name)}</td><td>{_html(value)}</td></tr>" for name, value in _facts(event)]
        parts.append(f"<tr><td>id</td><td>{escape(event.id)}</td></tr></table></div>")
    if notification.left_out:
        parts.append(f"<p>… and {notification.left_out} more.</p>")
    if notification.is_open and notification.events:
        command = f"inferwatch alerts ack {notification.events[0].fingerprint}"
        parts.append(f"<p>To take it: <code>{escape(command)}</code></p>")
    if link.startswith(("http://", "https://")):
        parts.append(f'<p><a href="{escape(link)}">Open inferwatch</a></p>')
    return "".join([*parts, "</body></html>"])


def named(event: AlertEvent) -> str:
    """What the alert is about, in one word or two."""
    where = event.model_id or event.device_id or event.workspace
    return f"{event.metric} of {where}"


def annotations(event: AlertEvent) -> dict[str, str]:
    """What Alertmanager shows of it."""
    facts = {
        "summary": shown(event.summary),
        "state": event.state.value,
        "id": event.id,
        "fingerprint": event.fingerprint,
    }
    return facts | {name: value for name, value in _facts(event) if name in ("seen", "expected", "threshold")}


def details(event: AlertEvent) -> dict[str, Any]:
    """The event with its evidence, for receivers that show fields (PagerDuty's custom_details)."""
    return {
        "id": event.id,
        "state": event.state.value,
        "since": iso(event.starts_at_ms),
        **alertmanager_labels(event),
        "value": event.value,
        "expected": event.expected,
        "threshold": event.threshold,
        "evidence": event.evidence,
    }


def emphasis(notification: Notification) -> str:
    """critical, warning, info, or resolved."""
    if notification.reason is TellReason.WITHHELD:
        return "info"
    return notification.severity.value if notification.is_open else "resolved"


def _html(words: str) -> str:
    return escape(shown(words))


def _head(event: AlertEvent) -> str:
    state = event.state.value.upper()
    return f"{state} ({event.severity.value})" if event.state is not AlertState.RESOLVED else state


def _facts(event: AlertEvent) -> list[tuple[str, str]]:
    facts = [
        ("workspace", event.workspace),
        ("model", event.model_id),
        ("device", event.device_id),
        ("class", event.class_name),
        ("rule", event.rule_id),
        ("seen", _number(event.value)),
        ("expected", _number(event.expected)),
        ("threshold", _number(event.threshold)),
        ("since", iso(event.starts_at_ms)),
        ("until", iso(event.at_ms) if event.state is AlertState.RESOLVED else None),
        *sorted(event.labels.items()),
    ]
    return [(name, value) for name, value in facts if value]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"
