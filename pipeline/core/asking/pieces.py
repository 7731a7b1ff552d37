"""A range of time as windows of several sizes: days where whole days lie in it, then hours, minutes, 10 s at its ends.

So a sum over a month reads some hundred windows of each series, and is exact to 10 s; to a minute or an hour where the
ends are so old that smaller windows are not kept any more. Half-open, in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.windows import SIZES, WindowSize

DAY_S = 86_400
Kept = Mapping[int, int | None]  # for how many days windows of so many seconds are kept; None: for ever
_STEPS = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, DAY_S)


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole windows of one size."""

    size: WindowSize
    start_s: int
    end_s: int


def pieces(start_s: int, end_s: int, now_s: int, kept: Kept) -> tuple[Piece, ...]:
    """In order of time, without gap or overlap; its ends are widened to whole windows that are still kept."""
    first, last = (finest(at_s, now_s, kept).seconds for at_s in (start_s, end_s))
    return tuple(_cover(_floor(start_s, first), _floor(end_s + last - 1, last), len(SIZES) - 1))


def finest(at_s: int, now_s: int, kept: Kept) -> WindowSize:
    """The smallest windows that are kept for so long."""
    # A day less: rows go by the day, and before we ask.
    return next(size for size in SIZES if (days := kept[size.seconds]) is None or now_s - at_s <= (days - 1) * DAY_S)


def _cover(start_s: int, end_s: int, level: int) -> list[Piece]:
    size = SIZES[level]
    first, last = _floor(start_s + size.seconds - 1, size.seconds), _floor(end_s, size.seconds)
    if first < last:
        inner = Piece(size, first, last)
        if level == 0:
            return [inner]
        return [*_cover(start_s, first, level - 1), inner, *_cover(last, end_s, level - 1)]
    return _cover(start_s, end_s, level - 1) if level else []


def points(start_s: int, end_s: int, points_max: int, now_s: int, kept: Kept) -> tuple[int, Piece]:
    """How far points are apart, and the windows that make them: of one size, whole points only. At most `points_max`,
    and two where a range lies across the border of two."""
    step_s = _step(max(finest(start_s, now_s, kept).seconds, -(-(end_s - start_s) // points_max)))
    while _floor(end_s + step_s - 1, step_s) - _floor(start_s, step_s) > max(2, points_max) * step_s:
        step_s = _step(step_s + 1)
    size = max((size for size in SIZES if step_s % size.seconds == 0), key=lambda size: size.seconds)
    return step_s, Piece(size, _floor(start_s, step_s), _floor(end_s + step_s - 1, step_s))


def _step(least_s: int) -> int:
    """The next one that people count by."""
    return next((step for step in _STEPS if step >= least_s), -(-least_s // DAY_S) * DAY_S)


def _floor(at_s: int, step_s: int) -> int:
    return at_s // step_s * step_s
