"""What is normal at this time of day, and what is learned of it."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.core.detection.baseline import MINUTE_WINDOWS, Baseline, Residuals
from pipeline.core.detection.learning import RELEARN_WINDOWS
from pipeline.core.detection.moment import WINDOWS_PER_DAY, Moment
from pipeline.core.detection.signals import SIGNALS, Signal, Signals

pytestmark = pytest.mark.slow

MONDAY = (4 + 7 * 2900) * WINDOWS_PER_DAY


class Model:
    """One model's baseline, fed window by window."""

    def __init__(self, seed: int = 1, start: int = MONDAY) -> None:
        self.baseline = Baseline()
        self.baseline.state.add(1)
        self.index = start
        self.rng = np.random.default_rng(seed)
        self.learns = True

    def see(self, traffic: float, confidence: float, errors: float = 0.0) -> Residuals:
        n = float(self.rng.poisson(traffic))
        window = Signals.nothing(1)
        window.x[Signal.TRAFFIC] = n
        window.n[Signal.ERRORS], window.x[Signal.ERRORS] = n, self.rng.binomial(int(n), errors)
        window.n[Signal.CONFIDENCE] = 2 * n
        window.x[Signal.CONFIDENCE] = confidence + 0.12 * self.rng.normal() / max(2 * n, 1) ** 0.5
        moment, view = Moment.of(self.index), self.baseline.state.view(0, 1)
        self.baseline.arrive(view, window.x, moment)
        self.baseline.open(view, moment)
        residuals = self.baseline.residuals(view, window.x[None], window.n[None], [moment]).at(0)
        learns = np.full((SIGNALS, 1), self.learns)
        self.baseline.learn(view, residuals.notes, residuals.robust_z, learns, moment)
        self.index += 1
        return residuals

    def days(self, days: float, traffic: Callable[[int], float], errors: float = 0.0) -> np.ndarray:
        """Expected (signals, windows)."""
        rows = [
            self.see(traffic(self.index), 0.8 + 0.1 * self.wave(), errors).expected[:, 0]
            for _ in range(round(days * WINDOWS_PER_DAY))
        ]
        return np.array(rows).T

    def wave(self) -> float:
        return float(np.sin(2 * np.pi * self.index / WINDOWS_PER_DAY))


def daily(index: int) -> float:
    return 50 * (1 + 0.5 * float(np.sin(2 * np.pi * index / WINDOWS_PER_DAY)))


def test_after_a_day_the_day_is_known() -> None:
    model = Model()
    model.days(1, daily)
    tomorrow = model.index
    for hour in range(24):
        model.index = tomorrow + hour * 360
        wave = model.wave()
        expected = model.see(daily(model.index), 0.8 + 0.1 * wave).expected[:, 0]
        assert expected[Signal.TRAFFIC] == pytest.approx(daily(model.index), rel=0.06)
        assert expected[Signal.CONFIDENCE] == pytest.approx(0.8 + 0.1 * wave, abs=0.007)


def test_on_the_first_day_a_model_is_compared_with_its_last_quarter_of_an_hour() -> None:
    model = Model(start=MONDAY + 2000)
    model.days(0.1, daily)
    assert model.see(daily(model.index), 0.8).expected[Signal.TRAFFIC, 0] == pytest.approx(daily(model.index), rel=0.15)


def test_residuals_have_unit_spread() -> None:
    model = Model()
    model.days(0.3, daily)
    z = np.array([model.see(daily(model.index), 0.8 + 0.1 * model.wave()).z[:, 0] for _ in range(1500)])
    assert z[:, Signal.CONFIDENCE].std() == pytest.approx(1, abs=0.12)
    assert z[:, Signal.TRAFFIC].std() == pytest.approx(1, abs=0.12)


