"""Dead letters over HTTP. Of a workspace are those that legibly say they are; the workspace "*" has all of them."""

import base64
from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Meta

from pipeline.edge.operator import dead_letters
from pipeline.edge.operator.dead_letters import NoSuchDeadLetterError
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.dead_letters import DeadLetter, LetterPlace, Selection, count_to_replay, find
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.asked import Asked, get, post
from pipeline.web.query.moments import asked_ms, told
from pipeline.web.query.plain import Plain, as_writer
from schemas.access import EVERY_WORKSPACE
from schemas.rejection import Reason
from schemas.topics import TOPICS

LIMIT_MAX, LIMIT_LONG_MAX = 500, 20
VALUE_BYTES_LONG = 2000  # of more than so many bytes each, fewer letters at once
REPLAY_MAX = 200  # at once


class LetterTold(msgspec.Struct, frozen=True):
    """A refused record: why, where it lies, and the beginning of its value."""

    topic: str
    partition: int
    offset: int
    at: str  # the broker's time
    reason: str
    field: str  # "": the record as a whole
    value_bytes: int
    key_base64: str
    value: str | None  # null: it is no text
    value_base64: str


class LetterList(msgspec.Struct, frozen=True):
    """Dead letters, the newest first."""

    items: list[LetterTold]
    next: str | None = None


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a dead letter lies."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: Annotated[int, Meta(ge=0, le=65_535)]
    offset: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class ReplayWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which to send to their topics again."""

    places: Annotated[list[Origin], Meta(min_length=1, max_length=REPLAY_MAX)]
    dry_run: bool = False


class ReplayResult(msgspec.Struct, frozen=True):
    """What became of them; each is sent once, whoever asks how often."""

    due: int  # found, and not sent again before
    sent: int
    gone: list[str] = []  # longer than 64 KiB, and no longer on the broker
    refused: list[str] = []  # by the broker


@get(May.QUERY, "/dead-letters")
async def list_letters(
    asked: Asked,
    reason: Reason | None = None,
    topic: Annotated[str | None, QueryParameter(max_length=249)] = None,
    from_: Annotated[str | None, QueryParameter(name="from")] = None,
    to: str | None = None,
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = 50,
    value_bytes: Annotated[int, QueryParameter(ge=0, le=65_536, description="of each value, so much")] = 200,
    cursor: Annotated[str | None, QueryParameter(max_length=400)] = None,
) -> LetterList:
    """Records that were refused, the newest first. `topic` with or without the prefix."""
    if value_bytes > VALUE_BYTES_LONG and limit > LIMIT_LONG_MAX:
        raise Refused(400, "too_much", f"of more than {VALUE_BYTES_LONG} bytes each, at most {LIMIT_LONG_MAX} at once")
    selection = Selection(
        reason=None if reason is None else reason.value,
        topic=None if topic is None else _full_name(asked, topic),
        since_ms=0 if from_ is None else asked_ms("from", from_),
        until_ms=None if to is None else asked_ms("to", to),
        workspace=_claimed(asked),
        limit=limit + 1,
    )
    after = None if cursor is None else _place(cursor)
    found = await find(Plain(asked.questions, asked.workspace), selection, value_bytes_max=value_bytes, after=after)
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return LetterList([_told(one) for one in page], None if last is None else f"{last.time_ms}/{last.place}")


@get(May.QUERY, "/dead-letters/{topic:str}/{partition:int}/{offset:int}")
async def one_letter(asked: Asked, topic: str, partition: int, offset: int) -> LetterTold:
    """One refused record with all of its value that can still be had."""
    if not (0 <= partition <= 65_535 and 0 <= offset < 1 << 63):
        raise Refused(404, "no_such_dead_letter", "there is no such dead letter")
    store = Plain(asked.questions, asked.workspace)
    try:
        found = await dead_letters.get(asked.kafka, store, [_full_name(asked, topic), topic], partition, offset)
    except NoSuchDeadLetterError as error:
        raise Refused(404, "no_such_dead_letter", str(error)) from None
    return _told(found)


@post(May.ADMIN, "/dead-letters/replay", status_code=200)
async def replay(asked: Asked, data: ReplayWanted) -> ReplayResult:
    """Send refused records to their topics again, after what refused them has been mended. Each is sent once."""
    places = [LetterPlace(_full_name(asked, one.topic), one.partition, one.offset) for one in data.places]
    selection = Selection(places=places, workspace=_claimed(asked))
    # It notes what was sent, which `query` may not.
    with as_writer("inferwatch dead-letters replay"):
        async with ClickHouse(asked.settings, "writer") as store:
            return await _replayed(asked, store, selection, dry_run=data.dry_run)


async def _replayed(asked: Asked, store: ClickHouse, selection: Selection, *, dry_run: bool) -> ReplayResult:
    due = (await count_to_replay(store, selection)).records
    if dry_run or not due:
        return ReplayResult(due, 0)
    outcome = await dead_letters.replay(asked.kafka, store, selection, lambda _: None)
    return ReplayResult(due, outcome.sent, outcome.gone, outcome.refused)


def _claimed(asked: Asked) -> str | None:
    return None if asked.workspace == EVERY_WORKSPACE else asked.workspace


def _full_name(asked: Asked, topic: str) -> str:
    return asked.settings.topic(topic) if topic in {one.name for one in TOPICS} else topic


def _place(cursor: str) -> tuple[int, LetterPlace]:
    time_ms, _, rest = cursor.partition("/")
    topic, _, numbers = rest.partition("/")
    partition, _, offset = numbers.partition("/")
    if (
        not all(text.isdecimal() and len(text) <= 18 for text in (time_ms, partition, offset))
        or int(partition) > 65_535
    ):
        raise Refused(400, "bad_cursor", "that is no cursor of ours: send back what `next` said")
    return int(time_ms), LetterPlace(topic, int(partition), int(offset))


def _told(one: DeadLetter) -> LetterTold:
    text: str | None
    try:
        text = one.value.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut in two.
        is_cut = one.value_bytes > len(one.value) and error.start >= len(one.value) - 3
        text = one.value[: error.start].decode() if is_cut else None
    return LetterTold(
        one.topic,
        one.partition,
        one.offset,
        told(one.time_ms),
        one.reason,
        one.field,
        one.value_bytes,
        base64.b64encode(one.key).decode(),
        text,
        base64.b64encode(one.value).decode(),
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_letters, one_letter, replay)
