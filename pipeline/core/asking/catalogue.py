"""What there is in a workspace, whenever it was: its models."""

from pipeline.core.asking.language import Filter
from pipeline.core.asking.question import WORKSPACE, Question
from pipeline.core.asking.sql import Bound, window_where

MODELS_MAX = 1000


def models(asked: Filter) -> Question:
    """model_id, name, version, first and last window (seconds), how many there are; the one seen last first."""
    bound = Bound()
    return Question(
        "SELECT model_id, replaceRegexpOne(model_id, '/[^/]*$', '') AS name, "
        "if(name = model_id, '', substring(model_id, length(name) + 2)), "
        "toUnixTimestamp(min(first_window)), toUnixTimestamp(max(last_window)) AS last, count() OVER () "
        f"FROM model_devices WHERE workspace = {WORKSPACE} AND {window_where(asked, bound)} "
        f"GROUP BY model_id ORDER BY last DESC, model_id LIMIT {MODELS_MAX}",
        bound.parameters,
    )
