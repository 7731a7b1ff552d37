"""When a rule would have fired, for how long, and when people are warned of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.core.history.firings import firing_s, firings, warnings
from pipeline.core.span import Span
from pipeline.edge.operator.history import Windows
from pipeline.edge.operator.would_fire import would_fire
from pipeline.edge.store.queries.history import Only
from schemas.alert import AlertEvent, AlertState
from tests.alerting import START_MS, START_S, rows, rule
from tests.alerts import T0, alert

DAY_MS = 86_400_000
RULE = rule(rule_id="low-confidence", window_s=60)


def episode(start_s: int, lasted_s: int | None, model_id: str = "helmets/3") -> list[AlertEvent]:
    """It fires `start_s` after T0."""
    at_ms = T0 + start_s * 1000
    steps = [(AlertState.PENDING, None, at_ms), (AlertState.FIRING, AlertState.PENDING, at_ms)]
    if lasted_s is not None:
        steps.append((AlertState.RESOLVED, AlertState.FIRING, at_ms + lasted_s * 1000))
    return [
        alert(state, n, previous_state=before, at_ms=ms, episode=at_ms, model_id=model_id)
        for n, (state, before, ms) in enumerate(steps, 1)
    ]


def test_a_firing_lasts_from_its_first_step_that_fired_to_its_end() -> None:
    events = [*episode(500, None, "helmets/4"), *episode(0, 90), *episode(200, 30)]
    found = firings(events, "low-confidence")
    until_ms = T0 + 600_000
    assert [(one.first.at_ms - T0, one.lasted_s(until_ms)) for one in found] == [(0, 90), (200_000, 30), (500_000, 100)]
    assert [one.ended_at_ms is None for one in found] == [False, False, True]


def test_what_never_fired_and_what_others_fired_is_no_firing() -> None:
    blip = [alert(AlertState.PENDING, 1), alert(AlertState.RESOLVED, 2, previous_state=AlertState.PENDING)]
    assert firings(blip, "low-confidence") == []
    assert firings(episode(0, 90), "another") == []


def test_the_time_of_firings_that_overlap_counts_once() -> None:
    events = [*episode(0, 100), *episode(50, 100, "helmets/4"), *episode(60, 10, "helmets/5"), *episode(300, 1)]
    assert firing_s(firings(events, "low-confidence"), T0 + 600_000) == 151


@pytest.mark.parametrize(
    ("spells", "told"),
    [
        ([(0, 600)], []),
        ([(n * 20_000, 300) for n in range(4)], ["noisy: 4.0 times a day"]),
        ([(0, 20_000)], ["it would have fired 23% of the time"]),
        ([(n * 20_000, 20) for n in range(3)], ["3 of 3 times it was over within its window"]),
    ],
)
def test_a_rule_that_nobody_would_listen_to_is_warned_of(spells: list[tuple[int, int]], told: list[str]) -> None:
    found = firings([event for spell in spells for event in episode(*spell)], "low-confidence")
    said = warnings(RULE, found, T0, T0 + DAY_MS)
    assert len(said) == len(told)
    assert all(text.startswith(start) for text, start in zip(said, told, strict=True))


class Errors:
    """A history of windows in each of which all inferences failed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[Only] = []

    async def span(self) -> Span:
        return Span(START_S, START_S + self.count * 10)

    async def windows(self, span: Span, only: Only, at_once_s: int = 10) -> AsyncIterator[Windows]:
        self.asked.append(only)
        for i in range(self.count):
            row = {"window_start_s": START_S + i * 10, "inference_count": 10, "error_count": 10}
            yield (START_MS + (i + 1) * 10_000, *rows([row]))


def test_a_rule_is_tried_on_the_windows_of_its_model_only() -> None:
    history = Errors(30)
    span = asyncio.run(history.span())
    tried = asyncio.run(would_fire(history, span, rule(threshold=0.3, min_count=20, model_id="helmets/3"), 20))
    assert (tried.span, tried.rows, tried.whole) == (span, 30, True)
    assert len(firings(tried.events, tried.events[0].rule_id or "")) == 1
    assert (history.asked[0].workspace, history.asked[0].model_id) == ("acme", "helmets/3")
    asyncio.run(would_fire(history, span, rule(model_id="helmets"), 20))
    assert history.asked[1].model_id is None


def test_a_trial_whose_time_is_up_says_how_far_it_came() -> None:
    history = Errors(30)
    tried = asyncio.run(would_fire(history, asyncio.run(history.span()), rule(), 0))
    assert (tried.whole, tried.span) == (False, Span(START_S, START_S + 10))
