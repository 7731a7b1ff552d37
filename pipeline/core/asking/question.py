"""A question to ClickHouse as data: its text, and the values that the text names. Who asks it adds the workspace."""

from collections.abc import Mapping
from dataclasses import dataclass, field

WORKSPACE = "{workspace:String}"  # in every text: the workspace that is asked about
ROWS_MAX = 10_000
KEYS_MAX = 200_000  # models, devices or classes, a row each
SECONDS_MAX = 10


@dataclass(frozen=True, slots=True)
class Question:
    """One SELECT; values are bound ({name:Type}), never pasted. The name `workspace` is taken."""

    text: str
    parameters: Mapping[str, str | float | int] = field(default_factory=dict)
    rows_max: int = ROWS_MAX
    seconds_max: int = SECONDS_MAX
