"""Numbers and times in words for people: what many rooms write."""

import numpy as np

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def iso(time_ms: int) -> str:
    """A time for people: 2026-11-24T15:00:10Z, with milliseconds only if there are any."""
    seconds, rest = divmod(time_ms, 1000)
    return f"{np.datetime64(time_ms, 'ms') if rest else np.datetime64(seconds, 's')}Z"


def duration(seconds: float) -> str:
    """5 min, 90 s, 24 h: the largest unit that needs no fraction."""
    for size, unit in _UNITS:
        if seconds % size == 0 and (seconds >= 2 * size or seconds == size != 86_400):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
