"""What the heartbeat monitor learns of a device, whom it forgets, and that it depends on nothing but the log."""

import random
from typing import Any

import pytest

from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.condition import Condition
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.devices.heartbeats import TICK_WORKSPACE, HeartbeatMonitor, is_tick
from pipeline.core.devices.quiet import CLOCK, SILENCE, words
from pipeline.core.isolation import Failures
from schemas.alert import AlertState, Severity
from schemas.heartbeat import Heartbeat
from tests.builders import START_MS
from tests.states import reloaded

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NO_REMINDERS = HeartbeatPolicy(remind_ms=10**12)


def beat(at_ms: int, **fields: Any) -> Heartbeat:
    whole: dict[str, Any] = {
        "device_id": "cam-7",
        "workspace": "acme",
        "sent_at_ms": at_ms,
        "interval_ms": 10_000,
    } | fields
    return Heartbeat(**whole)


def tick(at_ms: int) -> Heartbeat:
    return Heartbeat("detector/0", TICK_WORKSPACE, at_ms, 1000)


def feed(monitor: HeartbeatMonitor, from_ms: int, count: int, every_ms: int = 10_000, **fields: Any) -> list[Condition]:
    """Beats of cam-7 and, between them, the detector's."""
    said = []
    for at_ms in range(from_ms, from_ms + count * every_ms, every_ms):
        said += monitor.observe(at_ms, beat(at_ms, **fields))
        said += wait(monitor, at_ms, at_ms + every_ms)
    return said


def wait(monitor: HeartbeatMonitor, from_ms: int, to_ms: int) -> list[Condition]:
    """Nothing but the detector's own beats, up to but without `to_ms`."""
    step_ms = 5000
    return [one for ms in range(from_ms + step_ms, to_ms, step_ms) for one in monitor.observe(ms, tick(ms))]


def pages(said: list[Condition]) -> list[Condition]:
    return [one for one in said if one.breached and one.subject.metric == SILENCE and one.severity is Severity.CRITICAL]


def test_a_page_says_who_since_when_and_what_was_expected() -> None:
    monitor = HeartbeatMonitor(2, NO_REMINDERS)
    feed(monitor, START_MS, 20, tags=["edge", "site:plant"])
    [page] = pages(wait(monitor, START_MS + 200_000, START_MS + 400_000))
    assert page.at_ms == START_MS + 190_000 + 120_000
    assert page.summary == "cam-7 has not been heard for 2 min; it beats every 10 s"
    assert (page.value, page.expected, page.threshold) == (120.0, 10.0, 120.0)
    assert page.labels == {"partition": "2", "site": "plant"}
    assert page.evidence["last_heard_ms"] == START_MS + 190_000


def test_a_suspicion_never_fires_by_itself_and_a_page_fires_at_once() -> None:
    monitor, life = HeartbeatMonitor(0), LifeCycle()
    feed(monitor, START_MS, 20)
    steps = [step for one in wait(monitor, START_MS + 200_000, START_MS + 320_000) for step in life.observe(one)]
    assert [step.state for step in steps] == [AlertState.PENDING, AlertState.FIRING]
    back = [step for one in feed(monitor, START_MS + 320_000, 4) for step in life.observe(one)]
    assert [step.state for step in back] == [AlertState.RECOVERING, AlertState.RESOLVED]


def test_an_alert_that_lasts_for_days_never_counts_as_without_data() -> None:
    monitor, life = HeartbeatMonitor(0), LifeCycle()
    feed(monitor, START_MS, 20)
    states = []
    for ms in range(START_MS + 200_000, START_MS + DAY_MS, 20_000):
        states += [step.state for one in monitor.observe(ms, tick(ms)) for step in life.observe(one)]
        states += [step.state for step in life.tick(ms)]
    assert states == [AlertState.PENDING, AlertState.FIRING]


def test_a_device_that_beats_slower_than_it_says_is_taken_as_it_is() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    assert pages(feed(monitor, START_MS, 100, every_ms=60_000, interval_ms=1)) == []
    [page] = pages(wait(monitor, START_MS + 6_000_000, START_MS + 8_000_000))
    assert page.expected == 60.0
    assert page.value == 720.0


