"""Alerts over HTTP. What is open now is followed from Kafka, also while ClickHouse is away; what was is asked there."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Meta

from pipeline.core.alerting.told import objection
from pipeline.core.asking.alerts import alert_filter, alerts_judge
from pipeline.core.condition import WATCHDOG
from pipeline.edge.store.queries.alerts import EpisodeOf, EpisodePlace, episodes, steps
from pipeline.web.access.book import LOCAL
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.asked import Asked, get, post
from pipeline.web.query.changes import change, read
from pipeline.web.query.moments import MS_MAX, asked_ms, told
from pipeline.web.query.plain import Plain
from schemas import silence as silence_schema
from schemas.alert import AlertEvent
from schemas.silence import Acknowledgement, Says

OPEN_MAX = 1000  # told at once
STEPS_MAX = 1000  # of an episode
LIMIT_MAX = 500
DAY_MS = 86_400_000

AlertFilter = Annotated[
    str, QueryParameter(name="filter", max_length=4000, description="severity:critical model:helmets")
]


class AlertTold(msgspec.Struct, frozen=True, kw_only=True):
    """How an episode of an alert stands. Its name is `fingerprint` and `episode`."""

    fingerprint: str
    episode: int
    state: str
    severity: str
    kind: str
    metric: str
    workspace: str
    starts_at: str
    at: str  # of its last step
    fired_at: str | None = None  # null: nobody was told, or it is not known here
    rule_id: str | None = None
    model_id: str | None = None
    device_id: str | None = None
    class_name: str | None = msgspec.field(name="class", default=None)
    value: float | None = None
    expected: float | None = None
    threshold: float | None = None
    labels: dict[str, str] = {}
    summary: str = ""
    acknowledged_by: str | None = None
    comment: str | None = None  # of who acknowledged it
    silenced_by: str | None = None  # id of the silence
    silenced_until: str | None = None


class AlertList(msgspec.Struct, frozen=True):
    """Alerts, the newest first."""

    items: list[AlertTold]
    next: str | None = None


class AlertStep(msgspec.Struct, frozen=True):
    """One step in the life of an alert."""

    sequence: int
    at: str
    state: str
    severity: str
    value: float | None
    summary: str
    evidence: dict[str, Any]


class AlertHistory(msgspec.Struct, frozen=True):
    """One episode with its steps."""

    alert: AlertTold
    steps: list[AlertStep]


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody says of an alert. `author`: whom a key speaks for; a person speaks for themselves."""

    comment: Annotated[str, Meta(max_length=10_000)] = ""
    author: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    episode: Annotated[int, Meta(ge=0, le=MS_MAX)] | None = None  # null: the newest


class WordTaken(msgspec.Struct, frozen=True):
    """What was said; the detector takes it in within a second or two."""

    fingerprint: str
    episode: int
    says: str
    author: str
    at: str


@get(May.QUERY, "/alerts")
async def open_alerts(asked: Asked, of: AlertFilter = "") -> AlertList:
    """What is wrong now, the newest first; at most 1000."""
    judge = alerts_judge(alert_filter(of))
    found = [step for step in await open_in(asked) if judge(step)]
    return AlertList([alert_told(asked, step) for step in found[:OPEN_MAX]])


@get(May.QUERY, "/alerts/history")
async def past_alerts(
    asked: Asked,
    of: AlertFilter = "",
    from_: Annotated[str | None, QueryParameter(name="from", description="default: 7 days before `to`")] = None,
    to: str | None = None,
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)] = 50,
    cursor: Annotated[str | None, QueryParameter(max_length=100)] = None,
) -> AlertList:
    """Episodes that began in that time, open or over, the newest first."""
    to_ms = asked.clock.now_ms() if to is None else asked_ms("to", to)
    from_ms = max(0, to_ms - 7 * DAY_MS) if from_ is None else asked_ms("from", from_)
    after = None if cursor is None else _place(cursor)
    store = Plain(asked.questions, asked.workspace)
    found = await episodes(store, asked.workspace, alert_filter(of), from_ms, to_ms, after, limit + 1)
    page = found[:limit]
    following = f"{page[-1].last.starts_at_ms}-{page[-1].last.fingerprint}" if len(found) > limit else None
    return AlertList([_episode_told(asked, one) for one in page], following)


@get(May.QUERY, "/alerts/{fingerprint:str}")
async def one_alert(
    asked: Asked, fingerprint: str, episode: Annotated[int | None, QueryParameter(ge=0, le=MS_MAX)] = None
) -> AlertHistory:
    """One episode with its steps; the newest one unless told otherwise."""
    found = await steps(Plain(asked.questions, asked.workspace), asked.workspace, fingerprint, episode, STEPS_MAX)
    known = asked.board.alerts.alerts.steps.get(fingerprint)
    if known is not None and known.workspace == asked.workspace and episode in (None, known.episode):
        # The log is ahead of the table.
        if not found or known.episode > found[-1].episode:
            found = [known]
        elif known.sequence > found[-1].sequence:
            found.append(known)
    if not found:
        raise Refused(404, "no_such_alert", "there is no such alert in this workspace")
    fired = next((step.at_ms for step in found if step.state.value == "firing"), None)
    return AlertHistory(alert_told(asked, found[-1], fired), [_step_told(step) for step in found])


