"""Silences over HTTP. One made here keeps quiet its own workspace only: it gets a matcher that says so."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pipeline.core.notifying.muting import mistakes, preview
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.alerts import AlertTold, alert_told, author_of, open_in
from pipeline.web.query.asked import Asked, delete, get, post
from pipeline.web.query.changes import change, no_mistakes, read
from pipeline.web.query.moments import asked_ms, told
from schemas import silence as silence_schema
from schemas.rejection import Rejected
from schemas.silence import Matcher, Silence

SILENCES_MAX = 5000  # of the installation; the notifier forgets those beyond 10,000
FOR_S_MAX = 366 * 86_400
HITS_MAX = 200  # shown


class NewSilence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be quiet (all matchers must hold), from when until when. Either `for_s` or `ends_at`."""

    matchers: Annotated[list[Matcher], Meta(min_length=1, max_length=49)]
    for_s: Annotated[int, Meta(ge=1, le=FOR_S_MAX)] | None = None
    ends_at: str | None = None
    starts_at: str | None = None  # null: now
    kind: Literal["silence", "maintenance"] = "silence"
    comment: Annotated[str, Meta(max_length=10_000)] = ""
    author: Annotated[str, Meta(min_length=1, max_length=200)] | None = None  # whom a key speaks for
    dry_run: bool = False  # say what it would hit now, and change nothing


class SilenceTold(msgspec.Struct, frozen=True):
    """A silence or a maintenance window."""

    id: str
    kind: str
    matchers: list[Matcher]
    starts_at: str
    ends_at: str
    author: str
    comment: str


class SilenceList(msgspec.Struct, frozen=True):
    """Those of a workspace, the one that ends first first."""

    items: list[SilenceTold]
    next: None = None


class SilenceMade(msgspec.Struct, frozen=True):
    """The silence, and which alerts that are open now it keeps quiet while it lasts."""

    silence: SilenceTold
    made: bool  # false: it was a dry run
    hit_count: int
    hits: list[AlertTold]  # the first 200


@get(May.QUERY, "/silences")
async def list_silences(asked: Asked, over: bool = False) -> SilenceList:
    """Silences and maintenance windows that are on or to come; with `over=true` those too that have ended."""
    await read(asked.board.silences)
    now_ms = asked.clock.now_ms()
    mine = [one for one in _all(asked) if _is_of(one, asked.workspace) and (over or one.ends_at_ms > now_ms)]
    return SilenceList([_told(one) for one in sorted(mine, key=lambda one: (one.ends_at_ms, one.id))])


@post(May.OPERATE, "/silences", status_code=201)
async def make_silence(asked: Asked, data: NewSilence) -> SilenceMade:
    """Keep alerts quiet for a while; says which open ones that are."""
    silence = _silence(asked, data)
    hits = preview(silence, await open_in(asked))
    if not data.dry_run:
        await read(asked.board.silences)
        if len([one for one in _all(asked) if one.ends_at_ms > asked.clock.now_ms()]) >= SILENCES_MAX:
            raise Refused(409, "too_many", f"there are {SILENCES_MAX:,} silences already")
        await change(asked.board.silences, silence.id, silence_schema.encode(silence), None)
    told_of = [alert_told(asked, step) for step in hits[:HITS_MAX]]
    return SilenceMade(_told(silence), not data.dry_run, len(hits), told_of)


@delete(May.OPERATE, "/silences/{silence_id:str}")
async def end_silence(asked: Asked, silence_id: str) -> None:
    """End a silence or a maintenance window now."""
    await read(asked.board.silences)
    kept = asked.board.silences.all.get(silence_id)
    if kept is None or not isinstance(kept.value, Silence) or not _is_of(kept.value, asked.workspace):
        raise Refused(404, "no_such_silence", "there is no such silence in this workspace")
    await change(asked.board.silences, silence_id, None, kept)


def _all(asked: Asked) -> list[Silence]:
    return [kept.value for kept in asked.board.silences.all.values() if isinstance(kept.value, Silence)]


def _is_of(silence: Silence, workspace: str) -> bool:
    """Whether it can hit alerts of this workspace only."""
    return _of(workspace) in silence.matchers


def _of(workspace: str) -> Matcher:
    return Matcher("workspace", workspace)


def _silence(asked: Asked, data: NewSilence) -> Silence:
    """Raises Refused with every mistake."""
    now_ms = asked.clock.now_ms()
    starts_ms = now_ms if data.starts_at is None else asked_ms("starts_at", data.starts_at)
    if (data.for_s is None) == (data.ends_at is None):
        raise Refused(422, "invalid", "say either for_s or ends_at")
    ends_ms = starts_ms + data.for_s * 1000 if data.for_s is not None else asked_ms("ends_at", data.ends_at or "")
    matchers = [one for one in data.matchers if one != _of(asked.workspace)]
    silence = Silence(
        id=f"{data.kind}-{uuid.uuid4().hex[:12]}",
        matchers=[*matchers, _of(asked.workspace)],
        starts_at_ms=starts_ms,
        ends_at_ms=ends_ms,
        author=author_of(asked, data.author),
        kind=data.kind,
        comment=data.comment,
    )
    wrong = mistakes(silence)
    decoded = silence_schema.decode(silence_schema.encode(silence))
    if not wrong and isinstance(decoded, Rejected):  # what the readers of the topic would refuse
        wrong = [f"{decoded.field}: {decoded.reason.value}"]
    if not wrong and ends_ms <= now_ms:
        wrong = ["ends_at: it would be over already"]
    no_mistakes(wrong, "the silence")
    return silence


def _told(one: Silence) -> SilenceTold:
    return SilenceTold(
        one.id, one.kind, one.matchers, told(one.starts_at_ms), told(one.ends_at_ms), one.author, one.comment
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_silences, make_silence, end_silence)
