"""A real Kafka and a real ClickHouse as child processes, from packages only: for a laptop, for tests, for CI."""

from collections.abc import Callable
from dataclasses import dataclass


class EmbeddedError(Exception):
    """The embedded servers cannot run; the text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one step of starting is. `total` 0: nobody knows; `done` == `total` > 0: finished."""

    step: str
    done: int = 0
    total: int = 0
    detail: str = ""


ProgressCallback = Callable[[Progress], None]


def unwatched(_: Progress) -> None:
    """The ProgressCallback of those who do not look."""
