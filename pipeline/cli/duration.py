"""Durations as people type them: 500ms, 20s, 5m, 2h, 1d."""

import re

import typer

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")


def seconds(text: str) -> float:
    """'90s' -> 90.0. Raises typer.BadParameter."""
    match = _DURATION.match(text.strip())
    if not match:
        raise typer.BadParameter(f"expected a duration like 500ms, 20s, 5m, 2h or 1d, got {text!r}")
    return float(match.group(1)) * _SECONDS[match.group(2)]
