"""Who is told what, when, and why; and who is not."""

import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from pipeline.core.notifying.episodes import Lost
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.notifier import Notifier
from pipeline.core.notifying.policy import NotifierPolicy
from pipeline.core.notifying.routing import Defaults, Routing
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.rule import Rule
from schemas.silence import Acknowledgement, Matcher, Silence
from tests.alerts import T0, alert, silent
from tests.states import reloaded

ANN, PAGER = "mailto:ann@example.com", "pagerduty:key"
HOUR_S = 3600
FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED


def rule(rule_id: str = "low-confidence", **fields: Any) -> Rule:
    whole = {"rule_id": rule_id, "workspace": "acme", "metric": "confidence_mean", "operator": "<", "threshold": 0.75}
    return msgspec.convert({**whole, "recipients": [ANN]} | fields, Rule)


class Desk:
    """A notifier and a clock in seconds; what it sends is confirmed unless it is said not to be."""

    def __init__(self, *rules: Rule, policy: NotifierPolicy | None = None, **defaults: Any) -> None:
        self._rules, self._policy = rules, policy
        self._defaults = Defaults(**({"recipients": [ANN]} | defaults))
        self.notifier = self.fresh()
        self.now_s = 0

    def fresh(self) -> Notifier:
        notifier = Notifier(Routing(self._defaults), Silences(), self._policy)
        for one in self._rules or (rule(),):
            notifier.observe_rule(one.rule_id, one)
        return notifier

    def restart(self) -> None:
        saved, self.notifier = reloaded(self.notifier.snapshot()), self.fresh()
        self.notifier.restore(saved)

    def see(self, *events: AlertEvent) -> None:
        for event in events:
            self.notifier.observe(event, self._now_ms())

    def until(self, s: int, *, confirm: bool = True) -> list[Notification]:
        """Ticks every second up to and with `s`."""
        sent = []
        while self.now_s < s:
            self.now_s += 1
            sent += self.notifier.tick(self._now_ms())
        for one in sent if confirm else ():
            self.notifier.confirm(one.idempotency_key)
        return sent

    def silence(self, *matchers: Matcher, from_s: int = 0, to_s: int = HOUR_S) -> None:
        value = Silence(
            id="s", matchers=list(matchers), starts_at_ms=T0 + from_s * 1000, ends_at_ms=T0 + to_s * 1000, author="ann"
        )
        self.notifier.observe_silence("s", value)

    def _now_ms(self) -> int:
        return T0 + self.now_s * 1000


def reasons(sent: Iterable[Notification]) -> list[TellReason]:
    return [one.reason for one in sent]


def test_an_alert_is_told_after_the_wait_and_its_end_after_the_interval() -> None:
    desk = Desk()
    desk.see(alert(AlertState.PENDING), alert(FIRING, 2))
    assert desk.until(4) == []
    [told] = desk.until(6)
    assert (told.recipient, told.reason, told.at_ms) == (ANN, TellReason.FIRST, T0 + 5000)
    assert told.events == (alert(FIRING, 2),)
    desk.see(alert(RESOLVED, 3))
    assert desk.until(64) == []
    assert reasons(desk.until(66)) == [TellReason.RESOLVED]
    assert desk.until(6 * HOUR_S) == []


def test_an_event_seen_twice_is_told_once() -> None:
    desk = Desk()
    desk.see(alert(), alert())
    assert len(desk.until(10)) == 1
    desk.see(alert())
    desk.restart()
    desk.see(alert(), alert(AlertState.PENDING))
    assert desk.until(200) == []


def test_who_was_not_told_of_the_beginning_does_not_hear_of_the_end() -> None:
    desk = Desk()
    desk.see(alert(), alert(RESOLVED, 2))
    assert desk.until(300) == []


def test_what_only_recovers_or_has_no_data_is_not_told() -> None:
    desk = Desk()
    desk.see(alert())
    desk.until(10)
    desk.see(alert(AlertState.RECOVERING, 2), alert(AlertState.FIRING, 3), alert(AlertState.NO_DATA, 4))
    assert desk.until(HOUR_S) == []


def test_alerts_with_one_cause_are_one_message_and_others_their_own() -> None:
    desk = Desk()
    desk.see(alert(), alert(metric="error_rate", rule_id=None), alert(model_id="vests/1"))
    by_group = {one.group: len(one.events) for one in desk.until(10)}
    assert by_group == {"model acme helmets/3": 2, "model acme vests/1": 1}


