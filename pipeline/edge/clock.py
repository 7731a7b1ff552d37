"""The one place that reads the wall clock. Workers are given theirs; who works for one person reads it here."""

import time
from typing import Protocol


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """What a worker knows of time: the system's, or the simulator's."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class SystemClock:
    """This machine's."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return now_ms()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()
