"""A monitor for tests of programs that use one: keeps what would have been sent."""

from __future__ import annotations

import json
from typing import Any

from inferwatch.monitor import Monitor
from inferwatch.transport import Answer


class Recorded:
    """A transport that keeps events; `events` and `heartbeats` as dictionaries, in order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.dropped = 0

    def send(self, kind: str, events: list[bytes], key: str, dropped: int) -> Answer:
        """Takes everything."""
        self.dropped += dropped
        kept = self.events if kind == "events" else self.heartbeats
        kept.extend(json.loads(event) for event in events)
        return Answer()

    def close(self) -> None:
        """Nothing is open."""


def testing(**options: Any) -> tuple[Monitor, Recorded]:
    """A monitor and what it has sent: call `monitor.flush()` before looking."""
    recorded = Recorded()
    return Monitor(transport=recorded, **{"heartbeat_s": None, "batch_s": 0.01, **options}), recorded
