"""The alerts as they stand: the newest step of each episode. An episode has its beginning and its end told, or neither.

An alert that ended and began again between two turns has two episodes here, until nobody is to be told of the first.
"""

from collections.abc import Iterator
from enum import Enum

import msgspec

from pipeline.core.notifying.routing import is_inhibited, is_source
from schemas.alert import SUMMARY_LENGTH_MAX, AlertEvent, AlertState

KEEP_RESOLVED_MS = 86_400_000  # so long is a repetition of an old step recognised


class Lost(Enum):
    """What nobody was told of. A closed set: it labels metrics."""

    ALERT = "alert"  # open, and beyond what is kept
    NOTIFICATION = "notification"  # beyond what the outbox holds
    SILENCE = "silence"  # beyond what is kept, or with a pattern that may not be used


def key_of(event: AlertEvent) -> str:
    """The name of an episode."""
    return f"{event.fingerprint}/{event.episode}"


class Episodes:
    """A machine: steps of alerts in, how each episode stands out."""

    def __init__(self, alerts_max: int) -> None:
        """Knows nothing yet."""
        self._alerts_max = alerts_max
        self._events: dict[str, AlertEvent] = {}  # least recently changed first
        self._newest: dict[str, str] = {}  # by fingerprint: the episode that is not superseded
        self._sources: dict[str, AlertEvent] = {}  # open ones that make others superfluous
        self._fell_silent = False

    def __getitem__(self, key: str) -> AlertEvent:
        return self._events[key]

    def observe(self, event: AlertEvent) -> list[AlertEvent]:
        """Takes in a step: the steps that are news. Of an episode whose end was never seen, its successor says so."""
        before = self._events.get(self._newest.get(event.fingerprint, ""))
        steps = [event]
        if before is not None:
            if (event.episode, event.sequence) <= (before.episode, before.sequence):
                return []
            if event.episode != before.episode and before.state is not AlertState.RESOLVED:
                text = f"began anew; before: {before.summary}"
                steps = [_ended(before, event.starts_at_ms, text), event]
        for step in steps:
            key = key_of(step)
            self._events.pop(key, None)
            self._events[key] = step
            self._newest[step.fingerprint] = key
            if is_source(step):
                self._sources[key] = step
            elif self._sources.pop(key, None):
                self._fell_silent = True
        return steps

    def fell_silent(self) -> bool:
        """Whether one that spoke for others does not any more, since the last time."""
        fell, self._fell_silent = self._fell_silent, False
        return fell

    def newest(self, fingerprint: str) -> str | None:
        """The episode of an alert that is not superseded."""
        return self._newest.get(fingerprint)

    def is_inhibited(self, event: AlertEvent) -> bool:
        """Whether another open alert says it already."""
        return is_inhibited(event, self._sources)

    def is_superseded(self, key: str) -> bool:
        """Whether its alert has begun anew."""
        return self._newest.get(self._events[key].fingerprint) != key

    def forget_old(self, now_ms: int) -> Iterator[tuple[str, bool]]:
        """Keeps memory bounded: episodes that are forgotten, and whether too early. First what ended, and long ago."""
        while self._events:
            key, event = next(iter(self._events.items()))
            full = len(self._events) > self._alerts_max
            old = event.state is AlertState.RESOLVED and event.at_ms < now_ms - KEEP_RESOLVED_MS
            if not full and not old:
                return
            self._forget(key)
            yield key, full and not old

    def dropped(self, key: str) -> None:
        """Nobody is to be told of it any more. The newest of its alert is kept: it tells what is a repetition."""
        if key in self._events and self.is_superseded(key):
            self._forget(key)

    def snapshot(self) -> list[AlertEvent]:
        """All of them."""
        return list(self._events.values())

    def restore(self, state: list[AlertEvent]) -> None:
        """As it was when it was saved."""
        self._events = {key_of(event): event for event in state}
        self._sources = {key: event for key, event in self._events.items() if is_source(event)}
        by_age = sorted(self._events.items(), key=lambda item: item[1].episode)
        self._newest = {event.fingerprint: key for key, event in by_age}

    def _forget(self, key: str) -> None:
        event = self._events.pop(key)
        self._sources.pop(key, None)
        if self._newest.get(event.fingerprint) == key:
            del self._newest[event.fingerprint]


def _ended(event: AlertEvent, at_ms: int, summary: str) -> AlertEvent:
    return msgspec.structs.replace(
        event,
        state=AlertState.RESOLVED,
        previous_state=event.state,
        sequence=event.sequence + 1,
        at_ms=at_ms,
        summary=summary[:SUMMARY_LENGTH_MAX],
    )
