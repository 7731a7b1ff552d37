"""Any HTTP receiver: the body that Alertmanager's webhooks have (version 4), signed, with an idempotency key."""

import hashlib
import hmac
import ipaddress
from typing import Any

import aiohttp
import orjson
from yarl import URL

from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.notification import Notification
from pipeline.edge.notification.outcome import Failed, Outcome
from pipeline.edge.notification.posting import post
from pipeline.edge.notification.targets import ANYWHERE, TargetRefusedError, Targets
from pipeline.edge.notification.wording import NEVER, annotations, iso
from schemas.alert import AlertEvent, AlertState

SIGNATURE_HEADER = "X-Inferwatch-Signature-256"


class Webhook:
    """Posts to the recipient's own address, which is judged by `targets`."""

    def __init__(self, session: aiohttp.ClientSession, targets: Targets, secret: str, public_url: str) -> None:
        """`session` resolves by the same `targets`. No secret: no signature."""
        self._session, self._targets, self._secret, self._public_url = session, targets, secret, public_url

    async def send(self, notification: Notification) -> Outcome:
        """Posts it once."""
        if why := mistake(notification.recipient, self._targets):
            return Failed(False, why)
        body = orjson.dumps(webhook_body(notification, self._public_url))
        headers = {"Idempotency-Key": notification.idempotency_key}
        if self._secret:
            headers[SIGNATURE_HEADER] = signature(self._secret, body)
        return await post(self._session, notification.recipient, body, headers)


def mistake(recipient: str, targets: Targets = ANYWHERE) -> str:
    """Why it can never be sent to; "": nothing is known against it. Where a name leads is judged when it is asked."""
    try:
        host = URL(recipient).host or ""
        if _is_address(host):  # such hosts are not resolved, so the session does not judge them
            targets.check(host)
    except TargetRefusedError as error:
        return str(error)
    except ValueError:
        return "the address is no URL"
    sound = (
        host and all(len(label) <= 63 for label in host.split(".")) and recipient.isprintable() and " " not in recipient
    )
    return "" if sound else "the address is no URL"


def signature(secret: str, body: bytes) -> str:
    """What a receiver computes of the raw body, and compares."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def webhook_body(notification: Notification, public_url: str) -> dict[str, Any]:
    """Alertmanager's version 4, and beside it our reason and note."""
    labels = [alertmanager_labels(event) for event in notification.events]
    notes = [annotations(event) for event in notification.events]
    return {
        "version": "4",
        "groupKey": notification.group,
        "truncatedAlerts": notification.left_out,
        "status": "firing" if notification.is_open else "resolved",
        "receiver": "inferwatch",
        "groupLabels": {"cause": notification.group},
        "commonLabels": _common(labels),
        "commonAnnotations": _common(notes),
        "externalURL": public_url,
        "notification_reason": notification.reason.value,
        "note": notification.note,
        "alerts": [_alert(event, public_url) for event in notification.events],
    }


def _alert(event: AlertEvent, public_url: str) -> dict[str, Any]:
    resolved = event.state is AlertState.RESOLVED
    return {
        "status": "resolved" if resolved else "firing",
        "labels": alertmanager_labels(event),
        "annotations": annotations(event),
        "startsAt": iso(event.starts_at_ms),
        "endsAt": iso(event.at_ms) if resolved else NEVER,
        "generatorURL": public_url,
        "fingerprint": event.fingerprint,
    }


def _common(dicts: list[dict[str, str]]) -> dict[str, str]:
    """What all of them have."""
    if not dicts:
        return {}
    return {name: value for name, value in dicts[0].items() if all(one.get(name) == value for one in dicts[1:])}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
