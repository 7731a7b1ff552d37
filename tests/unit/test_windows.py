"""When a window begins, and when it is closed."""

import pytest

from pipeline.core.windows.log_clock import WINDOW_MS, LogClock, closed_through, window_start

LATENESS_MS = 2000
LONG_AGO_MS = 0


@pytest.mark.parametrize(
    ("time_ms", "start_ms"), [(0, 0), (9_999, 0), (10_000, 10_000), (19_999, 10_000), (-1, -10_000)]
)
def test_a_window_is_half_open(time_ms: int, start_ms: int) -> None:
    assert window_start(time_ms) == start_ms


@pytest.mark.parametrize(
    ("log_time_ms", "closed_ms"),
    [(11_999, 0), (12_000, 10_000), (21_999, 10_000), (22_000, 20_000)],
)
def test_a_window_is_closed_once_the_log_has_passed_its_end_and_the_lateness(log_time_ms: int, closed_ms: int) -> None:
    assert closed_through(log_time_ms, LATENESS_MS) == closed_ms
    assert closed_ms % WINDOW_MS == 0


def test_the_logs_time_is_its_newest_record() -> None:
    clock = LogClock()
    clock.observe([5, 7, 9], create_time=False, now_ms=1000)
    assert clock.time_ms(asked_ms=100_000, idle_ms=0) == 9


def test_the_logs_time_never_goes_back() -> None:
    clock = LogClock()
    clock.observe([50_000], create_time=False, now_ms=50_000)
    clock.observe([20_000], create_time=False, now_ms=50_000)
    assert clock.time_ms(asked_ms=50_000, idle_ms=0) == 50_000
    assert clock.time_ms(asked_ms=30_000, idle_ms=60_000) == 50_000


def test_a_broker_whose_clock_is_ahead_of_ours_is_believed() -> None:
    clock = LogClock()
    clock.observe([60_000], create_time=False, now_ms=50_000)
    assert clock.time_ms(asked_ms=50_000, idle_ms=0) == 60_000


def test_one_producer_with_a_wrong_clock_does_not_move_the_log() -> None:
    clock = LogClock()
    clock.observe([1000, 1001, 9_000_000, 1002, 1003], create_time=True, now_ms=10_000_000)
    assert clock.time_ms(asked_ms=10_000_000, idle_ms=0) == 1002


def test_producers_whose_clocks_are_ahead_cannot_run_ahead_of_ours() -> None:
    clock = LogClock()
    clock.observe([9000, 9000, 9000], create_time=True, now_ms=5000)
    assert clock.time_ms(asked_ms=5000, idle_ms=0) == 5000


def test_a_log_that_is_read_to_its_end_goes_on_by_the_wall_clock_a_second_behind() -> None:
    clock = LogClock()
    clock.observe([3000], create_time=False, now_ms=3000)
    assert clock.time_ms(asked_ms=20_000, idle_ms=999) == 3000
    assert clock.time_ms(asked_ms=20_000, idle_ms=1000) == 19_000


def test_an_idle_log_that_never_had_a_record_goes_by_the_wall_clock() -> None:
    assert LogClock().time_ms(asked_ms=20_000, idle_ms=1000) == 19_000
    assert LogClock().time_ms(asked_ms=20_000, idle_ms=0) == LONG_AGO_MS
