"""The machine of rules: whom it speaks of, since when, and what it keeps."""

from typing import Any

import pytest

from pipeline.core.condition import Condition
from pipeline.core.rules.engine import FORGET_S, RuleEngine
from pipeline.core.words import duration
from schemas.rule import Rule
from tests.alerting import START_MS, START_S, rows, rule


def engine(*rules: Rule, owns: Any = None) -> RuleEngine:
    machine = RuleEngine() if owns is None else RuleEngine(owns)
    for one in rules:
        machine.set(one)
    machine.tick(START_MS)
    return machine


def hear(machine: RuleEngine, at_s: int, *models: dict[str, Any]) -> None:
    row = {"window_start_s": START_S + at_s, "inference_count": 100}
    machine.observe(*rows([row | model for model in models]))


def after(machine: RuleEngine, at_s: int) -> list[Condition]:
    return machine.tick(START_MS + at_s * 1000)


def test_each_version_is_judged_by_itself() -> None:
    machine = engine(rule(model_id="helmets"))
    hear(machine, 0, {"model_id": "helmets/3"}, {"model_id": "helmets/4", "error_count": 50}, {"model_id": "boots/1"})
    found = {c.subject.model_id: c.breached for c in after(machine, 10)}
    assert found == {"helmets/3": False, "helmets/4": True}


def test_workspaces_do_not_meet() -> None:
    machine = engine(rule(), rule(rule_id="s", workspace="b"))
    hear(machine, 0, {}, {"workspace": "b", "error_count": 100}, {"workspace": "c"})
    found = {(c.subject.workspace, c.subject.rule_id): c.breached for c in after(machine, 10)}
    assert found == {("acme", "r"): False, ("b", "s"): True}


def test_every_window_end_is_judged_however_many_are_complete_at_once() -> None:
    machine = engine(rule())
    hear(machine, 0, {"error_count": 100})
    hear(machine, 10, {})
    found = after(machine, 30)
    assert [(c.at_ms - START_MS, c.breached) for c in found] == [(10_000, True), (20_000, True), (30_000, True)]
    assert [round(c.value or 0, 2) for c in found] == [1.0, 0.5, 0.5]


def test_where_nobody_listens_only_a_breach_is_told_and_what_follows_it() -> None:
    machine = engine(rule(threshold=0.4))
    hear(machine, 10, {"error_count": 100})
    hear(machine, 0, {})
    hear(machine, 20, {})
    found = machine.tick(START_MS + 30_000, lambda subject: False)
    assert [(c.at_ms - START_MS, c.breached) for c in found] == [(20_000, True), (30_000, False)]
    hear(machine, 30, {})
    assert machine.tick(START_MS + 40_000, lambda subject: False) == []


def test_all_devices_of_a_model_count_together() -> None:
    machine = engine(rule())
    hear(machine, 0, {"device_id": "a", "error_count": 100}, {"device_id": "b"}, {"device_id": ""})
    (found,) = after(machine, 10)
    assert found.value == pytest.approx(1 / 3)
    assert found.evidence["count"] == 300


def test_a_late_correction_counts() -> None:
    machine = engine(rule())
    hear(machine, 0, {})
    after(machine, 10)
    hear(machine, 0, {"error_count": 100})
    (found,) = after(machine, 20)
    assert found.value == 0.5


def test_a_condition_says_what_the_rule_says() -> None:
    of = rule(name="Errors", hold_s=20, keep_firing_s=30, severity="critical", labels={"team": "vision"}, min_count=7)
    machine = engine(of)
    hear(machine, 0, {"error_count": 25})
    (found,) = after(machine, 10)
    assert (found.hold_ms, found.keep_firing_ms, found.severity.value) == (20_000, 30_000, "critical")
    assert (found.value, found.threshold, found.expected) == (0.25, 0.1, None)
    assert found.labels == {"team": "vision"}
    assert found.evidence == {"rule": "Errors", "window_s": 60, "operator": ">", "count": 100, "min_count": 7}


@pytest.mark.parametrize(
    ("fields", "row", "words"),
    [
        ({}, {"error_count": 25}, "helmets/3: share of failed inferences over 1 min 25 %, above 10 %"),
        ({}, {}, "helmets/3: share of failed inferences over 1 min 0 %, not above 10 %"),
        (
            {"min_count": 500, "window_s": 7200},
            {},
            "helmets/3: share of failed inferences over 2 h unknown: 100 of the 500 needed",
        ),
        (
            {"metric": "inference_count", "operator": "<", "threshold": 1000, "window_s": 90},
            {},
            "helmets/3: inferences over 90 s 100 so far",
        ),
        (
            {"metric": "latency_mean_ms", "threshold": 50, "device_id": "cam-7"},
            {"latency_count": 10, "latency_us_sum": 612_345},
            "helmets/3 on cam-7: mean latency over 1 min 61.2 ms, above 50 ms",
        ),
        (
            {"metric": "silence_s", "operator": ">=", "threshold": 0},
            {},
            "helmets/3 silent for 0 s, at or above 0 s",
        ),
    ],
)
def test_the_summary_is_a_sentence(fields: dict[str, Any], row: dict[str, Any], words: str) -> None:
    machine = engine(rule(**fields))
    hear(machine, 0, row)
    (found,) = after(machine, 10)
    assert found.summary == words


