"""Steps of alerts on their way to inference.alerts, and which of them are news.

At its very first start a detector reads the whole log to learn what is normal. What happened then is history. Once it
has come to where the log ended, it tells what is still open, and what happened in the last minutes; from then on all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.alert import AlertEvent, AlertState


class News:
    """What is to be told, in order. It is saved together with the state that it came of."""

    def __init__(self, history_until: int = 0, since_ms: int = 0) -> None:
        """Records of offsets before `history_until` are history; of them, steps since `since_ms` are told too."""
        self._history_until, self._since_ms = history_until, since_ms
        self._untold: list[AlertEvent] = []

    def add(self, events: Sequence[AlertEvent]) -> None:
        """Steps that were taken."""
        self._untold += events
        if self._history_until:
            ends = (event for event in events if event.state is AlertState.RESOLVED)
            old = {_episode(event) for event in ends if event.at_ms < self._since_ms}
            self._untold = [event for event in self._untold if _episode(event) not in old] if old else self._untold

    def ready(self, next_offset: int) -> Sequence[AlertEvent]:
        """What is to be told now that all records before `next_offset` were observed."""
        if next_offset < self._history_until:
            return ()
        self._history_until = 0
        return tuple(self._untold)

    def told(self) -> None:
        """All that was ready was told."""
        self._untold = []

    def snapshot(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "history_until": self._history_until,
            "since_ms": self._since_ms,
            "untold": msgspec.to_builtins(self._untold),
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> "News":
        """As it was when it was saved."""
        news = cls(saved["history_until"], saved["since_ms"])
        news._untold = msgspec.convert(saved["untold"], list[AlertEvent])
        return news


def _episode(event: AlertEvent) -> tuple[str, int]:
    return event.fingerprint, event.episode
