"""The bank of CUSUMs."""

import numpy as np
import pytest

from pipeline.core.detection import bank
from pipeline.core.detection.bank import MEMBERS, MEMBERS_OF_CHANNEL, Bank, member_name
from pipeline.core.detection.baseline import Residuals
from pipeline.core.detection.learning import NOTES
from pipeline.core.detection.signals import COUNTS, GAUSSIANS, SIGNALS, Channel


def residuals(z: float = 0.0, precision: float = 0.0, count: float = 0.0, expected: float = 0.0) -> Residuals:
    """One window of one model."""

    def full(rows: int, value: float) -> np.ndarray:
        return np.full((1, rows, 1), value, np.float32)

    return Residuals(
        z=full(SIGNALS, z),
        robust_z=full(SIGNALS, z),
        expected=full(SIGNALS, 0),
        judged=np.ones((1, SIGNALS, 1), np.bool_),
        precision=full(GAUSSIANS, precision),
        count_scaled=full(COUNTS, count),
        expected_scaled=full(COUNTS, expected),
        unit=full(SIGNALS, 1),
        trust=full(SIGNALS, 1),
        notes=np.zeros((1, NOTES, SIGNALS, 1), np.float32),
    )


def run(windows: list[Residuals]) -> tuple[Bank, np.ndarray]:
    machine = Bank()
    machine.state.add(1)
    work = np.empty((MEMBERS, 1), np.float32)
    for window in windows:
        machine.step(machine.state.view(0, 1), machine.evidence(window)[0], work)
    return machine, machine.state["sum"][:, 0]


def member(name: str, channel: Channel) -> int:
    members = MEMBERS_OF_CHANNEL[channel]
    return next(m for m in range(members.start, members.stop) if member_name(m) == name)


def test_a_member_sums_the_log_likelihood_ratio_of_its_effect() -> None:
    _, sums = run([residuals(z=-1.0, precision=50.0)] * 4)  # an effect of .02 is one standard deviation
    assert sums[member("cusum -0.02", Channel.CONFIDENCE)] == pytest.approx(4 * (1.0 - 0.5))
    assert sums[member("cusum +0.02", Channel.CONFIDENCE)] == 0


def test_a_member_of_counts_sums_that_of_its_ratio() -> None:
    _, sums = run([residuals(count=30.0, expected=50.0)] * 3)
    assert sums[member("cusum x0.5", Channel.TRAFFIC)] == pytest.approx(3 * (30 * np.log(0.5) + 25), rel=1e-5)
    assert sums[member("cusum x1.25", Channel.TRAFFIC)] == 0


def test_many_observations_make_a_small_effect_plain() -> None:
    """The same shift of .01, behind it 100 observations or 10,000."""
    few, many = (run([residuals(z=-0.01 * p, precision=p)] * 10)[1].max() for p in (10 / 0.12, 100 / 0.12))
    assert many > 20 * few


def test_evidence_begins_where_the_sum_was_last_nothing() -> None:
    calm, faulty = residuals(z=1.5, precision=50.0), residuals(z=-2.0, precision=50.0)
    machine, _ = run([*[calm] * 30, *[faulty] * 5])
    assert machine.state["windows"][member("cusum -0.02", Channel.CONFIDENCE), 0] == 5


def test_what_cannot_be_judged_is_no_evidence() -> None:
    _, sums = run([residuals(z=3.0, precision=50.0), residuals(z=3.0)])
    again, _ = run([residuals(z=3.0, precision=50.0)])
    assert np.array_equal(sums, again.state["sum"][:, 0])


def test_evidence_beyond_need_is_cut_so_that_an_alert_can_end() -> None:
    machine, _ = run([residuals(z=-4.0, precision=50.0)] * 500)
    breached = np.zeros((6, 1), np.bool_)
    breached[Channel.CONFIDENCE] = True
    most = np.full((6, 1), 12.0, np.float32)
    machine.cap(machine.state.view(0, 1), breached, most)
    scores = machine.state["sum"] * machine.state["slope"] + machine.state["at_zero"]
    assert scores[MEMBERS_OF_CHANNEL[Channel.CONFIDENCE]].max() == pytest.approx(12.0, rel=1e-4)
    assert scores[MEMBERS_OF_CHANNEL[Channel.LATENCY]].max() > 100


def test_every_signal_has_its_members_and_every_member_a_name() -> None:
    assert [s.stop - s.start for s in MEMBERS_OF_CHANNEL] == [12, 24, 10, 10, 10, 90]
    assert MEMBERS_OF_CHANNEL[-1].stop == MEMBERS == len(bank.SIGNAL_OF_MEMBER) == len(bank.NEED)
    assert {member_name(m) for m in range(12)} == {
        f"cusum {s}{e}" for s in "+-" for e in (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
    }
    assert member_name(12) == "cusum x1.03"
    assert member_name(18) == "cusum x0.97"