def test_the_classes_that_changed_most_are_named() -> None:
    machine = engine(rule(metric="class_distance", threshold=0.1))
    for i in range(20):
        person = 90 if i < 14 else 10
        counts = [{"class": "person", "detection_count": person}, {"class": "car", "detection_count": 10}]
        start = {"window_start_s": START_S + i * 10}
        machine.observe(*rows([start], [start | count for count in counts]))
    found = after(machine, 200)[-1]
    assert found.breached
    assert found.evidence["classes"] == [
        {"class": "person", "share": 0.5, "expected": 0.9},
        {"class": "car", "share": 0.5, "expected": 0.1},
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.5, "0.5 s"),
        (45, "45 s"),
        (60, "1 min"),
        (90, "90 s"),
        (300, "5 min"),
        (3600, "1 h"),
        (5400, "90 min"),
        (86_400, "24 h"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_has_the_unit_that_people_would_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_rule_that_comes_later_begins_with_what_comes_then() -> None:
    machine = engine(rule())
    hear(machine, 0, {"error_count": 100})
    after(machine, 10)
    machine.set(rule(rule_id="s", metric="empty_rate", window_s=600))
    hear(machine, 10, {"empty_count": 100})
    found = {c.subject.rule_id: c.value for c in after(machine, 20)}
    assert found == {"r": 0.5, "s": 0.5}  # the sums are the same ones, only the window is longer


def test_a_rule_says_whether_what_it_was_about_is_not_judged_any_more() -> None:
    machine = engine()
    assert machine.set(rule()) is False
    assert machine.set(rule()) is False
    assert machine.set(rule(threshold=0.5, window_s=600, hold_s=5)) is False
    assert machine.set(rule(metric="empty_rate")) is True
    assert machine.set(rule(metric="empty_rate", model_id="helmets")) is True
    assert machine.set(rule(metric="empty_rate", model_id="helmets", enabled=False)) is True
    assert machine.set(rule(metric="error_rate", enabled=False)) is False
    assert machine.delete("r") is False
    assert machine.delete("r") is False
    machine.set(rule())
    assert machine.delete("r") is True


def test_a_rule_that_is_gone_finds_nothing_and_keeps_nothing() -> None:
    machine = engine(rule())
    hear(machine, 0, {})
    machine.delete("r")
    assert after(machine, 10) == []
    assert machine.snapshot().models == []


def test_what_no_rule_is_about_is_not_kept() -> None:
    machine = engine(rule(model_id="helmets"), rule(rule_id="s", metric="silence_s", model_id="boots"))
    hear(machine, 0, {"model_id": "gloves/1"}, {"model_id": "boots/1", "latency_histogram": {220: 100}})
    after(machine, 10)
    (kept,) = machine.snapshot().models
    assert kept.model_id == "boots/1"
    assert [series.fine for series in kept.series.values()] == [{}]


def test_only_what_a_metric_needs_is_kept() -> None:
    def index(metric: str) -> set[int]:
        machine = engine(rule(metric=metric))
        whole = {"latency_histogram": {220: 100}, "confidence_histogram": {40: 7}, "detection_count": 7}
        hear(machine, 0, whole)
        after(machine, 10)
        (series,) = machine.snapshot().models[0].series.values()
        ((which, _),) = series.fine.values()
        return set(which.tolist())

    assert max(index("error_rate")) < 7
    assert 7 <= max(index("confidence_p5")) < 108
    assert max(index("latency_p95_ms")) > 108


def test_one_partition_alone_speaks_of_a_named_model_that_is_silent() -> None:
    of = rule(metric="silence_s", threshold=30, model_id="helmets/3")
    assert [c.breached for c in after(engine(of), 60)] == [False] * 2 + [True] * 4
    assert after(engine(of, owns=lambda workspace, model_id: False), 60) == []


def test_a_model_that_no_rule_names_is_forgotten_after_a_week() -> None:
    named = rule(rule_id="n", metric="silence_s", threshold=30, model_id="helmets/3")
    machine = engine(rule(metric="silence_s", threshold=30), named)
    hear(machine, 0, {}, {"model_id": "boots/1"})
    # An empty log is not walked through in steps of 10 s.
    assert {c.subject.model_id for c in after(machine, FORGET_S)} == {"helmets/3", "boots/1"}
    assert {c.subject.model_id for c in after(machine, FORGET_S + 7300)[-2:]} == {"helmets/3"}


def test_a_hole_in_the_log_is_crossed_at_once_and_then_judged_step_by_step() -> None:
    machine = engine(rule(metric="silence_s", threshold=30))
    hear(machine, 0, {})
    hear(machine, 600_000, {})
    found = after(machine, 600_010)
    assert len(found) < 10 + 400
    assert [c.value for c in found[-3:]] == [599_980.0, 599_990.0, 0.0]
