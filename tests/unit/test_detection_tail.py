"""Thresholds from hourly maxima."""

import numpy as np
import pytest

from pipeline.core.detection import tail
from pipeline.core.detection.state import Arrays, KeyedState

PRIOR = tail.Prior(level=3.2, rate=0.105, excess=1.0)
HOURLY = 1 / 1000


def fresh(streams: int) -> Arrays:
    state = KeyedState(tail.fields((), PRIOR))
    state.add(streams)
    return state.view(0, streams)


def after(maxima: np.ndarray, view: Arrays) -> tuple[Arrays, np.ndarray]:
    hours = np.zeros(maxima.shape[1], np.float32)
    for hour in maxima:
        tail.learn(view, hour.astype(np.float32), hours, np.ones(len(hour), np.bool_), 0.1)
        hours = hours + 1
    return view, hours


@pytest.mark.parametrize("scale", [0.7, 1.0, 8.0])
def test_the_asked_rate_comes_out_whatever_the_scale(scale: float) -> None:
    rng = np.random.default_rng(1)
    maxima = scale * rng.gumbel(2.0, 1.0, (672, 400))
    view, hours = after(maxima, fresh(400))
    threshold = tail.threshold(view, hours, HOURLY, 0.1)
    realised = -np.expm1(-np.exp(2.0 - threshold / scale)).mean() / HOURLY
    assert 0.6 < realised < 1.5


def test_little_data_makes_a_careful_threshold() -> None:
    view = fresh(1)
    few, many = (tail.threshold(view, np.array([hours]), HOURLY, 0.1)[0] for hours in (0.0, 600.0))
    exponential = PRIOR.level + np.log(PRIOR.rate / HOURLY)
    assert exponential < many < exponential + 0.3
    assert few > exponential + 1


def test_an_hour_that_does_not_count_teaches_nothing() -> None:
    view, _ = after(np.random.default_rng(1).gumbel(2, 1, (50, 4)), fresh(4))
    before = {name: array.copy() for name, array in view.items()}
    tail.learn(view, np.full(4, 90, np.float32), np.full(4, 50, np.float32), np.zeros(4, np.bool_), 0.1)
    for name, array in view.items():
        assert np.allclose(array, before[name], rtol=1e-4, atol=1e-4), name


def test_a_higher_score_is_a_rarer_one() -> None:
    view, _ = after(np.random.default_rng(1).gumbel(2, 1, (300, 1)), fresh(1))
    surprise = view["slope"][0] * np.array([5.0, 9.0]) + view["at_zero"][0]
    assert surprise[0] < surprise[1]
    assert surprise[1] == pytest.approx(9 - 2, abs=1.5)
