"""Metrics of one small world: what the workers count, by name and labels."""

from typing import Any

from tests.simulation.luck import Luck


class Counts:
    """Stands for pipeline.edge.metrics, for one seed."""

    def __init__(self, luck: Luck) -> None:
        self._luck = luck

    def __getattr__(self, name: str) -> "Counted":
        return Counted(self._luck, name)


class Counted:
    """A metric. What is measured is not kept."""

    def __init__(self, luck: Luck, name: str) -> None:
        self._luck, self._name = luck, name

    def labels(self, *labels: Any) -> "Counted":
        """The metric of these; topics and kinds are left out."""
        return Counted(self._luck, f"{self._name} {labels[-1]}" if self._name == "CHAIN" else self._name)

    def inc(self, amount: float = 1) -> None:
        """Adds to it."""
        self._luck.counts[self._name] += round(amount)

    def observe(self, _: float) -> None:
        """Nothing."""
