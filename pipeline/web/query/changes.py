"""How records that people share are changed over HTTP: nobody overwrites what they have not seen.

Every record has a version (ETag). Whoever replaces one sends it back in If-Match; whoever makes one sends
If-None-Match: *. `If-Match: *` replaces whatever is there.
"""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from litestar.params import HeaderParameter

from pipeline.edge.kafka.shared import ChangedMeanwhile, NotReadYet
from pipeline.edge.operator.followed_alerts import FollowedAlerts
from pipeline.web.asgi import Refused
from pipeline.web.board.records import Kept, Records

T = TypeVar("T")
ANY = "*"
READ_S = 5.0
IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", description="the version that is to be replaced; * is any")
]
IfNoneMatch = Annotated[str | None, HeaderParameter(name="If-None-Match", description="*: only if there is none yet")]


def seen_by(kept: Kept[T] | None, if_match: str | None, if_none_match: str | None) -> Kept[T] | None:
    """What the caller has seen of the record. Raises Refused (412, 428) where that is not what it is."""
    if if_none_match is not None:
        if if_none_match.strip() != ANY:
            raise Refused(400, "bad_header", "If-None-Match: only * is understood")
        if kept is not None:
            raise Refused(412, "exists", "there is one already; to replace it, send its version in If-Match")
    if if_match is not None and if_match.strip() != ANY:
        if kept is None:
            raise Refused(412, "changed", "there is none any more")
        if if_match.strip().removeprefix("W/").strip('"') != kept.version:
            raise Refused(412, "changed", "it was changed since you looked: look again", more={"version": kept.version})
    elif if_match is not None and kept is None:
        raise Refused(412, "changed", "there is none to replace")
    if kept is not None and if_match is None and if_none_match is None:
        raise Refused(428, "version_needed", "there is one already; to replace it, send its version in If-Match")
    return kept


async def change(records: Records[T], key: str, raw: bytes | None, seen: Kept[T] | None) -> None:
    """Takes it in (None: out); it is there for everybody who asks this process now. Raises Refused."""
    try:
        await records.put(key, raw, seen)
    except ChangedMeanwhile:
        raise Refused(412, "changed", "somebody else was faster: look again") from None
    except NotReadYet as error:
        raise Refused(503, "not_ready", str(error), retry_after_s=1) from None


async def read(what: Records[Any] | FollowedAlerts) -> None:
    """Returns once it has been read to its end. Raises Refused (503) if that takes long: the process has just begun."""
    try:
        async with asyncio.timeout(READ_S):
            await what.ready.wait()
    except TimeoutError:
        raise Refused(503, "not_ready", "not all of it is read yet", retry_after_s=1) from None


def otherwise(given: Mapping[str, Any], named: Mapping[str, str]) -> list[str]:
    """Where a record says something else than its address."""
    return [f"{name}: the address says {value!r}" for name, value in named.items() if given[name] != value]


def no_mistakes(mistakes: list[str], what: str) -> None:
    """Raises Refused (422) with all of them: "field: what is wrong"."""
    if mistakes:
        found: list[dict[str, Any]] = []
        for one in mistakes:
            field, colon, why = one.partition(": ")
            found.append({"field": field if colon else "", "why": why if colon else one})
        raise Refused(422, "invalid", f"{what} has mistakes: " + "; ".join(mistakes), more={"mistakes": found})
