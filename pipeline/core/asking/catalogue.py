"""What there is in a workspace: its models."""

from pipeline.core.asking.question import WORKSPACE, Question


def models() -> Question:
    """model_id, name, version, first and last window (seconds)."""
    return Question(
        "SELECT model_id, model, version, toUnixTimestamp(first_window), toUnixTimestamp(last_window) "
        f"FROM models WHERE workspace = {WORKSPACE} ORDER BY model_id"
    )
