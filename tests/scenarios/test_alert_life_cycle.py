"""The life of an alert, drawn: what is said of it every 10 s, and where it stands after that.

said    x breached, X breached and critical, s breached but another alert says it, . well, ? no data,
        (a space) nothing at all, a a person acknowledges
stands  - no alert, p pending, F firing, A acknowledged, r recovering, R resolved, s suppressed, n no data
"""

from collections.abc import Sequence

import pytest

from pipeline.core.alerting.life_cycle import LifeCycle
from schemas.alert import AlertEvent, AlertState, Severity
from schemas.silence import Acknowledgement, Says, acknowledgement_id
from tests.alerting import START_MS, SUBJECT, condition

STEP_MS = 10_000
LETTERS = {
    AlertState.PENDING: "p",
    AlertState.FIRING: "F",
    AlertState.ACKNOWLEDGED: "A",
    AlertState.RECOVERING: "r",
    AlertState.SUPPRESSED: "s",
    AlertState.NO_DATA: "n",
}
BREACHED = {"x": True, "X": True, "s": True, ".": False, "?": None}


def play(said: str, hold_s: int = 0, keep_s: int = 0, no_data_s: int = 50) -> tuple[str, list[AlertEvent]]:
    """Where the alert stands after each step, and all that was told."""
    machine, drawn = LifeCycle(no_data_s * 1000), ""
    told: list[AlertEvent] = []
    for i, letter in enumerate(said):
        at_ms = START_MS + i * STEP_MS
        steps: list[AlertEvent] = []
        if letter == "a":
            steps += machine.acknowledge(SUBJECT.fingerprint, told[-1].episode, "ada", "looking", at_ms)
        elif letter != " ":
            steps += machine.observe(
                condition(
                    at_ms,
                    BREACHED[letter],
                    severity=Severity.CRITICAL if letter == "X" else Severity.WARNING,
                    suppressed_by="f" * 16 if letter == "s" else None,
                    hold_ms=hold_s * 1000,
                    keep_firing_ms=keep_s * 1000,
                )
            )
        steps += machine.tick(at_ms)
        drawn += picture(machine, steps)
        told += steps
    return drawn, told


def picture(machine: LifeCycle, steps: Sequence[AlertEvent]) -> str:
    state = machine.open.get(SUBJECT.fingerprint)
    if state is not None:
        return LETTERS[state]
    ended = [step for step in steps if step.state is AlertState.RESOLVED]
    return "R" if ended and ended[0].previous_state is not AlertState.PENDING else "-"


@pytest.mark.parametrize(
    ("story", "said", "stands", "hold_s", "keep_s"),
    [
        ("without a hold it fires at once", ".x..", "-FR-", 0, 0),
        ("a blip is noise", "x..", "p--", 20, 0),
        ("it fires once it has held", "xxxx", "ppFF", 20, 0),
        ("a gap restarts the hold", "xx.xxx", "pp-ppF", 20, 0),
        ("no data does not restart it", "x?x", "ppF", 20, 0),
        ("no data alone does not fire", "x???", "pppp", 20, 0),
        ("no data does not begin an episode", "??x", "--F", 0, 0),
        ("no data does not end one", "x??.", "FFFR", 0, 0),
        ("silence does not end one", "x  .", "FFFR", 0, 0),
        ("it stays until it was well for long enough", "x...", "FrrR", 0, 20),
        ("it comes back before that", "x.x...", "FrFrrR", 0, 20),
        ("a calm must be whole", "x..x..x...", "FrrFrrFrrR", 0, 20),
        ("a pending one needs no calm", "x.", "p-", 20, 20),
        ("a resolved one can begin again", "xxx...xxx", "ppFrrRppF", 20, 20),
        ("no data for long is told", "x?????", "FFFFFn", 0, 0),
        ("nothing at all for long is told", "x     ", "FFFFFn", 0, 0),
        ("it goes on when there is data", "x?????x.", "FFFFFnFR", 0, 0),
        ("it ends when there is data", "x?????.", "FFFFFnR", 0, 0),
        ("a calm before the silence does not count", "x.?????..", "FrrrrrnrR", 0, 10),
        ("a hold before the silence does not count", "x?????xxx", "pppppnppF", 20, 0),
        ("a person takes it", "xax.", "FAAR", 0, 0),
        ("whoever took it is not told again", "xa.x..", "FArArR", 0, 10),
        ("taking it while it recovers counts", "x.ax", "FrrA", 0, 30),
        ("nobody can take what nobody was told of", "xaxx", "ppFF", 20, 0),
        ("worse than what was taken is told", "xaXx", "FAFF", 0, 0),
        ("worse before it fired is part of it", "xXx", "ppF", 20, 0),
        ("what another alert says is not told", "sss.", "sssR", 0, 0),
        ("it is told when the other one is over", "ssx.", "ssFR", 0, 0),
        ("it is not told any more when another one says it", "xxs", "FFs", 0, 0),
    ],
)
def test_timeline(story: str, said: str, stands: str, hold_s: int, keep_s: int) -> None:
    assert play(said, hold_s, keep_s)[0] == stands, story