def test_the_same_is_repeated_on_the_interval_only() -> None:
    desk = Desk()
    desk.see(alert())
    assert [one.at_ms - T0 for one in desk.until(9 * HOUR_S)] == [5000, 14_405_000, 28_805_000]


def test_what_gets_worse_is_told_soon_what_gets_better_is_not() -> None:
    desk = Desk()
    desk.see(alert())
    desk.until(10)
    desk.see(alert(FIRING, 2, severity=Severity.CRITICAL))
    assert reasons(desk.until(15)) == [TellReason.WORSE]
    desk.see(alert(FIRING, 3, severity=Severity.WARNING))
    assert desk.until(HOUR_S) == []


def test_who_has_acknowledged_is_not_reminded_but_told_when_it_gets_worse() -> None:
    for by_record in (False, True):
        desk = Desk()
        desk.see(alert())
        desk.until(10)
        if by_record:
            taken = Acknowledgement(id=f"ack/{alert().fingerprint}/{T0}", author="ann", at_ms=T0)
            desk.notifier.observe_silence(taken.id, taken)
        else:
            desk.see(alert(AlertState.ACKNOWLEDGED, 2))
        assert desk.until(10 * HOUR_S) == []
        desk.see(alert(AlertState.ACKNOWLEDGED, 3, severity=Severity.CRITICAL))
        assert reasons(desk.until(10 * HOUR_S + 10)) == [TellReason.WORSE]


def test_an_incident_elsewhere_is_acknowledged_too() -> None:
    desk = Desk(rule(recipients=[PAGER, ANN]))
    desk.see(alert())
    desk.until(10)
    desk.see(alert(AlertState.ACKNOWLEDGED, 2))
    [told] = desk.until(100)
    assert (told.recipient, told.reason) == (PAGER, TellReason.ACKNOWLEDGED)


def test_each_mail_address_is_told_by_itself() -> None:
    both = ["mailto:ann@example.com, bob@example.com%2Ccy@example.com?subject=x", "https://example.com/a,b", ANN]
    desk = Desk(rule(recipients=both))
    desk.see(alert())
    told = {one.recipient for one in desk.until(10)}
    assert told == {ANN, "mailto:bob@example.com", "mailto:cy@example.com", "https://example.com/a,b"}


def test_a_silence_keeps_quiet_and_at_its_end_who_still_fires_is_told() -> None:
    desk = Desk()
    desk.silence(Matcher("model_id", "helmets/.*", is_regex=True), to_s=600)
    desk.see(alert(), alert(model_id="vests/1"))
    assert [one.group for one in desk.until(599)] == ["model acme vests/1"]
    assert [one.group for one in desk.until(601)] == ["model acme helmets/3"]


def test_a_silence_that_is_taken_back_ends_at_once() -> None:
    desk = Desk()
    desk.silence(Matcher("workspace", "acme"))
    desk.see(alert())
    assert desk.until(100) == []
    desk.notifier.observe_silence("s", None)
    assert reasons(desk.until(101)) == [TellReason.FIRST]


def test_the_end_is_told_in_silence_too_to_who_knows_the_beginning() -> None:
    desk = Desk()
    desk.see(alert())
    desk.until(10)
    desk.silence(Matcher("workspace", "acme"), from_s=10)
    desk.see(alert(RESOLVED, 2))
    assert reasons(desk.until(100)) == [TellReason.RESOLVED]


def test_a_sites_outage_speaks_for_its_devices_until_it_is_over() -> None:
    desk = Desk()
    outage = silent("site:plant/1", "plant", metric="site_silence")
    desk.see(outage, silent("cam-1", "plant"), silent("cam-2", "plant", state=AlertState.SUPPRESSED), silent("x", "b"))
    told = [event.device_id for one in desk.until(100) for event in one.events]
    assert sorted(map(str, told)) == ["site:plant/1", "x"]
    desk.see(silent("site:plant/1", "plant", metric="site_silence", state=RESOLVED, sequence=2))
    why = [(one.reason, event.device_id) for one in desk.until(200) for event in one.events]
    assert why == [(TellReason.FIRST, "cam-1"), (TellReason.FIRST, "site:plant/1")]


def test_a_lag_of_our_own_speaks_for_all_silences() -> None:
    desk = Desk()
    lag = alert(kind=AlertKind.PIPELINE, rule_id=None, model_id=None, workspace="inferwatch", metric="input_lag_s")
    desk.see(lag, silent("cam-1"), alert())
    assert sorted(one.group for one in desk.until(30)) == [
        "model acme helmets/3",
        "pipeline inferwatch input_lag_s",
    ]
    desk.see(msgspec.structs.replace(lag, state=RESOLVED, sequence=2))
    assert [one.group for one in desk.until(31)] == ["workspace acme"]


