"""A fault of an hour, of eight, of two days, and then all is well again: the alert ends soon, and there is one only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.core.detection.detector import AutomaticDetector
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import Signals
from tests.performance.detect.workload import FIRST_INDEX, Fault, Truth, World, look, with_fault

pytestmark = pytest.mark.slow

HOURS = (1, 8, 48)  # of the fault
SETTLED_DAYS, CALM_HOURS = 1, 10
FAULTS = (
    Fault("confidence", 0.05),
    Fault("latency", 1.25),
    Fault("traffic", 0.0),
    Fault("traffic", 0.5),
    Fault("errors", 20.0),
    Fault("class", 0.30),
    Fault("empty", 2.0),
)
BREACHED, CALM = True, False

Changes = list[tuple[int, bool]]  # (windows since the fault began, whether breached from then on)


@pytest.fixture(scope="module")
def told() -> dict[tuple[Fault, int], Changes]:
    """What became of each fault and length; they are models of one detector, seed 41."""
    cases = [(fault, hours) for fault in FAULTS for hours in HOURS]
    detector = AutomaticDetector()
    detector.watch([("acme", str(number)) for number in range(len(cases))])
    world, rng = World(len(cases), 41, dirty=False), np.random.default_rng(42)
    begin = SETTLED_DAYS * WINDOWS_PER_DAY
    unmasked = np.zeros(len(cases), np.bool_)
    changes: dict[tuple[Fault, int], Changes] = {case: [] for case in cases}
    before = np.zeros(len(cases), np.bool_)
    for day in range(SETTLED_DAYS + 3):
        seen = look(_with_faults(world.day_truth(day), cases, day * WINDOWS_PER_DAY - begin), rng)
        for window in range(WINDOWS_PER_DAY):
            index = day * WINDOWS_PER_DAY + window
            detector.advance(FIRST_INDEX + index, Signals(seen.x[window], seen.n[window]), unmasked)
            now = np.array([detector.breached[fault.channel, i] for i, (fault, _) in enumerate(cases)])
            for i in np.flatnonzero(now != before).tolist():
                changes[cases[i]].append((index - begin + 1, bool(now[i])))
            before = now
            if index - begin > (max(HOURS) + CALM_HOURS) * WINDOWS_PER_HOUR:
                return changes
    raise AssertionError("the story is longer than its days")


def _with_faults(truth: Truth, cases: Sequence[tuple[Fault, int]], since: int) -> Truth:
    """A day that begins so many windows after the faults did."""
    ages = np.arange(since, since + WINDOWS_PER_DAY)[:, None]
    out: dict[str, Any] = {name: getattr(truth, name).copy() for name in Truth.__dataclass_fields__}
    for column, (fault, hours) in enumerate(cases):
        faulty = with_fault(truth, fault)
        lasts = ((ages >= 0) & (ages < hours * WINDOWS_PER_HOUR))[:, 0]
        for name, array in out.items():
            array[lasts, column] = getattr(faulty, name)[lasts, column]
    return Truth(**out)


@pytest.mark.parametrize("hours", HOURS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_an_alert_ends_soon_after_its_fault_and_does_not_come_back(
    told: dict[tuple[Fault, int], Changes], fault: Fault, hours: int
) -> None:
    end = hours * WINDOWS_PER_HOUR
    changes = [change for change in told[fault, hours] if change[0] > 0]
    assert [breached for _, breached in changes] == [BREACHED, CALM], changes
    (began, _), (ended, _) = changes
    assert began <= 30
    assert end < ended <= end + max(3 * began, 30)