def test_the_page_comes_at_the_learned_tail_and_at_twelve_beats_at_the_latest() -> None:
    policy = HeartbeatPolicy(learn_after_ms=HOUR_MS, remind_ms=10**12)
    for gap_ms, page_ms in ((10_000, 50_000), (50_000, 72_500), (300_000, 120_000)):
        monitor = HeartbeatMonitor(0, policy)
        at_ms = START_MS
        for _ in range(8):
            feed(monitor, at_ms, 60)
            wait(monitor, at_ms + 600_000, at_ms + 590_000 + gap_ms)
            at_ms += 590_000 + gap_ms
        feed(monitor, at_ms, 8)
        [page] = pages(wait(monitor, at_ms + 80_000, at_ms + 400_000))
        assert page.value == page_ms / 1000, gap_ms


def test_a_real_outage_teaches_nothing() -> None:
    monitor = HeartbeatMonitor(0, HeartbeatPolicy(learn_after_ms=HOUR_MS, remind_ms=10**12))
    feed(monitor, START_MS, 400)
    wait(monitor, START_MS + 4_000_000, START_MS + 8_000_000)
    feed(monitor, START_MS + 8_000_000, 20)
    [page] = pages(wait(monitor, START_MS + 8_200_000, START_MS + 8_400_000))
    assert page.value == 50.0


def test_who_is_silent_for_a_week_is_retired_and_forgotten() -> None:
    monitor, life = HeartbeatMonitor(0), LifeCycle()
    feed(monitor, START_MS, 20)
    steps = []
    for ms in range(START_MS + 200_000, START_MS + 8 * DAY_MS, 25_000):
        steps += [step for one in monitor.observe(ms, tick(ms)) for step in life.observe(one)]
    assert [step.state for step in steps] == [AlertState.PENDING, AlertState.FIRING, AlertState.RESOLVED]
    assert steps[-1].summary == "cam-7 is taken to be retired and not watched any more: silent for 7 d"
    assert monitor.snapshot().devices == []


