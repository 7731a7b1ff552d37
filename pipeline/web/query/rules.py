"""Rules over HTTP: what `inferwatch rules` does, for one workspace. Those of another are not there.

Recipients may hold keys: who may not change rules sees only what kind each is.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from pipeline.core.history.firings import Firing, firing_s, firings, warnings
from pipeline.core.notifying.recipients import named, redacted
from pipeline.core.notifying.routing import each_address
from pipeline.core.span import Span
from pipeline.core.words import shown
from pipeline.edge.notification import addressing
from pipeline.edge.notification.outcome import Sent
from pipeline.edge.notification.rehearsal import rehearse
from pipeline.edge.operator.history import STEP_S, ClickHouseHistory, HistoryError
from pipeline.edge.operator.would_fire import Tried, would_fire
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.board.records import Kept
from pipeline.web.query.asked import Asked, delete, get, post, put
from pipeline.web.query.changes import IfMatch, IfNoneMatch, change, no_mistakes, otherwise, read, seen_by
from pipeline.web.query.moments import told
from pipeline.web.query.plain import Plain
from schemas import rule as rule_schema
from schemas.rule import Rule

RULES_MAX = 10_000  # of the installation
DAYS_MAX = 31
TRY_S = 20.0  # for one trial
FIRINGS_MAX = 500  # told of one trial
ROWS_AT_ONCE = 50_000  # of history: what is in memory, and holds up everybody else for a moment


class VersionedRule(msgspec.Struct, frozen=True):
    """A rule, and the version to change it by."""

    version: str
    rule: Rule


class RuleList(msgspec.Struct, frozen=True):
    """All of a workspace."""

    items: list[VersionedRule]
    next: None = None


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule that may or may not be in force, and over how many days it is to be tried."""

    rule: dict[str, Any]
    days: Annotated[float, Meta(gt=0, le=DAYS_MAX)] = 7


class WouldHaveFired(msgspec.Struct, frozen=True):
    """One time."""

    fingerprint: str
    fired_at: str
    ended_at: str | None  # null: it fires to the end of the time
    lasted_s: int
    severity: str
    model_id: str | None
    device_id: str | None
    class_name: str | None = msgspec.field(name="class")
    value: float | None
    summary: str


class TrialResult(msgspec.Struct, frozen=True):
    """When the rule would have fired. `whole`: all of the time was looked at, not only up to `until`."""

    since: str
    until: str
    whole: bool
    windows: int  # rows that were looked at
    fired: int
    fired_per_day: float
    firing_s: int  # of the time, at least one of them
    warnings: list[str]  # why people would stop listening
    firings: list[WouldHaveFired]  # the first 500


class Reached(msgspec.Struct, frozen=True):
    """What became of a test message."""

    recipient: str
    sent: bool
    message: str = ""


class RehearsalResult(msgspec.Struct, frozen=True):
    """To each recipient."""

    recipients: list[Reached]


_trials, _rehearsals = asyncio.Semaphore(1), asyncio.Semaphore(1)


@get(May.QUERY, "/rules")
async def list_rules(asked: Asked) -> RuleList:
    """Every rule of the workspace, by id."""
    await read(asked.board.rules)
    found = [kept for _, kept in sorted(asked.board.rules.all.items()) if kept.value.workspace == asked.workspace]
    return RuleList([_seen(asked, kept) for kept in found])


@get(May.QUERY, "/rules/{rule_id:str}")
async def read_rule(asked: Asked, rule_id: str) -> Response[VersionedRule]:
    """One rule."""
    await read(asked.board.rules)
    return _answer(asked, _found(asked, rule_id))


@put(May.ADMIN, "/rules/{rule_id:str}")
async def put_rule(
    asked: Asked, rule_id: str, data: dict[str, Any], if_match: IfMatch = None, if_none_match: IfNoneMatch = None
) -> Response[VersionedRule]:
    """Make or replace a rule. Workers take it in within a second or two."""
    wanted = _rule(data, {"rule_id": rule_id, "workspace": asked.workspace})
    await read(asked.board.rules)
    rules = asked.board.rules.all
    other = rules.get(rule_id)
    if other is not None and other.value.workspace != asked.workspace:
        raise Refused(409, "taken", "this rule_id is taken; choose another one")
    seen = seen_by(other, if_match, if_none_match)
    if seen is None and len(rules) >= RULES_MAX:
        raise Refused(409, "too_many", f"there are {RULES_MAX:,} rules already")
    await change(asked.board.rules, rule_id, rule_schema.encode(wanted), seen)
    return _answer(asked, _found(asked, rule_id))


