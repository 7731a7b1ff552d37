"""The ladder of time scales."""

import numpy as np
import pytest

from pipeline.core.detection import ladder
from pipeline.core.detection.ladder import SCALE_WINDOWS, SCALES, Ladder
from pipeline.core.detection.signals import SIGNALS, Channel, Signal


class Climb:
    """One model's ladder, fed the same z for all signals."""

    def __init__(self) -> None:
        self.ladder = Ladder()
        self.ladder.state.add(1)
        self.index = 0

    def go(self, zs: np.ndarray) -> np.ndarray:
        view, work = self.ladder.state.view(0, 1), np.empty((SCALES, SIGNALS, 1), np.float32)
        out = []
        for z in zs:
            now = np.full((SIGNALS, 1), z, np.float32)
            scores = self.ladder.step(view, now, now, work)
            out.append(scores[:, Signal.CONFIDENCE, 0].copy())
            age = np.array([self.index + 1], np.float32)
            if self.ladder.learns_in(self.index):
                self.ladder.learn(view, np.ones((SIGNALS, 1), np.bool_), age)
            self.index += 1
        return np.array(out)


@pytest.mark.parametrize(("shift", "scale"), [(7.0, 0), (3.0, 3), (1.5, 5), (0.8, 7)])
def test_a_shift_is_seen_first_by_the_scale_that_fits_it(shift: float, scale: int) -> None:
    climb = Climb()
    rng = np.random.default_rng(2)
    climb.go(rng.normal(size=3000))
    scores = climb.go(rng.normal(size=400) * 0.1 + shift)
    first = np.argmax(scores.max(axis=1) > 12)
    assert abs(int(np.argmax(scores[first])) - scale) <= 1


def test_wandering_blinds_the_long_scales_and_no_others() -> None:
    climb, rng = Climb(), np.random.default_rng(2)
    wander, level = np.empty(12_000), 0.0
    for i in range(len(wander)):
        level += -level / 180 + 0.5 * (2 / 180) ** 0.5 * rng.normal()
        wander[i] = level
    climb.go(rng.normal(size=len(wander)) + wander)
    spread = climb.ladder.state["variance"][:, Signal.CONFIDENCE, 0] * SCALE_WINDOWS
    assert spread[0] < 1.6
    assert spread[6] > 5


def test_a_lasting_shift_is_the_new_reference_in_the_end() -> None:
    climb, rng = Climb(), np.random.default_rng(2)
    climb.go(rng.normal(size=2000))
    scores = climb.go(rng.normal(size=3000) + 2)
    short = scores[:, :5].max(axis=1)
    assert short[:30].max() > 10
    assert short[-300:].max() < 8


def test_a_channel_has_the_highest_score_of_its_signals() -> None:
    scores = np.random.default_rng(1).normal(size=(SCALES, SIGNALS, 3)).astype(np.float32)
    out = np.empty((6, 3), np.float32)
    ladder.channel_maxima(scores, out)
    assert np.array_equal(out[Channel.LATENCY], scores[:, 1:3].max(axis=(0, 1)))
    assert np.array_equal(out[Channel.CLASSES], scores[:, 6:].max(axis=(0, 1)))