def test_every_step_has_the_next_number_and_says_what_was_before() -> None:
    _, told = play("xxx.x..", hold_s=20, keep_s=10)
    states = [(step.sequence, step.previous_state and step.previous_state.value, step.state.value) for step in told]
    assert states == [
        (1, None, "pending"),
        (2, "pending", "firing"),
        (3, "firing", "recovering"),
        (4, "recovering", "firing"),
        (5, "firing", "recovering"),
        (6, "recovering", "resolved"),
    ]
    assert {step.episode for step in told} == {step.starts_at_ms for step in told} == {START_MS}
    assert [(step.at_ms - START_MS) // STEP_MS for step in told] == [0, 2, 3, 4, 5, 6]


def test_an_episode_is_named_by_its_first_breach() -> None:
    _, told = play(".x.x.")
    assert [(step.episode - START_MS) // STEP_MS for step in told] == [1, 1, 3, 3]
    assert [step.sequence for step in told] == [1, 2, 1, 2]


def test_it_says_how_often_it_began_to_fire_within_the_hour() -> None:
    _, told = play("x.x.x.")
    assert [step.evidence["flap_count"] for step in told if step.state is AlertState.FIRING] == [0, 1, 2]
    _, told = play("x.x..", keep_s=10)
    assert [step.evidence["flap_count"] for step in told] == [0, 0, 1, 1, 1]
    _, told = play("x." + 400 * "." + "x")
    assert [step.evidence["flap_count"] for step in told if step.state is AlertState.FIRING] == [0, 0]


def test_worse_is_one_more_step_and_better_is_none() -> None:
    _, told = play("xXXx")
    assert [(step.state.value, step.severity.value) for step in told] == [("firing", "warning"), ("firing", "critical")]
    assert told[1].previous_state is AlertState.FIRING


def test_a_step_says_what_the_condition_said() -> None:
    (step,) = play("x")[1]
    assert (step.value, step.threshold, step.summary) == (0.2, 0.1, "helmets/3: too many errors")
    assert step.labels == {"team": "vision"}
    assert step.evidence == {"count": 40, "flap_count": 0}
    assert (step.rule_id, step.workspace, step.model_id, step.metric) == ("r", "acme", "helmets/3", "error_rate")


def test_an_acknowledgement_says_by_whom() -> None:
    step = play("xa")[1][-1]
    assert (step.evidence["acknowledged_by"], step.evidence["comment"]) == ("ada", "looking")


def test_an_acknowledgement_of_another_episode_or_a_second_one_changes_nothing() -> None:
    machine = LifeCycle()
    machine.observe(condition(START_MS))
    assert machine.acknowledge(SUBJECT.fingerprint, START_MS - 1, "ada", "", START_MS) == []
    assert machine.acknowledge("0" * 16, START_MS, "ada", "", START_MS) == []
    assert len(machine.acknowledge(SUBJECT.fingerprint, START_MS, "ada", "", START_MS)) == 1
    assert machine.acknowledge(SUBJECT.fingerprint, START_MS, "bob", "", START_MS) == []


def test_the_same_acknowledgement_heard_again_does_not_take_what_has_got_worse() -> None:
    """Whatever people say is heard again at each change of rules and silences, and after each restart."""
    machine = LifeCycle()
    machine.observe(condition(START_MS))
    word = (SUBJECT.fingerprint, START_MS, "ada", "", START_MS + 1000)
    assert len(machine.acknowledge(*word)) == 1
    (worse,) = machine.observe(condition(START_MS + STEP_MS, severity=Severity.CRITICAL))
    assert worse.state is AlertState.FIRING
    assert machine.acknowledge(*word) == []
    (anew,) = machine.acknowledge(*word[:4], START_MS + 2 * STEP_MS)
    assert anew.state is AlertState.ACKNOWLEDGED


def test_an_alert_that_is_given_back_fires_again_once_and_may_be_taken_again() -> None:
    machine = LifeCycle()
    fired = machine.observe(condition(START_MS))[-1]

    def say(says: Says, at_ms: int = START_MS) -> list[AlertState]:
        ack_id = acknowledgement_id(fired.fingerprint, fired.episode)
        ack = Acknowledgement(id=ack_id, author="ada", at_ms=at_ms, says=says)
        return [step.state for step in machine.hear(ack, START_MS)]

    assert say("free") == []
    assert say("taken") == [AlertState.ACKNOWLEDGED]
    assert say("free") == [AlertState.FIRING]
    assert say("free") == []
    assert say("taken", START_MS + STEP_MS) == [AlertState.ACKNOWLEDGED]


def test_a_person_ends_what_has_no_data_and_what_is_breached_still_begins_anew() -> None:
    machine = LifeCycle(1000)
    machine.observe(condition(START_MS))
    (quiet,) = machine.tick(START_MS + STEP_MS)
    assert quiet.state is AlertState.NO_DATA
    assert machine.close(SUBJECT.fingerprint, START_MS - 1, "ada", "", START_MS + STEP_MS) == []
    (step,) = machine.close(SUBJECT.fingerprint, START_MS, "ada", "it is gone", START_MS + STEP_MS)
    assert (step.state, step.at_ms, step.evidence["closed_by"]) == (AlertState.RESOLVED, START_MS + STEP_MS, "ada")
    assert step.summary == "closed by ada: it is gone; before: helmets/3: too many errors"
    assert machine.close(SUBJECT.fingerprint, START_MS, "ada", "", START_MS + STEP_MS) == []
    assert machine.tick(START_MS + 2 * STEP_MS) == []
    (again,) = machine.observe(condition(START_MS + 2 * STEP_MS))
    assert (again.state, again.episode) == (AlertState.FIRING, START_MS + 2 * STEP_MS)


def test_no_data_says_for_how_long_and_what_was_before() -> None:
    step = play("x?????", no_data_s=50)[1][-1]
    assert step.state is AlertState.NO_DATA
    assert step.summary == "no data for 0 min; before: helmets/3: too many errors"


def test_a_condition_that_was_told_before_tells_nothing_new() -> None:
    machine = LifeCycle()
    machine.observe(condition(START_MS))
    machine.observe(condition(START_MS + STEP_MS, False))
    assert machine.observe(condition(START_MS)) == []
    assert machine.observe(condition(START_MS + STEP_MS, True)) == []


def test_a_rule_that_is_withdrawn_ends_its_episodes_and_no_others() -> None:
    machine = LifeCycle()
    machine.observe(condition(START_MS))
    assert machine.withdraw("another", START_MS + 1, "deleted") == []
    (step,) = machine.withdraw("r", START_MS + 1, "the rule was deleted")
    assert (step.state, step.evidence["withdrawn"]) == (AlertState.RESOLVED, "the rule was deleted")
    assert machine.open == {}
    assert machine.withdraw("r", START_MS + 2, "deleted") == []


def test_what_is_over_is_forgotten() -> None:
    machine = LifeCycle()
    machine.observe(condition(START_MS))
    machine.observe(condition(START_MS + STEP_MS, False))
    machine.tick(START_MS + 3_599_999)
    assert machine.snapshot().tracks
    machine.tick(START_MS + 3_600_000)
    assert not machine.snapshot().tracks