@post(May.OPERATE, "/alerts/{fingerprint:str}/ack", status_code=202)
async def acknowledge(asked: Asked, fingerprint: str, data: Word) -> WordTaken:
    """Take an alert: nobody is told again in this episode unless it gets worse."""
    return await _say(asked, fingerprint, "taken", data)


@post(May.OPERATE, "/alerts/{fingerprint:str}/unack", status_code=202)
async def give_back(asked: Asked, fingerprint: str, data: Word) -> WordTaken:
    """Give an acknowledged alert back: people are told again while it fires."""
    return await _say(asked, fingerprint, "free", data)


@post(May.OPERATE, "/alerts/{fingerprint:str}/accept", status_code=202)
async def accept(asked: Asked, fingerprint: str, data: Word) -> WordTaken:
    """Say of an anomaly that this is normal from now on: it is learned."""
    return await _say(asked, fingerprint, "normal", data)


@post(May.OPERATE, "/alerts/{fingerprint:str}/resolve", status_code=202)
async def resolve(asked: Asked, fingerprint: str, data: Word) -> WordTaken:
    """End an alert by hand. If it is still wrong, the next look begins another."""
    return await _say(asked, fingerprint, "over", data)


def alert_told(asked: Asked, step: AlertEvent, fired_ms: int | None = None) -> AlertTold:
    """How it stands, who has taken it, and who keeps it quiet."""
    is_over = step.state.value == "resolved"
    taken = asked.board.acknowledgement(step)
    quiet = None if is_over else asked.board.muting(step, asked.clock.now_ms())
    return AlertTold(
        fingerprint=step.fingerprint,
        episode=step.episode,
        state=step.state.value,
        severity=step.severity.value,
        kind=step.kind.value,
        metric=step.metric,
        workspace=step.workspace,
        starts_at=told(step.starts_at_ms),
        at=told(step.at_ms),
        fired_at=None if fired_ms is None else told(fired_ms),
        rule_id=step.rule_id,
        model_id=step.model_id,
        device_id=step.device_id,
        class_name=step.class_name,
        value=step.value,
        expected=step.expected,
        threshold=step.threshold,
        labels=step.labels,
        summary=step.summary,
        acknowledged_by=None if taken is None else taken.author,
        comment=None if taken is None else taken.comment,
        silenced_by=None if quiet is None else quiet.id,
        silenced_until=None if quiet is None else told(min(quiet.ends_at_ms, MS_MAX)),
    )


async def open_in(asked: Asked) -> list[AlertEvent]:
    """What is open in the workspace, the newest first. Raises Refused (503)."""
    await read(asked.board.alerts)
    found = asked.board.alerts.alerts.open
    return [step for step in found if step.workspace == asked.workspace and step.metric != WATCHDOG]


def author_of(asked: Asked, author: str | None) -> str:
    """A person speaks for themselves; a key for whom it says, and is named."""
    name = asked.who.name
    is_key = name == LOCAL or name.startswith("key/")
    return f"{author} ({name})" if author and is_key else name.removeprefix("user/")


def _episode_told(asked: Asked, one: EpisodeOf) -> AlertTold:
    return alert_told(asked, one.last, one.fired_at_ms)


def _step_told(step: AlertEvent) -> AlertStep:
    return AlertStep(
        step.sequence, told(step.at_ms), step.state.value, step.severity.value, step.value, step.summary, step.evidence
    )


def _place(cursor: str) -> EpisodePlace:
    starts_ms, dash, fingerprint = cursor.partition("-")
    if not dash or not starts_ms.isdecimal() or len(starts_ms) > 15:
        raise Refused(400, "bad_cursor", "that is no cursor of ours: send back what `next` said")
    return EpisodePlace(int(starts_ms), fingerprint)


async def _say(asked: Asked, fingerprint: str, says: Says, word: Word) -> WordTaken:
    """Puts what a person says of an episode where the detector hears it. Raises Refused (404, 409)."""
    await read(asked.board.silences)
    await read(asked.board.alerts)
    step = asked.board.alerts.alerts.steps.get(fingerprint)
    if step is None or step.workspace != asked.workspace or word.episode not in (None, step.episode):
        raise Refused(404, "no_such_alert", "there is no such alert in this workspace")
    if why := objection(says, step, asked.board.acknowledgement(step)):
        raise Refused(409, "not_now", f"this alert {why}")
    said = Acknowledgement(
        id=silence_schema.acknowledgement_id(step.fingerprint, step.episode),
        author=author_of(asked, word.author),
        at_ms=asked.clock.now_ms(),
        comment=word.comment,
        says=says,
    )
    await change(asked.board.silences, said.id, silence_schema.encode(said), asked.board.silences.all.get(said.id))
    return WordTaken(step.fingerprint, step.episode, says, said.author, told(said.at_ms))


ROUTES: Sequence[HTTPRouteHandler] = (
    open_alerts, past_alerts, one_alert, acknowledge, give_back, accept, resolve,
)  # fmt: skip
