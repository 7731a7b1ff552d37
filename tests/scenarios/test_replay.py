"""From windows to the steps of alerts: rules and the life cycle together, over history."""

from pipeline.core.history.replay import Replay
from schemas.alert import AlertEvent
from tests.alerting import START_MS, START_S, rows, rule


def history(errors: str) -> list[AlertEvent]:
    """A window of 10 inferences for each digit, of which so many failed."""
    windows = []
    for i, letter in enumerate(errors):
        row = {"window_start_s": START_S + i * 10, "inference_count": 10, "error_count": int(letter)}
        windows.append((START_MS + (i + 1) * 10_000, *rows([row])))
    of = rule(threshold=0.3, hold_s=20, keep_firing_s=20, min_count=20)
    machine = Replay([of, rule(rule_id="off", enabled=False)])
    return [step for window in windows for step in machine.observe(*window)]


def test_a_bad_spell_fires_once_and_is_resolved_once() -> None:
    told = history("0000009999900000000000")
    assert [step.state.value for step in told] == ["pending", "firing", "recovering", "resolved"]
    # The minute holds more than 30 % errors from the third bad window on, until 4 good ones are in it.
    assert [(step.at_ms - START_MS) // 10_000 for step in told] == [9, 11, 15, 17]
    assert told[1].summary == "helmets/3: share of failed inferences over 1 min 75 %, above 30 %"


def test_a_blip_tells_nobody() -> None:
    told = history("0900000000")
    assert [(step.state.value, step.previous_state and step.previous_state.value) for step in told] == [
        ("pending", None),
        ("resolved", "pending"),
    ]


def test_history_that_is_replayed_again_is_told_in_the_same_words() -> None:
    assert history("0009999000009999990000") == history("0009999000009999990000")
