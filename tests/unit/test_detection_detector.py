"""Automatic detection as a whole: records in, findings out."""

import msgspec
import numpy as np
import pytest

from pipeline.core.detection.anomaly import Anomaly
from pipeline.core.detection.detector import FORGOTTEN_WINDOWS, AutomaticDetector, DetectionState
from pipeline.core.detection.signals import Channel, Signal, Signals
from pipeline.core.state import decode, encode
from pipeline.core.windows.log_clock import WINDOW_MS
from schemas.alert import Severity
from tests.detection import MONDAY_MS, Health, Life, model_rows, window_rows
from tests.states import reloaded

WELL = Health()
TWENTY_MINUTES = 120


def breached(found: list[Anomaly], channel: Channel) -> list[Anomaly]:
    return [finding for finding in found if finding.channel is channel and finding.breached]


@pytest.fixture(scope="module")
def grown() -> dict[str, object]:
    """A model that has been well for 20 minutes."""
    life = Life()
    assert life.go(TWENTY_MINUTES, WELL) == []
    return {"saved": encode(life.detector.snapshot()), "now_ms": life.now_ms}


def state_of(grown: dict[str, object]) -> DetectionState:
    state = decode(DetectionState, grown["saved"])  # type: ignore[arg-type]
    assert isinstance(state, DetectionState)
    return state


def continued(grown: dict[str, object]) -> Life:
    life = Life(seed=2, start_ms=grown["now_ms"])  # type: ignore[arg-type]
    life.detector.restore(state_of(grown))
    return life


@pytest.mark.parametrize(
    ("fault", "channel", "windows"),
    [
        (Health(confidence=0.6), Channel.CONFIDENCE, 3),
        (Health(latency_ms=90.0), Channel.LATENCY, 3),
        (None, Channel.TRAFFIC, 3),
        (Health(inferences=120.0), Channel.TRAFFIC, 4),
        (Health(error_rate=0.6), Channel.ERRORS, 4),
        (Health(empty_rate=0.8), Channel.EMPTY, 6),
        (Health(shares={"person": 0.2, "car": 0.3, "dog": 0.5}), Channel.CLASSES, 6),
    ],
    ids=lambda value: value.name if isinstance(value, Channel) else "",
)
def test_a_gross_fault_is_found_20_minutes_after_a_model_is_first_seen(
    grown: dict[str, object], fault: Health | None, channel: Channel, windows: int
) -> None:
    life = continued(grown)
    start_ms = life.now_ms
    found = breached(life.go(windows, fault), channel)
    assert found
    assert abs(found[0].since_ms - start_ms) <= WINDOW_MS * 2
    assert found[0].at_ms <= start_ms + windows * WINDOW_MS


def test_a_finding_says_what_was_seen_and_what_was_expected(grown: dict[str, object]) -> None:
    (finding, *_) = breached(continued(grown).go(3, Health(confidence=0.6)), Channel.CONFIDENCE)
    assert (finding.workspace, finding.model_id, finding.signal) == ("acme", "helmets/3", Signal.CONFIDENCE)
    assert finding.value == pytest.approx(0.6, abs=0.1)
    assert finding.expected == pytest.approx(0.8, abs=0.02)
    assert finding.score >= finding.threshold
    assert finding.severity is Severity.CRITICAL
    assert finding.summary.startswith("helmets/3: mean confidence is 0.6")
    condition = finding.condition()
    assert condition.breached
    assert condition.subject.metric == "confidence"
    assert msgspec.json.encode(condition.evidence)


def test_a_class_is_called_by_its_name(grown: dict[str, object]) -> None:
    found = breached(continued(grown).go(8, Health(shares={"person": 0.05, "car": 0.05, "dog": 0.9})), Channel.CLASSES)
    assert found[0].class_name in ("person", "dog")


def test_what_is_over_is_told_once(grown: dict[str, object]) -> None:
    life = continued(grown)
    assert breached(life.go(20, Health(confidence=0.6)), Channel.CONFIDENCE)
    found = [f for f in life.go(40, WELL) if f.channel is Channel.CONFIDENCE]
    assert [f.breached for f in found if f.breached is False] == [False]
    assert not found[-1].breached
    assert not life.detector.breached.any()


@pytest.mark.slow
def test_nothing_is_learned_of_what_is_breached(grown: dict[str, object]) -> None:
    life = continued(grown)
    found = life.go(600, Health(confidence=0.6))  # 100 minutes
    last = breached(found, Channel.CONFIDENCE)[-1]
    assert last.at_ms >= life.now_ms - 6 * WINDOW_MS
    assert last.expected == pytest.approx(0.8, abs=0.02)


