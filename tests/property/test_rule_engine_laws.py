"""Laws of rules: neither a restart nor the way the log was cut into records changes what is found."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.condition import Condition
from pipeline.core.rules.engine import RuleEngine
from schemas.rule import Rule
from tests.alerting import START_MS, START_S, rows, rule
from tests.states import reloaded

RULES = [
    rule(rule_id="a", metric="error_rate"),
    rule(rule_id="b", metric="latency_p95_ms", threshold=5, window_s=120),
    rule(rule_id="c", metric="confidence_p5", operator="<", threshold=0.5, model_id="helmets", window_s=3600),
    rule(rule_id="d", metric="class_share", threshold=0.5, **{"class": "person"}),
    rule(rule_id="e", metric="class_distance", threshold=0.2),
    rule(rule_id="f", metric="silence_s", threshold=30, model_id="helmets/3"),
    rule(rule_id="g", metric="inference_count", operator="<", threshold=5, device_id="cam-8"),
    rule(rule_id="h", metric="inference_count", operator="<", threshold=5, window_s=7200, model_id="boots/1"),
    rule(rule_id="i", metric="class_count", threshold=3, window_s=300, **{"class": "car"}),
    rule(rule_id="j", metric="confidence_mean", threshold=0.5, window_s=180, **{"class": "car"}),
]

models = st.fixed_dictionaries(
    {
        "model_id": st.sampled_from(["helmets/3", "helmets/4", "boots/1"]),
        "device_id": st.sampled_from(["cam-7", "cam-8", ""]),
        "inference_count": st.integers(1, 5),
        "error_count": st.integers(0, 1),
        "latency_count": st.integers(1, 5),
        "latency_histogram": st.dictionaries(
            st.integers(-1, 600).map(lambda b: b if b >= 0 else -(2**31)), st.integers(1, 3)
        ),
        "confidence_histogram": st.dictionaries(st.integers(0, 100), st.integers(1, 3)),
        "detection_count": st.integers(0, 3),
    }
)
classes = st.fixed_dictionaries(
    {
        "model_id": st.sampled_from(["helmets/3", "helmets/4", "boots/1"]),
        "class": st.sampled_from(["person", "car", "hat"]),
        "detection_count": st.integers(1, 3),
        "inference_count": st.integers(1, 2),
        "confidence_ppm_sum": st.integers(1, 1_000_000),
    }
)
windows = st.tuples(st.lists(models, max_size=3), st.lists(classes, max_size=3))
# Windows are told up to 20 windows late or early; how many are complete after it.
parts = st.tuples(st.integers(-20, 3), windows, st.sampled_from([0, 1, 1, 1, 1, 1, 1, 3, 8, 370]))


def engine(*rules: Rule) -> RuleEngine:
    machine = RuleEngine()
    for one in rules:
        machine.set(one)
    machine.tick(START_MS)
    return machine


def hear(machine: RuleEngine, at: int, window: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    start = {"window_start_s": START_S + at * 10}
    machine.observe(*rows([row | start for row in window[0]], [row | start for row in window[1]]))


def restarted(machine: RuleEngine) -> RuleEngine:
    again = RuleEngine()
    again.restore(reloaded(machine.snapshot()))
    return again


Story = list[tuple[int, Any, int]]


def play(story: Story, changes: dict[int, Rule], restarts: set[int]) -> list[list[Condition]]:
    machine, at, found = engine(*RULES), 0, []
    for i, (late, window, complete) in enumerate(story):
        if i in restarts:
            machine = restarted(machine)
        if i in changes:
            machine.set(changes[i])
        hear(machine, at + late, window)
        at += complete
        found.append(machine.tick(START_MS + at * 10_000))
    return found


@settings(max_examples=25)
@given(
    st.lists(parts, max_size=15),
    st.dictionaries(
        st.integers(0, 14),
        st.sampled_from([rule(rule_id="a", metric="latency_p50_ms", window_s=600), rule(rule_id="c", enabled=False)]),
        max_size=2,
    ),
)
def test_a_restart_anywhere_finds_the_same(story: Story, changes: dict[int, Rule]) -> None:
    assert play(story, changes, set(range(len(story)))) == play(story, changes, set())


@settings(max_examples=25)
@given(st.lists(st.tuples(windows, st.integers(0, 5)), max_size=15))
def test_how_the_log_was_cut_does_not_matter(story: list[tuple[Any, int]]) -> None:
    """All at once, in any order, is found as window after window."""
    one_by_one, at_once = engine(*RULES), engine(*RULES)
    starts, at = [], 0
    for window, gap in story:
        starts.append((at, window))
        at += 1 + gap
    found = []
    for start, window in starts:
        found += one_by_one.tick(START_MS + start * 10_000)
        hear(one_by_one, start, window)
    found += one_by_one.tick(START_MS + at * 10_000)
    for start, window in starts:
        hear(at_once, start, window)
    assert key(at_once.tick(START_MS + at * 10_000)) == key(found)


def key(found: list[Condition]) -> list[Any]:
    """What is found but for its order, and for what is unknown of a subject before it is heard of."""
    known = [c for c in found if c.breached is not None]
    return sorted((c.at_ms, c.subject.fingerprint, c.breached, c.value, c.evidence["count"]) for c in known)
