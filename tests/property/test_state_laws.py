"""A machine that goes on from what was saved says what one says that was never stopped: the small ones, in any order.

Those with laws of their own say so there: Sliding, RuleEngine, LifeCycle, AutomaticDetector, HeartbeatMonitor,
ModelWatch, DeviceWatch, Notifier.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.alerting.news import News
from pipeline.core.alerting.outages import Outages
from pipeline.core.alerting.refusals import Refusals
from pipeline.core.alerting.standstill import Standstill
from pipeline.core.alerting.undelivered import Undelivered
from pipeline.core.ledger.names import RecorderName
from pipeline.core.ledger.resume import LogSpan
from pipeline.core.ledger.standing import RECORDER, Standing
from schemas.alert import AlertState
from tests.alerts import T0, alert, silent
from tests.states import moved, reloaded

Step = Callable[[Any], Any]

small = st.integers(0, 3)
times = st.integers(0, 50).map(lambda i: T0 + i * 7000)
counts = st.dictionaries(st.sampled_from(["not_json", "too_large"]), st.integers(1, 5), max_size=2)


def replayed(fresh: Callable[[], Any], steps: list[Step], stops: set[int]) -> list[Any]:
    machine, said = fresh(), []
    for i, step in enumerate(steps):
        if i in stops:
            machine = moved(machine, fresh())
        said.append(step(machine))
    return said


def stories(*steps: st.SearchStrategy[Step]) -> st.SearchStrategy[tuple[list[Step], set[int]]]:
    return st.tuples(st.lists(st.one_of(*steps), max_size=30), st.sets(st.integers(0, 29)))


@given(
    stories(
        st.builds(lambda at, n, why: lambda m: m.add(at, n, why), times, small, counts),
        st.builds(lambda at: lambda m: m.until(at), times),
    )
)
def test_refusals(story: tuple[list[Step], set[int]]) -> None:
    steps, stops = story
    assert replayed(lambda: Refusals(60_000), steps, stops) == replayed(lambda: Refusals(60_000), steps, set())


@given(
    stories(
        st.builds(lambda who, at: lambda m: m.failed(f"mail {who}", "no", at), small, times),
        st.builds(lambda who: lambda m: m.delivered(f"mail {who}"), small),
        st.builds(lambda at: lambda m: m.tick(at), times),
    )
)
def test_undelivered(story: tuple[list[Step], set[int]]) -> None:
    steps, stops = story
    assert replayed(Undelivered, steps, stops) == replayed(Undelivered, steps, set())


def standing(partition: int, offset: int, lag: int) -> Standing:
    name = RecorderName(offset, offset, 0)
    return Standing(RECORDER, "inference.events", partition, LogSpan(0, offset + lag), name)


@given(
    stories(
        st.builds(
            lambda at, places: lambda m: m.observe(at, [standing(p, *one) for p, one in enumerate(places)]),
            times,
            st.lists(st.tuples(small, small), max_size=3),
        )
    )
)
def test_standstill(story: tuple[list[Step], set[int]]) -> None:
    steps, stops = story
    assert replayed(lambda: Standstill(60_000), steps, stops) == replayed(lambda: Standstill(60_000), steps, set())


def share(partition: int, state: AlertState) -> Any:
    evidence = {"devices_silent": 5 + partition, "devices_watched": 10, "beat_ms": 10_000}
    labels = {"partition": str(partition), "site": "plant"}
    return silent(f"site:plant/{partition}", metric="site_share", state=state, evidence=evidence, labels=labels)


@given(
    stories(
        st.builds(
            lambda p, state, at: lambda m: m.observe(share(p, state), at),
            small,
            st.sampled_from([AlertState.SUPPRESSED, AlertState.RESOLVED]),
            times,
        ),
        st.builds(lambda at: lambda m: m.tick(at), times),
    )
)
def test_outages(story: tuple[list[Step], set[int]]) -> None:
    steps, stops = story
    assert replayed(Outages, steps, stops) == replayed(Outages, steps, set())


@given(
    st.lists(st.tuples(st.sampled_from([AlertState.FIRING, AlertState.RESOLVED]), st.integers(1, 4)), max_size=20),
    st.sets(small),
)
def test_news(story: list[tuple[AlertState, int]], stops: set[int]) -> None:
    def told(stopped: set[int]) -> list[Any]:
        news, said = News(10, T0 + 5000), []
        for i, (state, sequence) in enumerate(story):
            if i in stopped:
                news = News.restore(reloaded(news.snapshot()))
            news.add([alert(state, sequence)])
            said.append(news.ready(i))
            if said[-1]:
                news.told()
        return said

    assert told(stops) == told(set())
