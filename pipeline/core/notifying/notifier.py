"""Who is told what, and when: alert events in, notifications out.

    event ─▶ told before? ─▶ route ─▶ its group (recipient, cause) ─▶ due ─▶ reason? ─▶ limit? ─▶ storm? ─▶ notification

An event that is seen twice is told once. A notification stays in the outbox until it is confirmed: what was on its way
when the process ended is sent again, with the same idempotency key. `now_ms` is the caller's clock, for all waits here
are about people; what an alert is, and when it began, is the log's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.core.notifying.labels import alertmanager_labels
from pipeline.core.notifying.limits import Allowances, AllowancesState, StormCap
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notification import (
    Notification,
    Reason,
    Told,
    idempotency_key,
    reason_to_notify,
    strongest,
)
from pipeline.core.notifying.resend import Resend, ResendState
from pipeline.core.notifying.routing import ALERTMANAGER, Routing, cause_of, is_inhibited, is_source
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Rule
from schemas.silence import Acknowledgement, Silence

PAGERDUTY_PREFIX = "pagerduty:"
STORM = "storm"
KEEP_RESOLVED_MS = 86_400_000  # so long is a repetition of an old step recognised

GroupKey = tuple[str, str]  # recipient, cause


@dataclass(frozen=True, slots=True)
class NotifierPolicy:
    """How long to wait for what, and how much is too much."""

    group_wait_ms: int = 5000  # for what else has the same cause
    group_interval_ms: int = 60_000  # between messages about one group, unless it gets worse
    repeat_ms: int = 4 * 3_600_000
    watchdog_ms: int = 60_000  # between signs of life to a dead-man service
    storm_max: int = 20  # messages a minute to one recipient
    events_max: int = 100  # in one message
    alerts_max: int = 20_000
    outbox_max: int = 10_000


class AlertGroup(msgspec.Struct):
    """What one recipient knows of the alerts with one cause."""

    recipient: str
    cause: str
    members: dict[str, Told] = {}  # by fingerprint
    due_ms: int = 0  # 0: not
    last_ms: int = 0  # of the last message


class NotifierState(msgspec.Struct):
    """What is saved of a Notifier."""

    alerts: list[AlertEvent]
    groups: list[AlertGroup]
    allowances: AllowancesState
    outbox: list[Notification]
    resend: ResendState


class Notifier:
    """A machine for all alerts. Its clock is whoever calls `tick`."""

    def __init__(self, routing: Routing, silences: Silences, policy: NotifierPolicy | None = None) -> None:
        """`routing` and `silences` are empty: they are fed through `observe_rule` and `observe_silence`."""
        self._routing, self._silences, self._policy = routing, silences, policy or NotifierPolicy()
        self._alerts: dict[str, AlertEvent] = {}  # the newest step of each, least recently changed first
        self._sources: dict[str, AlertEvent] = {}  # open alerts that make others superfluous
        self._groups: dict[GroupKey, AlertGroup] = {}
        self._member_of: dict[str, dict[str, GroupKey]] = {}  # fingerprint -> recipient -> its group
        self._queue: list[tuple[int, GroupKey]] = []  # an entry that is not its group's due_ms any more is void
        self._allowances = Allowances()
        self._storms: dict[str, StormCap] = {}
        self._resend = Resend(alertmanager_labels)
        self._outbox: dict[str, Notification] = {}
        self._resending: dict[str, tuple[AlertEvent, ...]] = {}  # under way to Alertmanager
        self._again: list[Notification] = []  # of the outbox, after a restart
        self._stirred = False  # somebody may not be quiet any more
        self.repeated = 0  # events seen before
        self.forgotten = 0  # alerts and notifications beyond what is kept

    def observe_rule(self, rule_id: str, rule: Rule | None) -> None:
        """A record of inference.rules."""
        self._routing.observe(rule_id, rule)

    def observe_silence(self, key: str, value: Silence | Acknowledgement | None) -> None:
        """A record of inference.silences."""
        self._silences.observe(key, value)
        self._stirred = True

    def observe(self, event: AlertEvent, now_ms: int) -> None:
        """A record of inference.alerts."""
        known = self._alerts.pop(event.fingerprint, None)
        if known is not None and (event.episode, event.sequence) <= (known.episode, known.sequence):
            self._alerts[event.fingerprint] = known
            self.repeated += 1
            return
        self._alerts[event.fingerprint] = event
        self._forget_old(now_ms)
        if is_source(event):
            self._sources[event.fingerprint] = event
        elif self._sources.pop(event.fingerprint, None):
            self._stirred = True
        if event.state is AlertState.RESOLVED:
            self._silences.forget(event)
        route = self._routing.route(event)
        for recipient in route.recipients:
            if recipient == ALERTMANAGER:
                self._resend.observe(event)
            elif event.state in (AlertState.FIRING, AlertState.ACKNOWLEDGED):
                self._join(recipient, event, now_ms)
        if ALERTMANAGER not in route.recipients and event.state is AlertState.RESOLVED:
            self._resend.observe(event)
        for group in self._groups_of(event.fingerprint):
            self._schedule(group, self._when(group, event, now_ms))

    def tick(self, now_ms: int) -> list[Notification]:
        """What to send now."""
        out, self._again = self._again, []
        if self._silences.tick(now_ms) or self._stirred:
            self._wake(now_ms)
        due: list[AlertGroup] = []
        storms: list[AlertGroup] = []
        while self._queue and self._queue[0][0] <= now_ms:
            due_ms, key = heappop(self._queue)
            group = self._groups.get(key)
            if group is not None and group.due_ms == due_ms:
                group.due_ms = 0
                (storms if group.cause == STORM else due).append(group)
        for group in due:
            out += self._tell(group, now_ms)
        # Last, for those before may have added to them.
        storms += [group for group in self._groups.values() if group.cause == STORM and 0 < group.due_ms <= now_ms]
        for group in storms:
            out += self._tell(group, now_ms)
        out += self._summaries(now_ms)
        return out + self._for_alertmanager(now_ms)

    def confirm(self, key: str, *, delivered: bool = True) -> None:
        """The notification was delivered, or given up: it is done with."""
        self._outbox.pop(key, None)
        events = self._resending.pop(key, ())
        if not delivered:
            self._resend.undelivered(event.fingerprint for event in events)

    @property
    def open(self) -> Mapping[str, AlertEvent]:
        """Every alert that is not resolved, by fingerprint."""
        return {key: event for key, event in self._alerts.items() if event.state is not AlertState.RESOLVED}

    def snapshot(self) -> NotifierState:
        """What to save together with the offsets that it explains. Rules and silences are in their topics."""
        return NotifierState(
            alerts=list(self._alerts.values()),
            groups=list(self._groups.values()),
            allowances=self._allowances.snapshot(),
            outbox=list(self._outbox.values()),
            resend=self._resend.snapshot(),
        )

    def restore(self, state: NotifierState) -> None:
        """As it was when it was saved; what was not confirmed is sent again by the next `tick`."""
        self._alerts = {event.fingerprint: event for event in state.alerts}
        self._sources = {key: event for key, event in self._alerts.items() if is_source(event)}
        self._groups = {(group.recipient, group.cause): group for group in state.groups}
        self._member_of = {}
        for key, group in self._groups.items():
            for fingerprint in group.members:
                self._member_of.setdefault(fingerprint, {})[group.recipient] = key
        self._queue = [(group.due_ms, key) for key, group in self._groups.items() if group.due_ms]
        heapify(self._queue)
        self._allowances.restore(state.allowances)
        self._outbox = {one.idempotency_key: one for one in state.outbox}
        self._again = list(self._outbox.values())
        self._resend.restore(state.resend)

    def _join(self, recipient: str, event: AlertEvent, now_ms: int) -> None:
        """Puts the alert into its recipient's group, unless it is in one."""
        groups = self._member_of.setdefault(event.fingerprint, {})
        if recipient not in groups:
            key = groups[recipient] = recipient, cause_of(event)
            self._groups.setdefault(key, AlertGroup(*key)).members[event.fingerprint] = Told()

    def _groups_of(self, fingerprint: str) -> list[AlertGroup]:
        return [self._groups[key] for key in self._member_of.get(fingerprint, {}).values()]

    def _when(self, group: AlertGroup, event: AlertEvent, now_ms: int) -> int:
        """When to tell of a change: soon, but not too often, unless it is worse than all that was told."""
        soon_ms = now_ms + self._policy.group_wait_ms
        worse = event.severity.rank > max((told.rank for told in group.members.values()), default=-1)
        if not group.last_ms or worse:
            return soon_ms
        return max(soon_ms, group.last_ms + self._policy.group_interval_ms)

    def _schedule(self, group: AlertGroup, due_ms: int) -> None:
        if not group.due_ms or due_ms < group.due_ms:
            group.due_ms = due_ms
            heappush(self._queue, (due_ms, (group.recipient, group.cause)))

    def _wake(self, now_ms: int) -> None:
        """Some who were quiet may not be any more."""
        self._stirred = False
        for group in self._groups.values():
            if any(not told.is_open for told in group.members.values()):
                self._schedule(group, now_ms)

    def _quiet(self, event: AlertEvent, now_ms: int) -> bool:
        return is_inhibited(event, self._sources) or self._silences.muting(event, now_ms) is not None

    def _repeat_ms(self, event: AlertEvent) -> int:
        return self._policy.watchdog_ms if event.metric == "watchdog" else self._policy.repeat_ms

    def _reasons(self, group: AlertGroup, now_ms: int) -> dict[str, Reason]:
        """Why to tell of whom; who has ended unknown is dropped."""
        reasons = {}
        for fingerprint, told in list(group.members.items()):
            event = self._alerts[fingerprint]
            reason = reason_to_notify(
                event,
                told,
                now_ms,
                self._repeat_ms(event),
                quiet=self._quiet(event, now_ms),
                acknowledged=self._silences.acknowledgement(event) is not None,
            )
            if reason is Reason.ACKNOWLEDGED:
                told.acknowledged = True
                if not group.recipient.startswith(PAGERDUTY_PREFIX):
                    continue  # people see it where they look; only an incident elsewhere must be moved
            if reason is not None:
                reasons[fingerprint] = reason
            elif event.state is AlertState.RESOLVED and not told.is_open:
                self._drop(group, fingerprint)
        return reasons

    def _tell(self, group: AlertGroup, now_ms: int) -> list[Notification]:
        reasons = self._reasons(group, now_ms)
        if reasons and group.cause != STORM and not self._within_storm(group, reasons, now_ms):
            reasons = {}
        note = self._within_limits(group, reasons, now_ms)
        out = [self._notification(group, reasons, note, now_ms)] if reasons else []
        for fingerprint in [key for key, reason in reasons.items() if reason is Reason.RESOLVED]:
            self._drop(group, fingerprint)
        if out:
            group.last_ms = now_ms
        self._plan(group, now_ms)
        return out

    def _within_limits(self, group: AlertGroup, reasons: dict[str, Reason], now_ms: int) -> str:
        """Takes out what a rule's limits do not allow; what is to be said of them. An end is always told."""
        rules: dict[str, list[str]] = {}
        for fingerprint, reason in reasons.items():
            rule_id = self._alerts[fingerprint].rule_id
            if rule_id is not None and reason in (Reason.FIRST, Reason.WORSE, Reason.REPEAT):
                rules.setdefault(rule_id, []).append(fingerprint)
        notes = []
        for rule_id, fingerprints in rules.items():
            new = sum(group.members[key].withheld != self._alerts[key].id for key in fingerprints)
            route = self._routing.route(self._alerts[fingerprints[0]])
            note = self._allowances.take(rule_id, group.recipient, (route.per_hour, route.per_day), new, now_ms)
            if note is None:
                for key in fingerprints:
                    group.members[key].withheld = self._alerts[key].id
                    del reasons[key]
            elif note:
                notes.append(note)
        return " ".join(notes)

    def _within_storm(self, group: AlertGroup, reasons: dict[str, Reason], now_ms: int) -> bool:
        """Whether the recipient can take one more message now; if not, its news go into one about all."""
        if group.recipient.startswith(PAGERDUTY_PREFIX) and any(told.is_open for told in group.members.values()):
            return True  # its incident is open already: nobody is woken anew, and it must be closed by itself
        if self._storms.setdefault(group.recipient, StormCap()).take(now_ms, self._policy.storm_max):
            return True
        key = group.recipient, STORM
        storm = self._groups.setdefault(key, AlertGroup(*key))
        for fingerprint in reasons:
            storm.members[fingerprint] = group.members.pop(fingerprint)
            self._member_of[fingerprint][group.recipient] = key
        self._schedule(storm, max(now_ms, storm.last_ms + self._policy.group_interval_ms))
        return False

    def _notification(self, group: AlertGroup, reasons: Mapping[str, Reason], note: str, now_ms: int) -> Notification:
        new = sorted(reasons, key=lambda key: (-self._alerts[key].severity.rank, self._alerts[key].starts_at_ms, key))
        rest = [key for key, told in group.members.items() if key not in reasons and told.is_open]
        listed = (new + rest)[: self._policy.events_max]
        reason = strongest(reasons.values())
        if group.cause == STORM and reason in (Reason.FIRST, Reason.WORSE):
            reason = Reason.STORM
            note = f"{len(new)} alerts at once: they are in one message. {note}".rstrip()
        told_before = [[self._alerts[key].id, reasons[key].value, group.members[key].count] for key in sorted(new)]
        notification = Notification(
            recipient=group.recipient,
            group=group.cause,
            events=tuple(self._alerts[key] for key in listed),
            reason=reason,
            idempotency_key=idempotency_key(group.recipient, group.cause, told_before),
            at_ms=now_ms,
            left_out=len(new) + len(rest) - len(listed),
            note=note,
        )
        for fingerprint in new + rest:
            told, event = group.members[fingerprint], self._alerts[fingerprint]
            told.count += 1
            told.at_ms = now_ms
            if fingerprint in reasons:
                told.withheld = ""
                told.rank = (
                    event.severity.rank if told.episode != event.episode else max(told.rank, event.severity.rank)
                )
                told.acknowledged = told.acknowledged and told.episode == event.episode
                told.episode, told.is_open = event.episode, True
        self._put(notification)
        return notification

    def _put(self, notification: Notification) -> None:
        self._outbox[notification.idempotency_key] = notification
        while len(self._outbox) > self._policy.outbox_max:
            del self._outbox[next(iter(self._outbox))]
            self.forgotten += 1

    def _plan(self, group: AlertGroup, now_ms: int) -> None:
        """When to look at the group again."""
        if not group.members:
            if now_ms - group.last_ms >= self._policy.group_interval_ms:
                self._groups.pop((group.recipient, group.cause), None)
            else:  # kept, or an alert that comes and goes would be told of each time anew
                self._schedule(group, group.last_ms + self._policy.group_interval_ms)
            return
        for fingerprint, told in group.members.items():
            event = self._alerts[fingerprint]
            if told.withheld:
                free_ms = self._allowances.free_ms(event.rule_id or "", group.recipient, now_ms)
                self._schedule(group, max(now_ms + 1000, free_ms))
            elif told.is_open:
                self._schedule(group, max(now_ms + 1000, told.at_ms + self._repeat_ms(event)))
            else:
                self._schedule(group, now_ms + self._policy.group_interval_ms)

    def _summaries(self, now_ms: int) -> list[Notification]:
        """What was withheld, once the limit allows to say so."""
        out = []
        for rule_id, recipient, since_ms, text in self._allowances.summaries(now_ms):
            key = idempotency_key(recipient, rule_id, "withheld", since_ms)
            out.append(Notification(recipient, f"limit {rule_id}", (), Reason.WITHHELD, key, now_ms, note=text))
            self._put(out[-1])
        return out

    def _for_alertmanager(self, now_ms: int) -> list[Notification]:
        """Not in the outbox: it is sent again anyway."""
        events = self._resend.tick(now_ms, lambda event: self._quiet(event, now_ms))
        out = []
        for i in range(0, len(events), self._policy.events_max):
            key, part = idempotency_key(ALERTMANAGER, now_ms, i), tuple(events[i : i + self._policy.events_max])
            out.append(Notification(ALERTMANAGER, ALERTMANAGER, part, Reason.RESENT, key, now_ms))
            self._resending[key] = part
        while len(self._resending) > self._policy.outbox_max:
            del self._resending[next(iter(self._resending))]
        return out

    def _drop(self, group: AlertGroup, fingerprint: str) -> None:
        group.members.pop(fingerprint, None)
        groups = self._member_of[fingerprint]
        groups.pop(group.recipient, None)
        if not groups:
            del self._member_of[fingerprint]

    def _forget_old(self, now_ms: int) -> None:
        """Keeps memory bounded: first what has ended, and long ago."""
        while self._alerts:
            fingerprint, event = next(iter(self._alerts.items()))
            full = len(self._alerts) > self._policy.alerts_max
            old = event.state is AlertState.RESOLVED and event.at_ms < now_ms - KEEP_RESOLVED_MS
            if not full and not old:
                return
            self.forgotten += full and not old
            del self._alerts[fingerprint]
            self._sources.pop(fingerprint, None)
            for group in self._groups_of(fingerprint):
                self._drop(group, fingerprint)
