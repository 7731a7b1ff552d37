"""A test message: whether a recipient can be reached, asked while nothing is wrong.

Machines that open something for each alert (PagerDuty, Alertmanager) are told the end of one that never began: they
take or refuse it like any other, and page nobody.
"""

import asyncio
from collections.abc import Iterable
from uuid import uuid4

from pipeline.config import Settings
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import RecipientKind, kind_of
from pipeline.edge import clock
from pipeline.edge.notification.delivery import ATTEMPT_S, attempt
from pipeline.edge.notification.outcome import Outcome
from pipeline.edge.notification.senders import open_senders
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity, fingerprint

_NOTE = "Nothing is wrong: somebody asked whether alerts reach you here."
_MACHINES = (RecipientKind.PAGERDUTY, RecipientKind.ALERTMANAGER)


async def rehearse(settings: Settings, recipients: Iterable[str]) -> dict[str, Outcome]:
    """What became of one message to each, tried once."""
    messages = [_message(recipient) for recipient in dict.fromkeys(recipients)]
    async with open_senders(settings) as senders:
        outcomes = await asyncio.gather(*(attempt(senders, one, ATTEMPT_S) for one in messages))
    return {one.recipient: outcome for one, outcome in zip(messages, outcomes, strict=True)}


def _message(recipient: str) -> Notification:
    now_ms = clock.now_ms()
    events = (_over(now_ms),) if kind_of(recipient) in _MACHINES else ()
    return Notification(recipient, "inferwatch", events, TellReason.TEST, uuid4().hex, now_ms, note=_NOTE)


def _over(now_ms: int) -> AlertEvent:
    return AlertEvent(
        fingerprint=fingerprint(AlertKind.PIPELINE, None, "inferwatch", None, None, None, "test"),
        state=AlertState.RESOLVED,
        sequence=1,
        episode=now_ms,
        at_ms=now_ms,
        starts_at_ms=now_ms,
        kind=AlertKind.PIPELINE,
        workspace="inferwatch",
        metric="test",
        severity=Severity.INFO,
        summary=_NOTE,
    )