def test_a_new_normal_that_is_accepted_ends_the_alert(grown: dict[str, object]) -> None:
    life, worse = continued(grown), Health(confidence=0.6)
    life.go(30, worse)
    life.detector.accept(("acme", "helmets/3"), Channel.CONFIDENCE)
    found = [f for f in life.go(120, worse) if f.channel is Channel.CONFIDENCE]
    assert found[-1].breached is False
    assert breached(life.go(60, WELL), Channel.CONFIDENCE)[0].expected == pytest.approx(0.6, abs=0.02)


def test_nothing_is_learned_while_masked(grown: dict[str, object]) -> None:
    state = []
    for masked in (True, False):
        life = continued(grown)
        life.go(20, Health(confidence=0.79), masked=masked)
        state.append(life.detector.snapshot().arrays["baseline"]["profile"].copy())
    assert np.array_equal(state[0], state_of(grown).arrays["baseline"]["profile"])
    assert not np.array_equal(state[1], state[0])


def test_windows_that_nobody_spoke_in_are_made_up(grown: dict[str, object]) -> None:
    told, jumped = continued(grown), continued(grown)
    found = told.go(5)
    rows = model_rows(np.random.default_rng(9), WELL, told.now_ms)
    found += told.detector.observe(told.now_ms, [window_rows(*rows)])
    assert jumped.detector.observe(told.now_ms, [window_rows(*rows)]) == found
    assert breached(found, Channel.TRAFFIC)


def test_a_window_that_was_judged_before_is_passed_over(grown: dict[str, object]) -> None:
    life = continued(grown)
    life.now_ms -= 20 * WINDOW_MS
    assert life.go(20, None) == []
    assert encode(life.detector.snapshot()) == grown["saved"]


@pytest.mark.slow
def test_windows_that_are_known_together_are_judged_as_one_by_one() -> None:
    life = Life()
    life.go(750, WELL)  # old enough that nothing is learned within a minute
    saved, start_ms, rng = life.detector.snapshot(), life.now_ms, np.random.default_rng(5)
    health = [Health(confidence=0.6) if 40 <= window < 47 else WELL for window in range(90)]
    made = [model_rows(rng, how, start_ms + i * WINDOW_MS) for i, how in enumerate(health)]
    single, together = AutomaticDetector(), AutomaticDetector()
    single.restore(reloaded(saved))
    together.restore(reloaded(saved))
    whole = window_rows([row for rows, _ in made for row in rows], [row for _, rows in made for row in rows])
    end_ms = start_ms + len(made) * WINDOW_MS
    found = []
    for i, rows in enumerate(made):
        at_ms = start_ms + i * WINDOW_MS
        found.append(single.observe(at_ms, [window_rows(*rows)]))
        assert together.observe(at_ms, [whole], through_ms=end_ms) == found[-1]
        assert encode(together.snapshot()) == encode(single.snapshot())
    assert [f.breached for window in found for f in window if f.channel is Channel.CONFIDENCE][-1] is False


def test_rows_of_other_windows_are_not_of_this_one() -> None:
    rng = np.random.default_rng(1)
    (a, b), (c, d) = (model_rows(rng, WELL, MONDAY_MS + i * WINDOW_MS) for i in range(2))
    one, two = AutomaticDetector(), AutomaticDetector()
    one.observe(MONDAY_MS, [window_rows(a, b)])
    two.observe(MONDAY_MS, [window_rows(a + c, b + d)])
    assert encode(one.snapshot()) == encode(two.snapshot())


def test_a_model_that_is_silent_for_a_week_is_forgotten_and_that_is_told(grown: dict[str, object]) -> None:
    life = continued(grown)
    detector = life.detector
    assert breached(life.go(3), Channel.TRAFFIC)
    index = life.now_ms // WINDOW_MS
    found = []
    while len(detector):
        # The days in between are left out; what counts is how many windows were silent.
        detector._judgement._baseline.state["quiet"][:] = FORGOTTEN_WINDOWS
        found += detector.advance(index, Signals.nothing(1), np.zeros(1, np.bool_))
        index += 1
    assert [f.breached for f in found if f.channel is Channel.TRAFFIC][-1] is None
    assert detector.snapshot().models == []
    assert not detector.advance(index, Signals.nothing(0), np.zeros(0, np.bool_))


def test_memory_of_a_model_is_fixed_and_said() -> None:
    assert AutomaticDetector().bytes_per_model < 15_300
