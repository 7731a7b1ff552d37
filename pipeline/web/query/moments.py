"""Times at the door: RFC 3339 with milliseconds when we answer; that, or milliseconds since 1970, when we are asked."""

from datetime import UTC, datetime, timedelta

from pipeline.web.asgi import Refused

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
MS_MAX = 4_102_444_800_000  # the year 2100: what fits into every time of ClickHouse's


def told(at_ms: int) -> str:
    """2026-11-28T18:00:00.000Z."""
    return (_EPOCH + at_ms * _MS).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def asked_ms(name: str, text: str) -> int:
    """The milliseconds that a parameter says. Raises Refused."""
    try:
        if text.removeprefix("-").isdigit():
            at_ms = int(text[:20])
        else:
            at = datetime.fromisoformat(text)
            at_ms = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MS
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms <= MS_MAX:
        message = f"{name} is a time: 2026-11-28T18:00:00Z, or milliseconds since 1970"
        raise Refused(400, "bad_time", message)
    return at_ms
