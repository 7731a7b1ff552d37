"""Tumbling windows of event time, half-open: [start_ms, start_ms + WINDOW_MS)."""

from collections.abc import Sequence

from schemas.windows import WINDOW_MS as WINDOW_MS


def window_start(time_ms: int) -> int:
    """Start of the window that `time_ms` falls into."""
    return time_ms - time_ms % WINDOW_MS


def closed_through(log_time_ms: int, lateness_ms: int) -> int:
    """The end of the last window that is closed once the log's time is `log_time_ms`."""
    return window_start(log_time_ms - lateness_ms)


class LogClock:
    """The time of one partition's log: its newest broker timestamp, and the wall clock's once there is no more.

    It only says when windows close, never what is in them. A device with a wrong clock moves nobody's windows.
    """

    IDLE_MS = 1000  # how long the end of the log must have been quiet

    def __init__(self) -> None:
        self._newest_ms = 0

    def observe(self, times_ms: Sequence[int], create_time: bool, now_ms: int) -> None:
        """Timestamps of records, in log order. Those of producers (`create_time`) are taken with care."""
        # The median: one bad clock among many cannot run ahead, and no clock can run ahead of ours.
        newest_ms = min(sorted(times_ms)[len(times_ms) // 2], now_ms) if create_time else times_ms[-1]
        self._newest_ms = max(self._newest_ms, newest_ms)

    def time_ms(self, asked_ms: int, idle_ms: int) -> int:
        """The log's time, if its end, asked for at `asked_ms` of the wall clock, had been quiet for `idle_ms`."""
        return max(self._newest_ms, asked_ms - self.IDLE_MS) if idle_ms >= self.IDLE_MS else self._newest_ms
