"""How long the notifier waits for what, and how much is too much."""

from dataclasses import dataclass

from pipeline.core.condition import WATCHDOG
from schemas.alert import AlertEvent


@dataclass(frozen=True, slots=True)
class NotifierPolicy:
    """How long to wait for what, and how much is too much."""

    group_wait_ms: int = 5000  # for what else has the same cause
    group_interval_ms: int = 60_000  # between messages about one group, unless it gets worse
    repeat_ms: int = 4 * 3_600_000
    watchdog_ms: int = 60_000  # between signs of life to a dead-man service
    storm_max: int = 20  # messages a minute to one recipient
    events_max: int = 100  # in one message
    alerts_max: int = 20_000
    outbox_max: int = 10_000

    def repeat_of(self, event: AlertEvent) -> int:
        """How long until it is told again."""
        return self.watchdog_ms if event.metric == WATCHDOG else self.repeat_ms
