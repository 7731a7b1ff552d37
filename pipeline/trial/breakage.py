"""Ways to break a good event, each with the reason for which the pipeline must refuse it."""

from dataclasses import dataclass

from schemas.rejection import RECORD_BYTES_MAX, Reason

HUGE_EVERY = 200  # one malformed event in so many is over 1 MiB: it costs as much as 2,000 good ones


@dataclass(frozen=True, slots=True)
class Way:
    """One way to break an event."""

    name: str
    reason: Reason


WAYS = (
    Way("cut off", Reason.NOT_JSON),
    Way("no event_id", Reason.MISSING_FIELD),
    Way("event_time_ms is true", Reason.WRONG_TYPE),
    Way("latency_ms below 0", Reason.OUT_OF_RANGE),
    Way("schema 2", Reason.UNKNOWN_SCHEMA),
    Way("not UTF-8", Reason.NOT_JSON),
    Way("empty", Reason.NOT_JSON),
    Way("null", Reason.NOT_JSON),
    Way("confidence above 1", Reason.OUT_OF_RANGE),
    Way("no model_id", Reason.MISSING_FIELD),
    Way("predictions is a number", Reason.WRONG_TYPE),
    Way("days ahead", Reason.OUT_OF_RANGE),
    Way("over 1 MiB", Reason.TOO_LARGE),
)
_HUGE = len(WAYS) - 1


def way_of_turn(turn: int) -> int:
    """Which way the malformed event number `turn` is broken: all in turn, the huge one rarely."""
    return _HUGE if turn % HUGE_EVERY == 9 else turn % _HUGE


def broken(way: Way, good: bytes, time_ms: int) -> bytes | None:
    """The event `good`, of `time_ms`, broken in this way. What was there stays, under a name that nobody knows."""
    match way.name:
        case "cut off":
            return good[:-20]
        case "no event_id":
            return good.replace(b'"event_id":', b'"was":', 1)
        case "event_time_ms is true":
            return good.replace(b'"event_time_ms":', b'"event_time_ms":true,"was":', 1)
        case "latency_ms below 0":
            return good.replace(b'"latency_ms":', b'"latency_ms":-1.5,"was":', 1)
        case "schema 2":
            return good.replace(b'"schema":1', b'"schema":2', 1)
        case "not UTF-8":
            return good.replace(b'"workspace":"', b'"workspace":"\xff\xfe', 1)
        case "empty":
            return b""
        case "null":
            return None
        case "confidence above 1":
            return good.replace(b'"predictions":', b'"predictions":[{"class":"ghost","confidence":1.5}],"was":', 1)
        case "no model_id":
            return good.replace(b'"model_id":', b'"was":', 1)
        case "predictions is a number":
            return good.replace(b'"predictions":', b'"predictions":7,"was":', 1)
        case "days ahead":  # also of a late event, which may be two days old
            return good.replace(b'"event_time_ms":', b'"event_time_ms":%d,"was":' % (time_ms + 4 * 86_400_000), 1)
        case "over 1 MiB":
            return good[:-1] + b',"padding":"' + b"x" * RECORD_BYTES_MAX + b'"}'
        case _:
            raise AssertionError(way.name)
