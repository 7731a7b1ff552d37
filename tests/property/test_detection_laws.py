"""Laws of automatic detection: restarts, partitions and the order of rows change nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.detection.anomaly import Anomaly
from pipeline.core.detection.detector import AutomaticDetector
from pipeline.core.state import encode
from pipeline.core.windows.log_clock import WINDOW_MS
from tests.detection import MONDAY_MS, Health, model_rows, window_rows
from tests.states import reloaded

MODELS = ("a", "b", "c")
WINDOWS = 72
Rows = dict[str, tuple[list[dict[str, object]], list[dict[str, object]]]]

faults = st.sampled_from([Health(confidence=0.5), Health(latency_ms=200.0), Health(inferences=0.0)])


def story(seed: int, fault: Health, faulty: str) -> list[Rows]:
    """Three models; one of them begins late, and one gets worse after 68 windows."""
    rng, out = np.random.default_rng(seed), []
    for window in range(WINDOWS):
        rows: Rows = {}
        for model in MODELS:
            if model == "c" and window < 20:
                continue
            health = fault if model == faulty and window >= 68 else Health()
            rows[model] = model_rows(rng, health, MONDAY_MS + window * WINDOW_MS, model, devices=2)
        out.append(rows)
    return out


def observe(detector: AutomaticDetector, window: int, rows: Rows, models: tuple[str, ...] = MODELS) -> list[Anomaly]:
    chosen = [rows[model] for model in models if model in rows]
    parts = window_rows([row for m, _ in chosen for row in m], [row for _, c in chosen for row in c])
    return detector.observe(MONDAY_MS + window * WINDOW_MS, [parts])


def test_something_is_found_in_the_stories() -> None:
    detector = AutomaticDetector()
    found = [f for w, rows in enumerate(story(1, Health(confidence=0.5), "a")) for f in observe(detector, w, rows)]
    assert any(f.breached and f.model_id == "a" for f in found)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 99), faults, st.sampled_from(MODELS[:2]), st.sets(st.integers(0, WINDOWS - 1), max_size=4))
def test_a_restart_from_a_snapshot_changes_nothing(seed: int, fault: Health, faulty: str, restarts: set[int]) -> None:
    whole, broken = AutomaticDetector(), AutomaticDetector()
    for window, rows in enumerate(story(seed, fault, faulty)):
        if window in restarts:
            saved = reloaded(broken.snapshot())
            broken = AutomaticDetector()
            broken.restore(saved)
        assert observe(whole, window, rows) == observe(broken, window, rows)
    assert encode(whole.snapshot()) == encode(broken.snapshot())


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 99), faults, st.sampled_from(MODELS[:2]))
def test_a_model_is_judged_alike_whoever_is_beside_it(seed: int, fault: Health, faulty: str) -> None:
    together = AutomaticDetector()
    apart = {model: AutomaticDetector() for model in MODELS}
    for window, rows in enumerate(story(seed, fault, faulty)):
        found = observe(together, window, rows)
        for model, detector in apart.items():
            assert observe(detector, window, rows, (model,)) == [f for f in found if f.model_id == model]


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 99), faults, st.sampled_from(MODELS[:2]))
def test_the_order_and_the_parts_of_a_window_change_nothing(seed: int, fault: Health, faulty: str) -> None:
    one, other = AutomaticDetector(), AutomaticDetector()
    for detector in (one, other):  # Columns and seats in the same order.
        detector.watch([("acme", model) for model in MODELS])
    for window, rows in enumerate(story(seed, fault, faulty)):
        parts = [window_rows(m[::-1], c) for m, c in rows.values()]
        assert observe(one, window, rows) == other.observe(MONDAY_MS + window * WINDOW_MS, parts[::-1])