@delete(May.ADMIN, "/rules/{rule_id:str}")
async def delete_rule(asked: Asked, rule_id: str, if_match: IfMatch = None) -> None:
    """Delete a rule. Its open alerts are resolved."""
    await read(asked.board.rules)
    kept = _found(asked, rule_id)
    await change(asked.board.rules, rule_id, None, seen_by(kept, if_match or "*", None))


@post(May.ADMIN, "/rules/test", status_code=200)
async def try_rule(asked: Asked, data: Trial) -> TrialResult:
    """When would this rule have fired of late? The detector's own machine, over the windows that are kept."""
    wanted = msgspec.structs.replace(_rule(data.rule, {"workspace": asked.workspace}), enabled=True)
    if _trials.locked():
        raise Refused(503, "busy", "another rule is being tried", retry_after_s=5)
    async with _trials:
        now_s = asked.clock.now_ms() // 1000
        span = Span(now_s - round(data.days * 86_400), now_s)
        history = ClickHouseHistory(Plain(asked.questions, asked.workspace), ROWS_AT_ONCE)
        try:
            known = await history.span()
            span = Span(max(known.start, span.start), min(known.end, span.end))
        except HistoryError:  # there is none
            span = Span(span.end, span.end)
        span = Span(span.start - span.start % STEP_S, span.end - span.end % STEP_S)
        if not len(span):
            return _result(wanted, Tried([], Span(span.end, span.end), 0, True))
        return _result(wanted, await would_fire(history, span, wanted, TRY_S))


@post(May.ADMIN, "/rules/{rule_id:str}/send-test", status_code=200)
async def send_test(asked: Asked, rule_id: str) -> RehearsalResult:
    """Send a test message to each recipient of a rule, or to the default ones where it names nobody."""
    await read(asked.board.rules)
    rule = _found(asked, rule_id).value
    recipients = each_address(rule.recipients or asked.settings.default_recipients.recipients)
    if _rehearsals.locked():
        raise Refused(503, "busy", "other test messages are on their way", retry_after_s=5)
    async with _rehearsals:
        outcomes = await rehearse(asked.settings, recipients)
    return RehearsalResult(
        [
            Reached(shown(named(recipient)), isinstance(one, Sent), "" if isinstance(one, Sent) else shown(one.reason))
            for recipient, one in outcomes.items()
        ]
    )


def _rule(given: dict[str, Any], named: dict[str, str]) -> Rule:
    """The rule that was sent, with what the address says. Raises Refused with every mistake in it."""
    whole = {"rule_id": "test", **named, **given}
    wrong = rule_schema.mistakes(whole)
    if not any(mistake.startswith("recipients") for mistake in wrong):
        wrong += addressing.mistakes(whole.get("recipients", []))
    no_mistakes(wrong + otherwise(whole, named), "the rule")
    return rule_schema.from_fields(whole)


def _found(asked: Asked, rule_id: str) -> Kept[Rule]:
    kept = asked.board.rules.all.get(rule_id)
    if kept is None or kept.value.workspace != asked.workspace:
        raise Refused(404, "no_such_rule", "there is no such rule in this workspace")
    return kept


def _seen(asked: Asked, kept: Kept[Rule]) -> VersionedRule:
    rule = kept.value
    if not asked.who.may(May.ADMIN, asked.workspace):
        rule = msgspec.structs.replace(rule, recipients=[redacted(one) for one in rule.recipients])
    return VersionedRule(kept.version, rule)


def _answer(asked: Asked, kept: Kept[Rule]) -> Response[VersionedRule]:
    return Response(_seen(asked, kept), headers={"ETag": f'"{kept.version}"'})


def _result(rule: Rule, tried: Tried) -> TrialResult:
    found = firings(tried.events, rule.rule_id)
    start_ms, end_ms = tried.span.start * 1000, tried.span.end * 1000
    return TrialResult(
        since=told(start_ms),
        until=told(end_ms),
        whole=tried.whole,
        windows=tried.rows,
        fired=len(found),
        fired_per_day=round(len(found) / max(1.0, len(tried.span) / 86_400), 2),
        firing_s=firing_s(found, end_ms),
        warnings=warnings(rule, found, start_ms, end_ms) if tried.rows else ["there are no windows in that time"],
        firings=[_fired(one, end_ms) for one in found[:FIRINGS_MAX]],
    )


def _fired(one: Firing, end_ms: int) -> WouldHaveFired:
    first = one.first
    return WouldHaveFired(
        fingerprint=first.fingerprint,
        fired_at=told(first.at_ms),
        ended_at=None if one.ended_at_ms is None else told(one.ended_at_ms),
        lasted_s=one.lasted_s(end_ms),
        severity=first.severity.value,
        model_id=first.model_id,
        device_id=first.device_id,
        class_name=first.class_name,
        value=first.value,
        summary=first.summary,
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_rules, read_rule, put_rule, delete_rule, try_rule, send_test)
