"""Durations as people type them."""

import pytest
import typer

from pipeline.cli.duration import seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("20s", 20), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), (" 3s ", 3)]
)
def test_a_number_and_a_unit_is_a_duration(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "20", "s", "-1s", "1w", "1s2m", "1e3s"])
def test_anything_else_is_a_mistake_that_says_what_is_expected(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a duration like 500ms, 20s, 5m, 2h or 1d"):
        seconds(text)
