"""The time that a question is about: [from, to), with defaults where it is not said."""

from typing import NamedTuple

from pipeline.web.asgi import Refused
from pipeline.web.query.moments import asked_ms

DAY_MS = 86_400_000


class Period(NamedTuple):
    """From start to end, which does not belong to it."""

    start_ms: int
    end_ms: int


def period(now_ms: int, from_: str, to: str, without: Period | None = None, prefix: str = "") -> Period:
    """What two parameters say; one that says nothing is as in `without`, or makes it the last day. Raises Refused."""
    end_ms = asked_ms(f"{prefix}to", to) if to else without.end_ms if without else now_ms
    start_ms = asked_ms(f"{prefix}from", from_) if from_ else without.start_ms if without else max(0, end_ms - DAY_MS)
    if start_ms >= end_ms:
        raise Refused(400, "bad_time", f"{prefix}from must be before {prefix}to")
    return Period(start_ms, end_ms)