def test_a_clock_that_is_wrong_is_reported_once_and_when_it_is_right_again() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    wrong = []
    for i in range(200):
        at_ms = START_MS + i * 10_000
        wrong += monitor.observe(at_ms, beat(at_ms - (90_000 if i < 100 else 0), boot_id=str(i // 100)))
    assert [(one.subject.metric, one.breached, one.severity) for one in wrong] == [
        (CLOCK, True, Severity.INFO),
        (CLOCK, False, Severity.INFO),
    ]
    assert wrong[0].summary == "the clock of cam-7 is 1 min 30 s behind"


def test_a_clock_that_runs_away_is_reported_before_it_is_far_off() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    said = []
    for i in range(3000):
        at_ms = START_MS + i * 10_000
        said += monitor.observe(at_ms, beat(at_ms + i * 10))  # 3.6 s per hour
    assert [(one.subject.metric, one.breached) for one in said] == [(CLOCK, True)]
    assert said[0].summary.endswith("ahead and drifts by 3.6 s per hour")


def test_a_restart_is_counted() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    feed(monitor, START_MS, 10, boot_id="a")
    feed(monitor, START_MS + 100_000, 10, boot_id="b")
    [page] = pages(wait(monitor, START_MS + 200_000, START_MS + 400_000))
    assert (page.evidence["restarts"], page.evidence["boot_id"]) == (1, "b")


def test_after_a_restart_another_clock_is_believed_at_once() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    feed(monitor, START_MS, 20, boot_id="a")
    wait(monitor, START_MS + 190_000, START_MS + 220_000)
    said = []
    for at_ms in range(START_MS + 220_000, START_MS + 260_000, 10_000):
        said += monitor.observe(at_ms, beat(at_ms - HOUR_MS, boot_id="b"))
        said += wait(monitor, at_ms, at_ms + 10_000)
    assert said == []


def test_more_devices_than_it_may_know_are_counted_and_not_watched() -> None:
    failures = Failures()
    monitor = HeartbeatMonitor(0, HeartbeatPolicy(devices_max=3), failures)
    for i in range(30):
        monitor.observe(START_MS + i, beat(START_MS, device_id=f"cam-{i % 5}"))
    monitor.note_unwatched()
    monitor.note_unwatched()
    (failed,) = failures.take()
    assert failed.why == "12 beats of devices beyond the 3 that are watched"
    assert len(monitor.snapshot().devices) == 3


def test_right_after_the_log_stood_still_everybody_has_the_full_time() -> None:
    monitor = HeartbeatMonitor(0)
    feed(monitor, START_MS, 20)
    later_ms = START_MS + DAY_MS
    assert monitor.observe(later_ms, tick(later_ms)) == []
    assert pages(wait(monitor, later_ms, later_ms + 100_000)) == []
    assert len(pages(wait(monitor, later_ms + 100_000, later_ms + 200_000))) == 1


def test_who_stops_without_saying_for_how_long_has_a_quarter_of_an_hour() -> None:
    monitor = HeartbeatMonitor(0, NO_REMINDERS)
    feed(monitor, START_MS, 20)
    monitor.observe(START_MS + 200_000, beat(START_MS + 200_000, status="stopping"))
    [page] = pages(wait(monitor, START_MS + 200_000, START_MS + 2_000_000))
    assert page.at_ms == START_MS + 200_000 + 900_000 + 120_000


def test_only_the_detectors_own_beats_are_ticks() -> None:
    assert is_tick(tick(START_MS))
    assert not is_tick(beat(START_MS, device_id="detector/0"))
    assert not is_tick(beat(START_MS, workspace=TICK_WORKSPACE))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_said_depends_on_the_log_alone(seed: int) -> None:
    """Not on restarts."""
    log = random_log(seed)
    plain, restarted = (HeartbeatMonitor(0) for _ in range(2))
    rng = random.Random(seed)
    said: list[list[Condition]] = [[], []]
    for at_ms, record in log:
        said[0] += plain.observe(at_ms, record)
        said[1] += restarted.observe(at_ms, record)
        if rng.random() < 0.05:
            saved, restarted = reloaded(restarted.snapshot()), HeartbeatMonitor(0)
            restarted.restore(saved)
    assert said[0] == said[1]
    assert pages(said[0])
    assert plain.snapshot() == restarted.snapshot()


def random_log(seed: int) -> list[tuple[int, Heartbeat]]:
    """A few sites with devices that die, come back, stop, restart, change their promise and their site."""
    rng = random.Random(seed)
    at_ms = START_MS
    log: list[tuple[int, Heartbeat]] = []
    devices = [{"device_id": f"cam-{i}", "interval_ms": rng.choice((5000, 10_000, 30_000))} for i in range(12)]
    next_ms = [START_MS + rng.randrange(10_000) for _ in devices]
    while len(log) < 4000:
        at_ms += 2000
        log.append((at_ms, tick(at_ms)))
        if rng.random() < 0.0005:
            at_ms += rng.randrange(20_000, 600_000)
        site_down = rng.random() < 0.002
        for i, device in enumerate(devices):
            if (site_down and i % 3 == 0) or rng.random() < 0.0005:
                next_ms[i] = at_ms + rng.randrange(10_000, 900_000)
            if next_ms[i] > at_ms:
                continue
            more: dict[str, Any] = {"boot_id": str(rng.randrange(2)) if rng.random() < 0.01 else None}
            if rng.random() < 0.005:
                more |= {"status": "stopping", "expected_downtime_ms": rng.choice((None, 0, 60_000))}
            if rng.random() < 0.003:
                device["interval_ms"] = rng.choice((5000, 10_000, 30_000))
            site = rng.choice("abc") if rng.random() < 0.01 else "abc"[i % 3]
            sent_ms = at_ms - (rng.choice((0, 300_000)) if rng.random() < 0.02 else 0)
            log.append((at_ms, beat(sent_ms, tags=[f"site:{site}"], **(device | more))))
            next_ms[i] = at_ms + int(str(device["interval_ms"]))
    return log


@pytest.mark.parametrize(
    ("ms", "text"),
    [(450, "0.45 s"), (45_000, "45 s"), (125_000, "2 min 5 s"), (7_200_000, "2 h"), (7 * DAY_MS, "7 d")],
)
def test_spans_are_said_as_people_say_them(ms: int, text: str) -> None:
    assert words(ms) == text
