"""Which steps of alerts are told: all, but of what a first start reads in old logs only what is open or recent."""

from pipeline.core.alerting.news import News
from schemas.alert import AlertEvent, AlertState
from tests.alerting import START_MS, event
from tests.states import reloaded

RECENT_MS = START_MS + 1_000_000


def step(fingerprint: str, sequence: int, at_ms: int, state: AlertState = AlertState.FIRING) -> AlertEvent:
    return event(fingerprint=fingerprint * 16, sequence=sequence, at_ms=at_ms, state=state)


OLD_OPEN = [step("a", 1, START_MS, AlertState.PENDING), step("a", 2, START_MS + 10)]
OLD_OVER = [step("b", 1, START_MS), step("b", 2, START_MS + 10, AlertState.RESOLVED)]
JUST_OVER = [step("c", 1, START_MS), step("c", 2, RECENT_MS + 10, AlertState.RESOLVED)]


def test_after_the_first_start_every_step_is_told_once() -> None:
    news = News()
    news.add(OLD_OVER)
    assert list(news.ready(0)) == OLD_OVER
    news.told()
    assert not news.ready(1)


def test_history_is_told_at_its_end_as_far_as_it_is_open_or_recent() -> None:
    news = News(history_until=100, since_ms=RECENT_MS)
    for steps in ([OLD_OPEN[0]], [OLD_OVER[0]], [JUST_OVER[0]], [OLD_OVER[1]], [OLD_OPEN[1]], [JUST_OVER[1]]):
        news.add(steps)
        assert not news.ready(99)
    told = [OLD_OPEN[0], JUST_OVER[0], OLD_OPEN[1], JUST_OVER[1]]
    assert list(news.ready(100)) == told
    news.told()
    news.add(OLD_OVER)
    assert list(news.ready(101)) == OLD_OVER  # history is over: whatever is found now is news


def test_a_restart_in_the_middle_of_history_changes_nothing() -> None:
    news = News(history_until=100, since_ms=RECENT_MS)
    for one in (OLD_OPEN, OLD_OVER, JUST_OVER):
        news.add(one)
        news = News.restore(reloaded(news.snapshot()))
    assert list(news.ready(100)) == OLD_OPEN + JUST_OVER


def test_what_was_not_told_before_a_restart_is_told_after_it() -> None:
    news = News()
    news.add(OLD_OVER)
    news.ready(5)
    restored = News.restore(reloaded(news.snapshot()))
    assert list(restored.ready(5)) == OLD_OVER