def test_a_rules_limit_is_kept_and_what_was_withheld_is_summed_up() -> None:
    desk = Desk(rule(max_per_hour=2))
    desk.see(*(alert(model_id=f"m/{i}") for i in range(6)))
    first = desk.until(HOUR_S - 60)
    assert reasons(first) == [TellReason.FIRST, TellReason.FIRST]
    assert first[1].note == "Rule low-confidence has reached its limit of 2 per hour: it is silent for a while."
    later = desk.until(HOUR_S + 60)
    assert reasons(later) == [TellReason.FIRST, TellReason.FIRST]
    assert later[0].note.startswith("4 notifications of rule low-confidence withheld within the last")
    assert reasons(desk.until(2 * HOUR_S + 120)) == [TellReason.FIRST, TellReason.FIRST]


def test_what_was_withheld_and_has_ended_is_summed_up_by_itself() -> None:
    desk = Desk(rule(max_per_hour=1))
    desk.see(alert(model_id="m/1"), alert(model_id="m/2"))
    assert len(desk.until(10)) == 1
    desk.see(alert(RESOLVED, 2, model_id="m/1"), alert(RESOLVED, 2, model_id="m/2"))
    assert reasons(desk.until(100)) == [TellReason.RESOLVED]
    [summary] = desk.until(2 * HOUR_S)
    assert (summary.reason, summary.recipient, summary.events) == (TellReason.WITHHELD, ANN, ())


def test_many_alerts_at_once_are_a_few_messages_and_one_about_the_rest() -> None:
    desk = Desk(policy=NotifierPolicy(storm_max=3, events_max=10))
    desk.see(*(alert(model_id=f"m/{i}") for i in range(50)))
    sent = desk.until(30)
    assert reasons(sent) == [TellReason.FIRST] * 3 + [TellReason.STORM]
    assert (len(sent[-1].events), sent[-1].left_out) == (10, 37)
    assert sent[-1].note.startswith("47 alerts at once")
    desk.see(*(alert(RESOLVED, 2, model_id=f"m/{i}") for i in range(50)))
    ends = desk.until(300)
    assert reasons(ends) == [TellReason.RESOLVED] * 4
    assert sum(len(one.events) + one.left_out for one in ends) == 50
    assert desk.notifier.snapshot().groups == []


def test_an_open_incident_gets_its_news_in_a_storm_too() -> None:
    desk = Desk(rule(recipients=[PAGER]), policy=NotifierPolicy(storm_max=1))
    desk.see(alert(model_id="m/0"))
    desk.until(10)
    desk.see(*(alert(model_id=f"m/{i}") for i in range(1, 5)))
    desk.see(alert(FIRING, 2, model_id="m/0", severity=Severity.CRITICAL))
    assert [(one.group, one.reason) for one in desk.until(20)] == [
        ("model acme m/0", TellReason.WORSE),
        ("storm", TellReason.STORM),
    ]
    desk.see(*(alert(RESOLVED, 3, model_id=f"m/{i}") for i in range(5)))
    assert [one.group for one in desk.until(100)] == ["model acme m/0", "storm"]


def test_one_recipients_storm_is_not_anothers() -> None:
    desk = Desk(rule(), rule("other", recipients=["mailto:bob@example.com"]), policy=NotifierPolicy(storm_max=3))
    desk.see(*(alert(model_id=f"m/{i}") for i in range(9)), alert(rule_id="other"))
    assert [one.recipient for one in desk.until(30)].count("mailto:bob@example.com") == 1


def test_alertmanager_is_told_every_minute_and_of_the_end_for_five_more() -> None:
    desk = Desk(rule(recipients=["alertmanager"]))
    desk.see(alert())
    sent = desk.until(300)
    assert [one.at_ms - T0 for one in sent] == [1000, 61_000, 121_000, 181_000, 241_000]
    desk.see(alert(AlertState.RECOVERING, 2), alert(RESOLVED, 3))
    ends = desk.until(1000)
    assert [one.at_ms - T0 for one in ends] == [301_000 + 60_000 * i for i in range(6)]
    assert {event.state for one in ends for event in one.events} == {RESOLVED}


def test_alertmanager_hears_the_end_of_what_it_knew_under_other_labels() -> None:
    desk = Desk(rule(recipients=["alertmanager"]))
    desk.see(alert())
    desk.until(10)
    desk.see(alert(FIRING, 2, severity=Severity.CRITICAL))
    [told] = desk.until(15)
    assert [(event.state, event.severity) for event in told.events] == [
        (RESOLVED, Severity.WARNING),
        (FIRING, Severity.CRITICAL),
    ]


