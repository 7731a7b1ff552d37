"""Alertmanager, by its API v2. It is told again and again (pipeline/core/notifying/resend.py)."""

from typing import Any

import aiohttp
import orjson

from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.notification import Notification
from pipeline.edge.notification.outcome import Failed, Outcome
from pipeline.edge.notification.posting import post
from pipeline.edge.notification.wording import annotations, iso
from schemas.alert import AlertEvent, AlertState

# Until then an alert is kept there when it is not sent again. Not soon: that we are away is not that all is well.
FORGET_MS = 3_600_000


class Alertmanager:
    """The one of the settings. What it is told is not judged: it is the operator's own."""

    def __init__(self, session: aiohttp.ClientSession, url: str, public_url: str) -> None:
        """`url` as its users know it, without /api."""
        self._session, self._url, self._public_url = session, url, public_url

    async def send(self, notification: Notification) -> Outcome:
        """Posts all alerts of the notification."""
        if not self._url:
            return Failed(False, "INFERWATCH_ALERTMANAGER_URL is not set")
        alerts = [_alert(event, notification.at_ms, self._public_url) for event in notification.events]
        return await post(self._session, self._url.rstrip("/") + "/api/v2/alerts", orjson.dumps(alerts), {})


def _alert(event: AlertEvent, now_ms: int, public_url: str) -> dict[str, Any]:
    resolved = event.state is AlertState.RESOLVED
    alert = {
        "labels": alertmanager_labels(event),
        "annotations": annotations(event),
        "startsAt": iso(event.starts_at_ms),
        # Never before its beginning: Alertmanager refuses the whole post.
        "endsAt": iso(max(event.at_ms, event.starts_at_ms + 1) if resolved else now_ms + FORGET_MS),
    }
    return alert | ({"generatorURL": public_url} if public_url else {})
