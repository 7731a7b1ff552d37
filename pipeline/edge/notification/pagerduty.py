"""PagerDuty, by its Events API v2: one incident a group, triggered, acknowledged and resolved with it."""

import hashlib
import re
from typing import Any

import aiohttp
import orjson

from pipeline.core.notifying.notification import Notification
from pipeline.core.words import shown
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from pipeline.edge.notification.posting import post
from pipeline.edge.notification.wording import details, iso, subject
from schemas.alert import AlertState

PREFIX = "pagerduty:"
DEFAULT = "default"  # pagerduty:default is the key of the settings
DEDUP_KEY_LENGTH_MAX = 255
_KEY = re.compile(r"pagerduty:[\w-]{1,200}", re.ASCII)
_SUMMARY_LENGTH_MAX = 1024
_DETAILS_MAX = 20  # events; a post may hold 512 KB


class PagerDuty:
    """Recipients are pagerduty:KEY, the integration key of a service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, default_key: str, public_url: str) -> None:
        """`url` is the operator's: PagerDuty has one a region."""
        self._session, self._url, self._default_key, self._public_url = session, url, default_key, public_url

    async def send(self, notification: Notification) -> Outcome:
        """Posts one event."""
        if not notification.events:
            return Sent()  # a summary of what was withheld is no incident
        if why := mistake(notification.recipient):
            return Failed(False, why)
        key = notification.recipient.removeprefix(PREFIX)
        if key == DEFAULT:
            key = self._default_key
        if not key:
            return Failed(False, "INFERWATCH_PAGERDUTY_KEY is not set")
        body = orjson.dumps(event_body(notification, key, self._public_url))
        return await post(self._session, self._url, body, {})


def mistake(recipient: str) -> str:
    """Why it can never be sent to; "": nothing is known against it."""
    return "" if _KEY.fullmatch(recipient) else "expected pagerduty:KEY or pagerduty:default"


def event_body(notification: Notification, key: str, public_url: str) -> dict[str, Any]:
    """What Events v2 takes."""
    action = _action(notification)
    body: dict[str, Any] = {"routing_key": key, "event_action": action, "dedup_key": dedup_key(notification.group)}
    if action != "trigger":
        return body
    first = notification.events[0]
    body["client"] = "inferwatch"
    if public_url:
        body["client_url"] = public_url
    body["payload"] = {
        "summary": subject(notification)[:_SUMMARY_LENGTH_MAX],
        "source": shown(first.device_id or first.model_id or first.workspace),
        "severity": notification.severity.value,
        "timestamp": iso(first.starts_at_ms),
        "component": shown(first.model_id or first.device_id or ""),
        "group": shown(notification.group),
        "class": first.metric,
        "custom_details": {
            "reason": notification.reason.value,
            "note": shown(notification.note),
            "alerts": [details(event) for event in notification.events[:_DETAILS_MAX]],
            "left_out": notification.left_out + max(0, len(notification.events) - _DETAILS_MAX),
        },
    }
    return body


def dedup_key(group: str) -> str:
    """The incident's name: the same for every event of a group."""
    key = f"inferwatch {group}"
    if len(key) <= DEDUP_KEY_LENGTH_MAX:
        return key
    return f"inferwatch {hashlib.sha256(group.encode()).hexdigest()}"


def _action(notification: Notification) -> str:
    if not notification.is_open:
        return "resolve"
    taken = all(event.state in (AlertState.ACKNOWLEDGED, AlertState.RESOLVED) for event in notification.events)
    return "acknowledge" if taken else "trigger"
