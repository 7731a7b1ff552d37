"""The demo's story, drawn: one letter a second."""

import pytest

from pipeline.trial.phases import schedule


@pytest.mark.parametrize(
    ("story", "degrade_after_s", "total_s", "drawn"),
    [
        ("all phases fit into the time", 20, 60, "h" * 20 + "n" * 8 + "d" * 7 + "s" * 18 + "r" * 7),
        ("with more time it recovers for longer", 20, 120, "h" * 20 + "n" * 20 + "d" * 20 + "s" * 25 + "r" * 35),
        ("a short demo plays what it can", 5, 17, "h" * 5 + "n" * 5 + "d" * 5 + "s" * 2),
        ("there may be no end", 10, None, "h" * 10 + "n" * 20 + "d" * 20 + "s" * 30 + "r" * 240 + "n"),
        ("it may begin at once", 0, 40, "n" * 8 + "d" * 7 + "s" * 18 + "r" * 7),
    ],
)
def test_timeline(story: str, degrade_after_s: float, total_s: float | None, drawn: str) -> None:
    plan = schedule(degrade_after_s, total_s)
    assert "".join(plan.at(second).name[0] for second in range(len(drawn))) == drawn, story


CYCLE = "n" * 20 + "d" * 20 + "s" * 30


@pytest.mark.parametrize(
    ("story", "total_s", "drawn"),
    [
        ("with automatic detection the cycle comes twice", 900, "h" * 20 + CYCLE + "r" * 540 + CYCLE + "r" * 200),
        ("and again for ever", None, "h" * 20 + CYCLE + "r" * 540 + CYCLE + "r" * 240 + CYCLE),
        ("a run that is too short for it has it once", 300, "h" * 20 + CYCLE[:40] + "s" * 30 + "r" * 210),
    ],
)
def test_timeline_until_automatic_detection_has_a_say(story: str, total_s: float | None, drawn: str) -> None:
    plan = schedule(20, total_s, history_s=630)
    assert "".join(plan.at(second).name[0] for second in range(len(drawn))) == drawn, story