def test_what_is_silenced_is_not_begun_at_alertmanager_and_what_was_begun_goes_on() -> None:
    desk = Desk(rule(recipients=["alertmanager"]))
    desk.see(alert(model_id="m/1"))
    desk.until(10)
    desk.silence(Matcher("workspace", "acme"), from_s=10, to_s=200)
    desk.see(alert(model_id="m/2"))
    assert {event.model_id for one in desk.until(199) for event in one.events} == {"m/1"}
    assert {event.model_id for one in desk.until(300) for event in one.events} == {"m/1", "m/2"}


def test_an_end_that_did_not_arrive_is_told_to_alertmanager_for_as_long_again() -> None:
    desk = Desk(rule(recipients=["alertmanager"]))
    desk.see(alert())
    desk.until(10)
    desk.see(alert(RESOLVED, 2))
    for one in desk.until(250, confirm=False):
        desk.notifier.confirm(one.idempotency_key, delivered=False)
    assert desk.until(540)
    assert desk.until(700)[-1].at_ms - T0 < 620_000


def test_a_new_episode_that_is_pending_is_not_begun_at_alertmanager() -> None:
    desk = Desk(rule(recipients=["alertmanager"]))
    desk.see(alert(), alert(RESOLVED, 2))
    assert desk.until(10) == []
    desk.see(alert(FIRING, 3))
    desk.until(20)
    desk.see(alert(RESOLVED, 4))
    desk.until(30)
    desk.see(alert(AlertState.PENDING, 1, episode=T0 + 30_000))
    assert {event.state for one in desk.until(400) for event in one.events} == {RESOLVED}


def test_who_names_nobody_goes_to_the_default_unless_it_is_only_information() -> None:
    desk = Desk(rule(recipients=[]), recipients=["mailto:duty@example.com"])
    desk.see(alert(), silent("cam-1"), silent("cam-2", severity=Severity.INFO))
    told = [(one.recipient, event.device_id) for one in desk.until(HOUR_S) for event in one.events]
    assert told == [("mailto:duty@example.com", None), ("mailto:duty@example.com", "cam-1")]


def test_the_watchdog_goes_to_its_own_recipients_every_minute() -> None:
    desk = Desk(watchdog_recipients=["https://dead.example.com/ping"])
    desk.see(alert(kind=AlertKind.PIPELINE, rule_id=None, model_id=None, workspace="inferwatch", metric="watchdog"))
    sent = desk.until(310)
    assert {one.recipient for one in sent} == {"https://dead.example.com/ping"}
    assert len(sent) == 6


def test_what_was_not_confirmed_is_sent_again_with_the_same_key_after_a_restart() -> None:
    desk = Desk()
    desk.see(alert())
    [told] = desk.until(10, confirm=False)
    desk.restart()
    assert desk.until(11) == [told]
    desk.restart()
    assert desk.until(100) == []


def test_a_restart_from_an_older_snapshot_sends_with_the_same_key() -> None:
    desk = Desk()
    desk.see(alert())
    saved = reloaded(desk.notifier.snapshot())
    [first] = desk.until(10)
    again = desk.fresh()
    again.restore(saved)
    [second] = again.tick(T0 + 20_000)
    assert second.idempotency_key == first.idempotency_key


def test_two_repetitions_are_two_messages() -> None:
    desk = Desk()
    desk.see(alert())
    sent = desk.until(9 * HOUR_S)
    assert len({one.idempotency_key for one in sent}) == 3


def test_an_alert_that_comes_and_goes_is_not_told_at_each_turn() -> None:
    desk, sent = Desk(), []
    for i in range(60):
        desk.see(alert(FIRING, 1, episode=T0 + i * 10_000))
        sent += desk.until(i * 10 + 7)
        desk.see(alert(RESOLVED, 2, episode=T0 + i * 10_000))
        sent += desk.until(i * 10 + 10)
    assert len(sent) <= 10 * 60 / 60 + 1
    sent += desk.until(1000)
    assert not sent[-1].is_open


def test_memory_is_bounded() -> None:
    desk = Desk(policy=NotifierPolicy(alerts_max=100, outbox_max=50, storm_max=10_000))
    for i in range(300):
        desk.see(alert(model_id=f"m/{i}"))
        desk.until(desk.now_s + 6, confirm=False)
    saved = reloaded(desk.notifier.snapshot())
    assert (len(saved.alerts), len(saved.outbox)) == (100, 50)
    assert sum(len(group.members) for group in saved.groups) == 100
    assert desk.notifier.take_lost() == {Lost.ALERT: 200, Lost.NOTIFICATION: 250}
    assert desk.notifier.take_lost() == {}


