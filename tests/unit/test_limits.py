"""How often somebody is told at most, and when they may be told again."""

import random
from copy import deepcopy

import pytest

from pipeline.core.notifying.limits import DAY_MS, HOUR_MS, MINUTE_MS, Allowance, Allowances, StormCap
from tests.builders import START_MS

NOW = START_MS - START_MS % MINUTE_MS


def test_an_hour_and_a_day_are_counted_each() -> None:
    allowance = Allowance(2, 3)
    assert [allowance.take(NOW + i) for i in range(3)] == [True, True, False]
    assert allowance.take(NOW + HOUR_MS)
    assert not allowance.take(NOW + 2 * HOUR_MS)
    assert allowance.take(NOW + DAY_MS)


@pytest.mark.parametrize("seed", range(20))
def test_when_it_is_said_to_be_free_it_is_and_not_before(seed: int) -> None:
    rng = random.Random(seed)
    allowance = Allowance(rng.choice((None, 1, 3)), rng.choice((1, 4, 10)))
    now_ms = NOW
    for _ in range(60):
        now_ms += rng.randrange(40 * MINUTE_MS)
        while allowance.take(now_ms):
            pass
        free_ms = allowance.free_ms(now_ms)
        assert allowance.left(free_ms - 1) == 0
        assert allowance.left(free_ms) != 0
        now_ms = free_ms


def test_what_is_withheld_is_said_with_the_next_that_is_told() -> None:
    allowances, limits = Allowances(), (1, None)
    assert (
        allowances.take("r", "ann", limits, 1, NOW)
        == "Rule r has reached its limit of 1 per hour: it is silent for a while."
    )
    assert allowances.take("r", "ann", limits, 2, NOW + 1) is None
    assert allowances.take("r", "bob", limits, 1, NOW + 1)
    assert list(allowances.summaries(NOW + 2)) == []
    note = allowances.take("r", "ann", limits, 1, NOW + HOUR_MS)
    assert note is not None
    assert note.startswith("2 notifications of rule r withheld within the last 59 min: its limit is 1 per hour. Rule r")
    assert list(allowances.summaries(NOW + 3 * HOUR_MS)) == []


def test_what_is_withheld_is_said_once_when_nothing_else_is_told() -> None:
    allowances = Allowances()
    allowances.take("r", "ann", (1, None), 1, NOW)
    allowances.take("r", "ann", (1, None), 1, NOW + 1)
    saved = Allowances()
    saved.restore(deepcopy(allowances.snapshot()))
    [(rule_id, recipient, since_ms, said)] = saved.summaries(NOW + 2 * HOUR_MS)
    assert (rule_id, recipient, since_ms) == ("r", "ann", NOW + 1)
    assert said.startswith("1 notification of rule r withheld")
    assert list(saved.summaries(NOW + 2 * HOUR_MS)) == []


def test_a_limit_of_none_tells_nothing_ever() -> None:
    allowance = Allowance(0, None)
    assert not allowance.take(NOW)
    assert allowance.free_ms(NOW) > NOW


def test_a_storm_is_over_after_a_minute() -> None:
    cap = StormCap()
    assert [cap.take(NOW + i, 2) for i in range(3)] == [True, True, False]
    assert cap.take(NOW + MINUTE_MS + 1, 2)
