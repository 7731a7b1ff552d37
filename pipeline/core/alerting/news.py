"""Steps of alerts on their way to inference.alerts, and which of them are news.

At its very first start a detector reads the whole log to learn what is normal. What happened then is history. Once it
has come to where the log ended, it tells what is still open, and what happened in the last minutes; from then on all.
"""

from collections.abc import Sequence

import msgspec

from schemas.alert import AlertEvent, AlertState


class NewsState(msgspec.Struct):
    """What is saved of it."""

    history_until: int = 0
    since_ms: int = 0
    untold: list[AlertEvent] = []


class News:
    """What is to be told, in order. It is saved together with the state that it came of."""

    def __init__(self, history_until: int = 0, since_ms: int = 0) -> None:
        """Records of offsets before `history_until` are history; of them, steps since `since_ms` are told too."""
        self._state = NewsState(history_until, since_ms)

    def add(self, events: Sequence[AlertEvent]) -> None:
        """Steps that were taken."""
        state = self._state
        state.untold += events
        if state.history_until:
            ends = (event for event in events if event.state is AlertState.RESOLVED)
            old = {_episode(event) for event in ends if event.at_ms < state.since_ms}
            state.untold = [event for event in state.untold if _episode(event) not in old] if old else state.untold

    def ready(self, next_offset: int) -> Sequence[AlertEvent]:
        """What is to be told now that all records before `next_offset` were observed."""
        if next_offset < self._state.history_until:
            return ()
        self._state.history_until = 0
        return tuple(self._state.untold)

    def told(self) -> None:
        """All that was ready was told."""
        self._state.untold = []

    def snapshot(self) -> NewsState:
        """What to save."""
        return self._state

    @classmethod
    def restore(cls, state: NewsState) -> "News":
        """As it was when it was saved."""
        news = cls()
        news._state = state
        return news


def _episode(event: AlertEvent) -> tuple[str, int]:
    return event.fingerprint, event.episode