def test_what_ended_long_ago_is_forgotten() -> None:
    desk = Desk()
    desk.see(alert(), alert(RESOLVED, 2))
    desk.until(10)
    desk.now_s = 2 * 86_400
    desk.see(alert(model_id="m/1"))
    assert len(desk.notifier.snapshot().alerts) == 1


def test_a_secret_in_a_recipient_is_not_in_the_repr() -> None:
    desk = Desk(rule(recipients=["pagerduty:hush"]))
    desk.see(alert())
    assert "hush" not in repr(desk.until(10))


def test_an_alert_that_ends_and_begins_again_between_two_turns_has_both_told() -> None:
    desk = Desk()
    desk.see(alert())
    desk.until(10)
    again = T0 + 20_000
    desk.see(alert(RESOLVED, 2), alert(episode=again))
    [one] = desk.until(100)
    assert [(event.episode, event.state) for event in one.events] == [(T0, RESOLVED), (again, FIRING)]
    assert one.reason is TellReason.FIRST
    desk.see(alert(RESOLVED, 2, episode=again))
    [end] = desk.until(200)
    assert [(event.episode, event.state) for event in end.events] == [(again, RESOLVED)]
    assert len(desk.notifier.snapshot().alerts) == 1


def test_an_episode_whose_end_was_never_seen_ends_when_the_next_begins() -> None:
    desk = Desk()
    desk.see(alert())
    desk.until(10)
    desk.see(alert(episode=T0 + 20_000))
    [one] = desk.until(100)
    assert [event.state for event in one.events] == [RESOLVED, FIRING]
    assert one.events[0].summary.startswith("began anew")


def test_episodes_that_nobody_heard_of_are_not_kept() -> None:
    desk = Desk()
    for i in range(100):
        episode = T0 + i * 1000
        desk.see(alert(AlertState.PENDING, 1, episode=episode), alert(RESOLVED, 2, episode=episode))
    for i in range(100, 200):
        desk.see(alert(episode=T0 + i * 1000), alert(RESOLVED, 2, episode=T0 + i * 1000))
    assert desk.until(100) == []
    assert len(desk.notifier.snapshot().alerts) == 1


@pytest.mark.slow
def test_whatever_happens_each_beginning_has_one_end_for_whoever_heard_of_it() -> None:
    """Random lives with restarts, several steps between two turns: told beginnings and ends pair by episode."""
    for seed in range(10):
        rng = random.Random(seed)
        desk = Desk(
            rule(recipients=[ANN, PAGER], max_per_hour=rng.choice((None, 3))), policy=NotifierPolicy(storm_max=4)
        )
        states: dict[int, tuple[int, int, bool]] = {}
        told: dict[tuple[str, str, int], bool] = {}
        for step in range(400):
            i = rng.randrange(6)
            episode, sequence, is_open = states.get(i, (T0 - 1, 0, False))
            episode, sequence = (
                (episode, sequence + 1) if is_open else (max(episode + 1, T0 + desk.now_s * 1000 + step), 1)
            )
            state = rng.choice((FIRING, FIRING, RESOLVED, AlertState.RECOVERING)) if is_open else FIRING
            states[i] = episode, sequence, state is not RESOLVED
            severity = rng.choice((Severity.WARNING, Severity.CRITICAL))
            desk.see(alert(state, sequence, model_id=f"m/{i}", episode=episode, severity=severity))
            if rng.random() < 0.4:
                for one in desk.until(desk.now_s + rng.randrange(1, 120)):
                    check(one, told)
            if rng.random() < 0.1:
                desk.restart()
        for i, (episode, sequence, is_open) in states.items():
            if is_open:
                desk.see(alert(RESOLVED, sequence + 1, model_id=f"m/{i}", episode=episode))
        for one in desk.until(desk.now_s + 3 * HOUR_S):
            check(one, told)
        assert told
        assert not any(told.values()), seed
        assert desk.notifier.snapshot().groups == []


def check(one: Notification, told: dict[tuple[str, str, int], bool]) -> None:
    for event in one.events:
        key = one.recipient, event.fingerprint, event.episode
        if event.state is RESOLVED:
            assert told.get(key), "an end without a beginning"
        else:
            assert told.get(key) is not False, "begun again"
        told[key] = event.state is not RESOLVED
