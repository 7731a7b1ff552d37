"""Laws of the life cycle: a restart changes nothing, ids are given once, every episode walks through its states."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.condition import Condition, Subject
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from tests.alerting import START_MS, condition
from tests.states import reloaded

SUBJECTS = [Subject(AlertKind.RULE, "acme", "error_rate", rule, "helmets/3") for rule in ("r", "s")]

conditions = st.builds(
    lambda subject, breached, severity, hold, keep, suppressed: (subject, breached, severity, hold, keep, suppressed),
    st.sampled_from(SUBJECTS),
    st.sampled_from([True, True, False, None]),
    st.sampled_from(Severity),
    st.sampled_from([0, 0, 20_000]),
    st.sampled_from([0, 15_000]),
    st.sampled_from([None, None, None, "f" * 16]),
)
happenings = st.one_of(conditions, st.sampled_from(["tick", "acknowledge", "close", "withdraw"]))
stories = st.lists(st.tuples(st.sampled_from([0, 1, 10_000, 10_000, 60_000, 3_600_000]), happenings), max_size=40)


def happen(machine: LifeCycle, at_ms: int, what: object) -> list[AlertEvent]:
    if what == "tick":
        return machine.tick(at_ms)
    if what == "withdraw":
        return machine.withdraw("s", at_ms, "deleted")
    if what in ("acknowledge", "close"):
        say = machine.acknowledge if what == "acknowledge" else machine.close
        steps = []
        for subject, track in machine.snapshot().tracks:
            if track.episode is not None:
                steps += say(subject.fingerprint, track.episode.starts_at_ms, "ada", "", at_ms)
        return steps
    assert isinstance(what, tuple)
    subject, breached, severity, hold_ms, keep_ms, suppressed_by = what
    said: Condition = condition(
        at_ms,
        breached,
        subject=subject,
        severity=severity,
        hold_ms=hold_ms,
        keep_firing_ms=keep_ms,
        suppressed_by=suppressed_by,
    )
    return machine.observe(said)


def restarted(machine: LifeCycle) -> LifeCycle:
    """The same machine in another process."""
    again = LifeCycle(50_000)
    again.restore(reloaded(machine.snapshot()))
    return again


def play(story: list[tuple[int, object]], restart_at: set[int]) -> list[AlertEvent]:
    machine, at_ms, told = LifeCycle(50_000), START_MS, []
    for i, (later_ms, what) in enumerate(story):
        if i in restart_at:
            machine = restarted(machine)
        at_ms += later_ms
        told += happen(machine, at_ms, what)
    return told


@given(stories, st.data())
def test_a_restart_anywhere_tells_the_same_steps(story: list[tuple[int, object]], data: st.DataObject) -> None:
    told = play(story, set())
    assert play(story, set(range(len(story)))) == told
    assert play(story, data.draw(st.sets(st.integers(0, max(0, len(story) - 1))))) == told


@given(stories)
def test_steps_that_are_made_again_after_a_crash_have_the_same_ids(story: list[tuple[int, object]]) -> None:
    machine, at_ms = LifeCycle(50_000), START_MS
    for later_ms, what in story:
        at_ms += later_ms
        before = restarted(machine)
        assert happen(before, at_ms, what) == happen(machine, at_ms, what)


@given(stories)
def test_every_id_is_given_once_and_every_episode_is_one_unbroken_walk(story: list[tuple[int, object]]) -> None:
    told = play(story, set())
    assert len({step.id for step in told}) == len(told)
    last: dict[str, AlertEvent] = {}
    for step in told:
        before = last.get(step.fingerprint)
        if before is None or before.state is AlertState.RESOLVED:
            assert (step.sequence, step.previous_state, step.episode) == (1, None, step.at_ms)
        else:
            assert (step.sequence, step.episode) == (before.sequence + 1, before.episode)
            assert step.previous_state is before.state
            assert step.at_ms >= before.at_ms
            assert step.severity.rank >= before.severity.rank
        last[step.fingerprint] = step


@given(stories)
def test_nothing_is_resolved_but_on_evidence(story: list[tuple[int, object]]) -> None:
    machine, at_ms = LifeCycle(50_000), START_MS
    for later_ms, what in story:
        at_ms += later_ms
        for step in happen(machine, at_ms, what):
            if step.state is AlertState.RESOLVED:
                assert what in ("withdraw", "close") or (isinstance(what, tuple) and what[1] is False)
