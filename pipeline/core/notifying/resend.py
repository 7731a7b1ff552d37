"""What Alertmanager is told: every alert by itself, again and again until it ends, and its end for five minutes more.

Alertmanager knows an alert by its labels and forgets it when it is not sent again; grouping, repeats and silences of
its own are its business. What is silenced here is not begun there, but what was begun is ended.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from pipeline.core.notifying.notification import Notification, TellReason, idempotency_key
from pipeline.core.notifying.routing import ALERTMANAGER
from schemas.alert import AlertEvent, AlertState

RESEND_MS = 60_000
RESOLVED_RESEND_MS = 300_000
_UNDER_WAY_MAX = 10_000
_LIVES = (AlertState.FIRING, AlertState.ACKNOWLEDGED, AlertState.RECOVERING, AlertState.NO_DATA)


class Resent(msgspec.Struct):
    """An alert as Alertmanager knows it."""

    event: AlertEvent  # as it stands
    last: AlertEvent | None = None  # as it was sent
    sent_ms: int = 0
    ended_ms: int = 0  # when its end was sent first; 0: not yet


ResendState = dict[str, Resent]  # by fingerprint


class Resend:
    """A machine: alert events in, what is due for Alertmanager out."""

    def __init__(self, labels_of: Callable[[AlertEvent], Any], events_max: int) -> None:
        """`labels_of` gives the labels that Alertmanager knows the alert by; `events_max` in one message."""
        self._labels_of, self._events_max = labels_of, events_max
        self._under_way: dict[str, list[str]] = {}  # fingerprints, by idempotency key
        self._alerts: ResendState = {}

    def observe(self, event: AlertEvent) -> None:
        """The newest step of an alert."""
        known = self._alerts.get(event.fingerprint)
        if known is None:
            if event.state in _LIVES:
                self._alerts[event.fingerprint] = Resent(event)
            return
        if event.state is AlertState.PENDING or (known.ended_ms and event.state is AlertState.SUPPRESSED):
            return  # of a new episode, which has not begun for others: the end of the last one is still told
        known.event, known.sent_ms = event, 0
        if event.state in _LIVES:
            known.ended_ms = 0

    def tick(self, now_ms: int, quiet: Callable[[AlertEvent], bool]) -> list[Notification]:
        """What to send now. `quiet`: not to be begun. It is in no outbox: it is sent again anyway."""
        events, out = self._due(now_ms, quiet), []
        for i in range(0, len(events), self._events_max):
            key, part = idempotency_key(ALERTMANAGER, now_ms, i), tuple(events[i : i + self._events_max])
            out.append(Notification(ALERTMANAGER, ALERTMANAGER, part, TellReason.RESENT, key, now_ms))
            self._under_way[key] = [event.fingerprint for event in part]
        while len(self._under_way) > _UNDER_WAY_MAX:
            del self._under_way[next(iter(self._under_way))]
        return out

    def _due(self, now_ms: int, quiet: Callable[[AlertEvent], bool]) -> list[AlertEvent]:
        due = []
        for fingerprint, one in list(self._alerts.items()):
            if one.sent_ms and now_ms - one.sent_ms < RESEND_MS:
                continue
            resolved = one.event.state is AlertState.RESOLVED
            if one.last is None and (resolved or quiet(one.event)):
                if resolved:
                    del self._alerts[fingerprint]
                continue
            if one.event.state not in (*_LIVES, AlertState.RESOLVED):
                if one.last is None:
                    continue
                event = msgspec.structs.replace(one.event, state=AlertState.FIRING)  # suppressed after it was begun
            else:
                event = one.event
            due += self._changed_labels(one, event)
            due.append(event)
            one.last, one.sent_ms = event, now_ms
            if resolved:
                one.ended_ms = one.ended_ms or now_ms
                if now_ms - one.ended_ms >= RESOLVED_RESEND_MS:
                    del self._alerts[fingerprint]
        return due

    def confirm(self, key: str, *, delivered: bool) -> None:
        """A message arrived, or was given up: then whose end is being told is told for as long again."""
        for fingerprint in self._under_way.pop(key, ()):
            if not delivered and fingerprint in self._alerts:
                self._alerts[fingerprint].ended_ms = 0

    def snapshot(self) -> ResendState:
        """What is open, and what has ended of late."""
        return self._alerts

    def restore(self, state: ResendState) -> None:
        """As it was when it was saved."""
        self._alerts = state

    def _changed_labels(self, one: Resent, event: AlertEvent) -> list[AlertEvent]:
        """The end of the alert under its old labels, if they changed (its severity did)."""
        if one.last is None or self._labels_of(one.last) == self._labels_of(event):
            return []
        return [msgspec.structs.replace(one.last, state=AlertState.RESOLVED, at_ms=event.at_ms)]
