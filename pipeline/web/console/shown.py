"""How numbers and times are written for people, and what is drawn without a script. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

NOTHING = "–"
SPARK_WIDTH, SPARK_HEIGHT = 120, 32


def count(value: float | None) -> str:
    """12,345; 1.23 M."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f}"


def confidence(value: float | None) -> str:
    """0.871."""
    return NOTHING if value is None else f"{value:.3f}"


def milliseconds(value: float | None) -> str:
    """43.2 ms; 1.25 s."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.3g} ms"


def percent(value: float | None) -> str:
    """A share: 12.3 %."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """A change of a share: +1.2 points."""
    return NOTHING if value is None else f"{100 * value:+.1f} pts"


def change(value: float | None) -> str:
    """▲ 12.3 %."""
    if value is None:
        return ""
    arrow = "▲" if value >= 0.05 else "▼" if value <= -0.05 else "="
    return f"{arrow} {abs(value):,.1f} %"


def moment(text: str | None) -> str:
    """28 Nov 14:02:10."""
    at = _read(text)
    return NOTHING if at is None else f"{at:%-d %b %H:%M:%S}"


def ago(text: str | None, now_ms: int) -> str:
    """3 minutes ago."""
    at = _read(text)
    if at is None:
        return "never"
    seconds = max(0, now_ms // 1000 - int(at.timestamp()))
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            found = seconds // size
            return f"{found} {unit}{'s' if found > 1 else ''} ago"
    return "just now"


def for_input(text: str) -> str:
    """A time as a field of a form takes it."""
    at = _read(text)
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M}"


def data(value: object) -> str:
    """JSON for a script of ours; an attribute holds it."""
    return orjson.dumps(value).decode()


def spark(values: Sequence[float | None]) -> list[str]:
    """The points of lines through what is there; where nothing is, there is no line."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    scale, step = (high - low) or 1.0, SPARK_WIDTH / max(1, len(values) - 1)
    lines: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        part = (value - low) / scale if high > low else 0.5
        lines[-1].append(f"{number * step:.1f},{SPARK_HEIGHT - 3 - part * (SPARK_HEIGHT - 6):.1f}")
    return [" ".join(line if len(line) > 1 else line * 2) for line in lines if line]


def _read(text: str | None) -> datetime | None:
    if not text:
        return None
    if text.isdigit():
        return datetime.fromtimestamp(int(text[:13]) / 1000, UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


FILTERS: dict[str, Any] = {
    "count": count,
    "confidence": confidence,
    "ms": milliseconds,
    "percent": percent,
    "points": points,
    "change": change,
    "moment": moment,
    "ago": ago,
    "for_input": for_input,
    "data": data,
    "spark": spark,
}
