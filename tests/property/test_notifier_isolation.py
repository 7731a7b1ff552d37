"""What one record or one group raises, at whatever step: the others are told as without it, also after a restart."""

import random
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.isolation import strictly
from pipeline.core.notifying import notifier as boxes
from pipeline.core.notifying.episodes import Episodes
from pipeline.core.notifying.groups import Groups
from pipeline.core.notifying.muting import Silences
from pipeline.core.notifying.notifier import Notifier
from pipeline.core.notifying.resend import Resend
from pipeline.core.notifying.routing import Defaults, Routing
from pipeline.core.state import decode, encode
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Silence
from tests.alerting import rule
from tests.alerts import T0, alert

MODELS = ["helmets", "vests", "poison", "crops"]
STEPS = [
    (Episodes, "observe"),
    (Routing, "route"),
    (Groups, "join"),
    (Groups, "news"),
    (Silences, "muting"),
    (Resend, "observe"),
    (boxes, "composed"),
    (boxes, "cause_of"),
    (boxes, "reason_to_notify"),
]
stories = st.lists(
    st.tuples(st.sampled_from(MODELS), st.sampled_from([AlertState.FIRING, AlertState.RESOLVED])), max_size=14
)


def about_poison(things: tuple[Any, ...]) -> bool:
    """Whether a call is about the poisoned model, by its alert, its episode or its group."""
    known = {alert(model_id="poison").fingerprint}
    for one in things:
        if isinstance(one, AlertEvent) and one.model_id == "poison":
            return True
        if "poison" in str(getattr(one, "cause", one)) or any(key in str(one) for key in known):
            return True
    return False


def told(story: list[tuple[str, AlertState]], restart_at: int) -> list[tuple[str, ...]]:
    """Who was told what of the healthy models, in order."""

    def fresh() -> Notifier:
        recipients = ["mailto:ann@example.com", "alertmanager"]
        return Notifier(Routing(Defaults(recipients=recipients)), Silences())

    out: list[tuple[str, ...]] = []
    machine, now_ms = fresh(), T0
    for i, (model, state) in enumerate(story):
        machine.observe(alert(state, i + 1, model_id=model, rule_id=None), now_ms)
        for _ in range(80):
            now_ms += 1000
            for one in machine.tick(now_ms):
                machine.confirm(one.idempotency_key)
                out += [
                    (one.recipient, one.group if "mailto" in one.recipient else "", e.id, one.reason.value)
                    for e in one.events
                    if e.model_id != "poison"
                ]
        if i == restart_at:
            saved = decode(boxes.NotifierState, encode(machine.snapshot()))
            assert isinstance(saved, boxes.NotifierState)
            machine = fresh()
            machine.restore(saved)
    return out


def poisoned(call: Callable[..., Any], chance: float, seed: int) -> Callable[..., Any]:
    """Raises where it is about the poisoned model."""
    dice = random.Random(seed)

    def called(*args: Any, **kwargs: Any) -> Any:
        if about_poison(args) and dice.random() < chance:
            raise OverflowError("cannot convert float infinity to integer")
        return call(*args, **kwargs)

    return called


@settings(max_examples=200, deadline=None)
@given(stories, st.sampled_from(STEPS), st.sampled_from([0.3, 1.0]), st.integers(0, 9), st.integers(-1, 12))
def test_the_others_are_told_as_without_it(
    story: list[tuple[str, AlertState]], step: tuple[Any, str], chance: float, seed: int, restart_at: int
) -> None:
    expected = sorted(told(story, restart_at))
    where, name = step
    with strictly(False), patch.object(where, name, poisoned(getattr(where, name), chance, seed)):
        assert sorted(told(story, restart_at)) == expected


def test_what_failed_is_noted_and_a_group_is_tried_again() -> None:
    machine = Notifier(Routing(Defaults(recipients=["mailto:ann@example.com"])), Silences())
    machine.observe(alert(rule_id=None), T0)
    with strictly(False), patch.object(boxes, "composed", side_effect=OverflowError):
        assert [one for s in range(9) for one in machine.tick(T0 + s * 1000)] == []
        (failed,) = machine.failures.take()
    assert (failed.what.value, failed.name) == ("notice", "group model acme helmets/3")
    assert [one.reason.value for s in range(9, 80) for one in machine.tick(T0 + s * 1000)] == ["first notification"]


def test_a_rule_and_a_silence_that_raise_are_noted_and_the_others_hold() -> None:
    machine = Notifier(Routing(Defaults(recipients=["mailto:ann@example.com"])), Silences())
    silence = Silence(id="s", starts_at_ms=T0, ends_at_ms=T0 + 1000, author="ann", matchers=[])
    with (
        strictly(False),
        patch.object(Routing, "observe", side_effect=KeyError),
        patch.object(Silences, "observe", side_effect=RecursionError),
    ):
        machine.observe_rule("r", rule())
        machine.observe_silence("s", silence)
    assert [one.name for one in machine.failures.take()] == ["rule r", "silence s"]


def test_in_tests_a_mistake_of_ours_is_raised() -> None:
    machine = Notifier(Routing(Defaults()), Silences())
    with patch.object(Routing, "route", side_effect=KeyError), pytest.raises(KeyError):
        machine.observe(alert(), T0)
