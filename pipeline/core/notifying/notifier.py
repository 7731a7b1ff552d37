"""Who is told what, and when: alert events in, notifications out.

    event ─▶ Episodes ─▶ route ─▶ Groups (recipient, cause) ─▶ due ─▶ reason? ─▶ Storms ─▶ Limits ─▶ message ─▶ Outbox
                           └───▶ Resend (Alertmanager)

An event that is seen twice is told once. Of each episode a recipient hears beginning and end, or neither. A message
stays in the outbox until it is confirmed: what was on its way when the process ended is sent again, with the same
idempotency key. `now_ms` is the caller's clock, for all waits here are about people; what an alert is, and when it
began, is the log's.

All that comes in here is read again after a restart: what one record or one group raises is noted in `failures`, and
the others are told. A group that failed is looked at again after its interval.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import msgspec

from pipeline.core.isolation import Failures, Judged, attempt
from pipeline.core.notifying.composition import composed
from pipeline.core.notifying.episodes import Episodes, Lost, key_of
from pipeline.core.notifying.groups import STORM, AlertGroup, Groups
from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.limits import AllowancesState, Storms, StormsState
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notification import Notification, TellReason, reason_to_notify
from pipeline.core.notifying.outbox import Outbox
from pipeline.core.notifying.policy import NotifierPolicy
from pipeline.core.notifying.resend import Resend, ResendState
from pipeline.core.notifying.routing import ALERTMANAGER, Routing, cause_of
from pipeline.core.notifying.withholding import TellLimits
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Rule
from schemas.silence import Acknowledgement, Silence

PAGERDUTY_PREFIX = "pagerduty:"
P = ParamSpec("P")
T = TypeVar("T")


class NotifierState(msgspec.Struct):
    """What is saved of a Notifier."""

    alerts: list[AlertEvent]
    groups: list[AlertGroup]
    allowances: AllowancesState
    storms: StormsState
    outbox: list[Notification]
    resend: ResendState


class Notifier:
    """A machine for all alerts. Its clock is whoever calls `tick`."""

    def __init__(self, routing: Routing, silences: Silences, policy: NotifierPolicy | None = None) -> None:
        """`routing` and `silences` are empty: they are fed through `observe_rule` and `observe_silence`."""
        self._routing, self._silences, self._policy = routing, silences, policy or NotifierPolicy()
        self._episodes = Episodes(self._policy.alerts_max)
        self._groups = Groups(self._policy.group_wait_ms, self._policy.group_interval_ms)
        self._limits = TellLimits(routing, self._episodes)
        self._storms = Storms(self._policy.storm_max)
        self._outbox = Outbox(self._policy.outbox_max)
        self._resend = Resend(alertmanager_labels, self._policy.events_max)
        self._stirred = False  # somebody may not be quiet any more
        self._lost: Counter[Lost] = Counter()
        self.failures = Failures()

    def observe_rule(self, rule_id: str, rule: Rule | None) -> None:
        """A record of inference.rules."""
        self._alone("", f"rule {rule_id}", self._routing.observe, rule_id, rule)

    def observe_silence(self, key: str, value: Silence | Acknowledgement | None) -> None:
        """A record of inference.silences."""
        if self._alone("", f"silence {key}", self._silences.observe, key, value) is not True:
            self._lost[Lost.SILENCE] += 1
        self._stirred = True

    def observe(self, event: AlertEvent, now_ms: int) -> list[AlertEvent]:
        """A record of inference.alerts: the steps of it that are news."""
        return self._alone(event.workspace, f"alert {event.id}", self._observe, event, now_ms) or []

    def _observe(self, event: AlertEvent, now_ms: int) -> list[AlertEvent]:
        before = self._episodes.newest(event.fingerprint)
        for step in (news := self._episodes.observe(event)):
            self._take(step, now_ms)
        if before is not None and not self._groups.has(before):
            self._episodes.dropped(before)
        for key, too_early in self._episodes.forget_old(now_ms):
            self._lost[Lost.ALERT] += too_early
            self._groups.forget(key)
        return news

    def tick(self, now_ms: int) -> list[Notification]:
        """What to send now."""
        out = self._outbox.again()
        if self._silences.tick(now_ms) or self._stirred or self._episodes.fell_silent():
            self._stirred = False
            self._groups.wake(now_ms)
        for group in self._groups.due(now_ms):
            told = self._alone("", f"group {group.cause}", self._tell, group, now_ms)
            if told is None:
                self._groups.schedule(group, now_ms + self._policy.group_interval_ms)
            out += told or []
        for summary in self._alone("", "limits", lambda: list(self._limits.summaries(now_ms))) or []:
            out.append(self._put(summary))
        again = self._alone("", ALERTMANAGER, self._resend.tick, now_ms, lambda event: self._quiet(event, now_ms))
        return out + (again or [])

    def confirm(self, key: str, *, delivered: bool = True) -> None:
        """The notification was delivered, or given up: it is done with."""
        self._outbox.confirm(key)
        self._resend.confirm(key, delivered=delivered)

    def take_lost(self) -> Mapping[Lost, int]:
        """What nobody was told of since the last time, for memory is bounded."""
        lost, self._lost = +self._lost, Counter()
        return lost

    def snapshot(self) -> NotifierState:
        """What to save together with the offsets that it explains. Rules and silences are in their topics."""
        return NotifierState(
            alerts=self._episodes.snapshot(),
            groups=self._groups.snapshot(),
            allowances=self._limits.snapshot(),
            storms=self._storms.snapshot(),
            outbox=self._outbox.snapshot(),
            resend=self._resend.snapshot(),
        )

    def restore(self, state: NotifierState) -> None:
        """As it was when it was saved; what was not confirmed is sent again by the next `tick`."""
        self._episodes.restore(state.alerts)
        self._groups.restore(state.groups)
        self._limits.restore(state.allowances)
        self._storms.restore(state.storms)
        self._outbox.restore(state.outbox)
        self._resend.restore(state.resend)

    def _alone(self, workspace: str, name: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What it gives; None: it failed, and that is noted."""
        outcome = attempt(call, *args, **kwargs)
        if isinstance(outcome, Exception):
            self.failures.add(Judged.NOTICE, workspace, name, outcome)
            return None
        return outcome

    def _take(self, event: AlertEvent, now_ms: int) -> None:
        """A step that is news."""
        if event.state is AlertState.RESOLVED:
            self._silences.forget(event)
        key, route = key_of(event), self._routing.route(event)
        for recipient in route.recipients:
            if recipient == ALERTMANAGER:
                self._resend.observe(event)
            elif event.state in (AlertState.FIRING, AlertState.ACKNOWLEDGED):
                self._groups.join(recipient, cause_of(event), key)
        if ALERTMANAGER not in route.recipients and event.state is AlertState.RESOLVED:
            self._resend.observe(event)
        self._groups.news(key, event.severity.rank, now_ms)

    def _quiet(self, event: AlertEvent, now_ms: int) -> bool:
        """Whether nobody is to hear of it. Where that cannot be said, they hear."""
        return bool(self._alone(event.workspace, f"alert {event.id}", self._is_quiet, event, now_ms))

    def _is_quiet(self, event: AlertEvent, now_ms: int) -> bool:
        return self._episodes.is_inhibited(event) or self._silences.muting(event, now_ms) is not None

    def _drop(self, group: AlertGroup, key: str) -> None:
        if self._groups.drop(group, key):
            self._episodes.dropped(key)

    def _reasons(self, group: AlertGroup, now_ms: int) -> dict[str, TellReason]:
        """Why to tell of whom; who has ended unknown is dropped."""
        reasons = {}
        for key, told in list(group.members.items()):
            event = self._episodes[key]
            quiet, taken = self._quiet(event, now_ms), self._silences.acknowledgement(event) is not None
            repeat_ms = self._policy.repeat_of(event)
            reason = reason_to_notify(event, told, now_ms, repeat_ms, quiet=quiet, acknowledged=taken)
            if reason is TellReason.ACKNOWLEDGED:
                told.acknowledged = True
                if not group.recipient.startswith(PAGERDUTY_PREFIX):
                    continue  # people see it where they look; only an incident elsewhere must be moved
            if reason is not None:
                reasons[key] = reason
            elif event.state is AlertState.RESOLVED and not told.is_open:
                self._drop(group, key)
        return reasons

    def _tell(self, group: AlertGroup, now_ms: int) -> list[Notification]:
        reasons = self._reasons(group, now_ms)
        if reasons and group.cause != STORM and not self._may_send(group, now_ms):
            self._groups.move(group, reasons, now_ms)
            reasons = {}
        note = self._limits.withhold(group, reasons, now_ms)
        out = []
        if reasons:
            out.append(self._put(composed(group, self._episodes, reasons, note, now_ms, self._policy.events_max)))
            group.last_ms = now_ms
        for key in [key for key, reason in reasons.items() if reason is TellReason.RESOLVED]:
            self._drop(group, key)
        self._plan(group, now_ms)
        return out

    def _put(self, notification: Notification) -> Notification:
        self._lost[Lost.NOTIFICATION] += self._outbox.put(notification)
        return notification

    def _may_send(self, group: AlertGroup, now_ms: int) -> bool:
        """Whether the recipient can take one more message. An open incident's news wake nobody, and must close it."""
        in_incident = group.recipient.startswith(PAGERDUTY_PREFIX) and group.is_open
        return in_incident or self._storms.take(group.recipient, now_ms)

    def _plan(self, group: AlertGroup, now_ms: int) -> None:
        """When to look at the group again."""
        if not group.members:
            self._groups.retire(group, now_ms)
        for key, told in group.members.items():
            event = self._episodes[key]
            if told.withheld:
                due_ms = max(now_ms + 1000, self._limits.free_ms(group.recipient, event, now_ms))
            elif told.is_open:
                due_ms = max(now_ms + 1000, told.at_ms + self._policy.repeat_of(event))
            else:
                due_ms = now_ms + self._policy.group_interval_ms
            self._groups.schedule(group, due_ms)
