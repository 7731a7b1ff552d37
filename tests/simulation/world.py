"""One seed: a small world of some roles, a storm, then calm and the count. Nothing is patched: the world is given."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.simulation.alerting import Alerting
from tests.simulation.counting import Counting
from tests.simulation.loop import VirtualLoop
from tests.simulation.luck import Luck
from tests.simulation.worker import Bug


class Scene(Protocol):
    """A small world."""

    async def run(self) -> None:
        """From the first record to the count. Raises ViolationError."""


SCENES: Mapping[str, Callable[[Luck, Bug], Scene]] = {"counting": Counting, "alerting": Alerting}


def run(scene: str, seed: int, trace: Callable[[str], None] | None = None, bug: Bug | None = None) -> Counter[str]:
    """One world. Raises ViolationError; what happened in it."""
    luck, loop = Luck(seed, trace), VirtualLoop()
    random.seed(seed)  # the waits of who tries again

    async def live() -> None:
        await SCENES[scene](luck, bug or Bug()).run()

    try:
        loop.run_until_complete(live())
    finally:
        loop.end()
    return luck.counts
