"""Moments as people type them: 2026-07-01, 2026-07-01T12:00, or 7d (ago). UTC unless said otherwise."""

from datetime import UTC, datetime

import typer

from pipeline.cli.duration import seconds


def moment_s(text: str, now_ms: int) -> int:
    """Seconds since 1970. Raises typer.BadParameter."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return now_ms // 1000 - round(seconds(text))
        except typer.BadParameter as error:
            raise typer.BadParameter(f"expected a time like 2026-07-01T12:00 or 7d (ago), got {text!r}") from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
