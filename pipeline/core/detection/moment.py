"""Where a window stands in the day and in the week (UTC)."""

from dataclasses import dataclass

from pipeline.core.windows.log_clock import WINDOW_MS

WINDOWS_PER_HOUR = 3_600_000 // WINDOW_MS
WINDOWS_PER_DAY = 24 * WINDOWS_PER_HOUR
HOURS_PER_WEEK = 168
SLOTS = 96  # of a day
SLOT_WINDOWS = WINDOWS_PER_DAY // SLOTS
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class Moment:
    """A window's place: its slot of the day, the two slots it lies between, and weekday (0) or weekend (1)."""

    index: int  # windows since 1970
    slot: int
    left: int  # the slot whose middle is at or before the middle of the window
    right: int
    fraction: float  # of the way from the middle of `left` to that of `right`
    day_type: int

    @classmethod
    def of(cls, index: int) -> "Moment":
        """The place of the window with this number."""
        of_day = index % WINDOWS_PER_DAY
        place = (of_day + 0.5) / SLOT_WINDOWS - 0.5
        left = int(place // 1)
        weekday = (index // WINDOWS_PER_DAY + _EPOCH_WEEKDAY) % 7
        return cls(index, of_day // SLOT_WINDOWS, left % SLOTS, (left + 1) % SLOTS, place - left, int(weekday >= 5))

    @property
    def ends_hour(self) -> bool:
        """Whether this is the last window of an hour."""
        return self.index % WINDOWS_PER_HOUR == WINDOWS_PER_HOUR - 1
