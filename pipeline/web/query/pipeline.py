"""How the pipeline stands, over HTTP: the same for every workspace, since all share it."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from pipeline.core.audit import Report
from pipeline.core.ledger.names import ForeignMetadataError
from pipeline.edge.audit.report import Audit
from pipeline.edge.operator.pipeline import PipelineState, look
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told
from pipeline.web.query.plain import as_writer
from pipeline.web.query.shared_answer import SharedAnswer
from schemas.access import EVERY_WORKSPACE

LOOK_S, AUDIT_S = 2.0, 60.0  # for so long an answer is good
AUDIT_WAIT_S_MAX = 30  # for what is on its way
AUDIT_SINCE_S_MAX = 86_400


class PartitionStanding(msgspec.Struct, frozen=True):
    """A role in a partition of what it reads."""

    role: str
    topic: str
    partition: int
    first_offset: int  # on the broker
    end_offset: int
    lag: int  # records that it has yet to take
    lag_s: float | None  # age of the oldest of them; null: not known
    problem: str | None  # why it stands still; inferwatch doctor says what to do


class RoleStanding(msgspec.Struct, frozen=True):
    """A kind of worker. The detector and the notifier keep no account by offset: how many run is all there is."""

    role: str
    members: int
    state: str
    lag: int
    lag_s: float | None


class PipelineTold(msgspec.Struct, frozen=True):
    """How the pipeline stands."""

    at: str
    complete_through: str | None  # windows that end by then are complete, but for late events
    roles: list[RoleStanding]
    partitions: list[PartitionStanding]
    audit: "AuditTold | None"  # the last one that this process made


class CheckTold(msgspec.Struct, frozen=True):
    """One check of an audit."""

    name: str
    ok: bool
    summary: str
    compared: int
    wrong: int
    findings: list[str]  # for those who may query every workspace


class AuditTold(msgspec.Struct, frozen=True):
    """Whether what was promised holds."""

    at: str
    since: str
    ok: bool
    complete_through: str | None
    checks: list[CheckTold]


class _Audited(msgspec.Struct, frozen=True):
    at_ms: int
    since_ms: int
    report: Report


_looks: SharedAnswer[PipelineState] = SharedAnswer(LOOK_S)
_audits: SharedAnswer[_Audited] = SharedAnswer(AUDIT_S)
_last_audit: list[_Audited] = []  # one at most


@get(May.QUERY, "/pipeline")
async def read_pipeline(asked: Asked) -> PipelineTold:
    """Lag of each role, in records and in seconds, and up to when everything is complete."""
    state = await _looks.get(lambda: look(asked.kafka, asked.clock.now_ms()))
    partitions = [
        PartitionStanding(
            one.standing.role,
            one.standing.topic,
            one.standing.partition,
            one.standing.log.start,
            one.standing.log.end,
            one.standing.lag,
            one.lag_s,
            one.standing.problem.value if one.standing.problem else None,
        )
        for one in state.partitions
    ]
    roles = [
        _role(role, group.member_count, group.state, [one for one in partitions if one.role == role])
        for role, group in state.groups.items()
    ]
    audit = _audit_told(asked, _last_audit[0]) if _last_audit else None
    return PipelineTold(told(state.at_ms), _through(state.complete_through_ms), roles, partitions, audit)


@get(May.OPERATE, "/pipeline/audit")
async def audit_pipeline(
    asked: Asked,
    since_s: Annotated[int, QueryParameter(ge=60, le=AUDIT_SINCE_S_MAX, description="what is younger")] = 3600,
    wait_s: Annotated[int, QueryParameter(ge=0, le=AUDIT_WAIT_S_MAX, description="for what is on its way")] = 15,
) -> AuditTold:
    """Is every event recorded once, and every complete window exact? One audit at a time; its answer is good for 60 s,
    whatever time was asked for."""

    async def ask() -> _Audited:
        at_ms = asked.clock.now_ms()
        since_ms = at_ms - since_s * 1000
        try:
            with as_writer("inferwatch audit"):
                report = await Audit(asked.kafka, wait_s, since_ms).run()
        except ForeignMetadataError as error:
            raise Refused(503, "not_known", str(error)) from None
        audited = _Audited(at_ms, since_ms, report)
        _last_audit[:] = [audited]
        return audited

    return _audit_told(asked, await _audits.get(ask))


def _role(role: str, members: int, state: str, found: Sequence[PartitionStanding]) -> RoleStanding:
    ages = [one.lag_s for one in found]
    oldest = max((age for age in ages if age is not None), default=None)
    return RoleStanding(role, members, state.lower(), sum(one.lag for one in found), oldest)


def _audit_told(asked: Asked, audited: _Audited) -> AuditTold:
    # A finding may name the models of any workspace.
    shows = asked.who.may(May.QUERY, EVERY_WORKSPACE)
    checks = [
        CheckTold(c.name, c.ok, c.summary, c.compared, c.wrong, [f.text for f in c.findings] if shows else [])
        for c in audited.report.checks
    ]
    through = _through(audited.report.complete_through_ms)
    return AuditTold(told(audited.at_ms), told(audited.since_ms), audited.report.ok, through, checks)


def _through(at_ms: int) -> str | None:
    return told(at_ms) if at_ms else None


ROUTES: Sequence[HTTPRouteHandler] = (read_pipeline, audit_pipeline)