def test_a_weekend_has_a_factor_that_is_known_the_next_time() -> None:
    def weekly(index: int) -> float:
        return daily(index) * (0.5 if (index // WINDOWS_PER_DAY - MONDAY // WINDOWS_PER_DAY) % 7 >= 5 else 1.0)

    friday = MONDAY + 4 * WINDOWS_PER_DAY
    model = Model(start=friday)
    model.days(0.2, weekly)
    model.baseline.state["day_windows"][0] = WINDOWS_PER_DAY  # as after all of it
    model.index = friday + WINDOWS_PER_DAY
    assert not model.see(weekly(model.index), 0.8).judged[Signal.TRAFFIC, 0]  # Saturday begins: not known yet
    model.days(0.15, weekly)
    assert model.baseline.state["day_factor"][1, 0] == pytest.approx(0.5, abs=0.03)
    for day in (3, 8):  # Monday; and the next Saturday is no surprise
        model.index = friday + day * WINDOWS_PER_DAY + 1000
        residuals = model.see(weekly(model.index), 0.8)
        assert residuals.judged[Signal.TRAFFIC, 0]
        assert residuals.expected[Signal.TRAFFIC, 0] == pytest.approx(weekly(model.index), rel=0.1)


def test_what_is_not_to_be_learned_is_not() -> None:
    model = Model()
    model.days(0.1, lambda _: 50.0)
    before = model.baseline.state["profile"].copy(), model.baseline.state["level"].copy()
    model.learns = False
    for _ in range(30):
        model.see(500.0, 0.2)
    assert np.array_equal(model.baseline.state["profile"], before[0])
    assert np.array_equal(model.baseline.state["level"], before[1])


def test_an_accepted_normal_is_learned_in_a_quarter_of_an_hour_and_the_day_is_kept() -> None:
    model = Model()
    model.days(0.35, daily)
    model.baseline.accept(0, slice(Signal.TRAFFIC, Signal.TRAFFIC + 1))
    for _ in range(RELEARN_WINDOWS):
        assert not model.see(2 * daily(model.index), 0.8).judged[Signal.TRAFFIC, 0]
    residuals = model.see(2 * daily(model.index), 0.8)
    assert residuals.judged[Signal.TRAFFIC, 0]
    assert residuals.expected[Signal.TRAFFIC, 0] == pytest.approx(2 * daily(model.index), rel=0.08)
    model.index = MONDAY + WINDOWS_PER_DAY + 1000  # the next morning
    expected = model.see(2 * daily(model.index), 0.8).expected[Signal.TRAFFIC, 0]
    assert expected == pytest.approx(2 * daily(model.index), rel=0.15)


def test_the_level_of_rare_errors_is_doubted_until_there_were_some() -> None:
    model = Model()
    model.days(0.005, lambda _: 50.0, errors=0.003)
    early = model.see(50.0, 0.8, 0.003)
    assert early.expected_scaled[1, 0] > 1.3 * early.expected[Signal.ERRORS, 0]
    model.days(0.5, lambda _: 50.0, errors=0.003)
    late = model.see(50.0, 0.8, 0.003)
    assert late.expected[Signal.ERRORS, 0] == pytest.approx(0.15, rel=0.4)
    assert late.expected_scaled[1, 0] < 1.15 * late.expected[Signal.ERRORS, 0]


def test_something_that_was_never_reported_before_is_learned_like_a_new_model() -> None:
    model = Model()
    model.days(0.3, lambda _: 50.0)
    view = model.baseline.state.view(0, 1)
    window = Signals.nothing(1)
    window.x[Signal.TRAFFIC] = 50
    window.n[Signal.LATENCY_P50], window.x[Signal.LATENCY_P50] = 50, 10.6
    everything = np.ones((SIGNALS, 1), np.bool_)
    for _ in range(300):
        moment = Moment.of(model.index)
        model.baseline.arrive(view, window.x, moment)
        model.baseline.open(view, moment)
        residuals = model.baseline.residuals(view, window.x[None], window.n[None], [moment]).at(0)
        model.baseline.learn(view, residuals.notes, residuals.robust_z, everything, moment)
        model.index += 1
    assert residuals.expected[Signal.LATENCY_P50, 0] == pytest.approx(10.6, abs=0.01)
    assert 300 - MINUTE_WINDOWS < view["age"][0] <= 300
