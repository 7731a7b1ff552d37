"""How many of the records of late were refused, in the log's own time: counts in, a share out."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.core.windows.log_clock import WINDOW_MS


class Refusals:
    """Sums over a sliding window. Memory: one entry for each ten seconds that have records and are not over yet."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._read: Counter[int] = Counter()  # by ten seconds
        self._refused: dict[int, Counter[str]] = {}

    def add(self, at_ms: int, read: int, refused: Mapping[str, int]) -> None:
        """So many records were read at that time; of them so many were refused, by reason."""
        if read:
            index = at_ms // WINDOW_MS
            self._read[index] += read
            self._refused.setdefault(index, Counter()).update(refused)

    def until(self, end_ms: int) -> tuple[int, Counter[str]]:
        """Records read, and refused ones by reason, of the window that ends then. What is older is forgotten."""
        first, last = (end_ms - self._length_ms) // WINDOW_MS + 1, end_ms // WINDOW_MS
        for index in [index for index in self._read if index < first]:
            del self._read[index], self._refused[index]
        mine = [index for index in self._read if index <= last]
        refused: Counter[str] = Counter()
        for index in mine:
            refused.update(self._refused[index])
        return sum(self._read[index] for index in mine), refused

    def snapshot(self) -> list[Any]:
        """What to save."""
        return [[index, read, dict(self._refused[index])] for index, read in self._read.items()]

    def restore(self, saved: list[Any]) -> None:
        """As it was when it was saved."""
        self._read = Counter({index: read for index, read, _ in saved})
        self._refused = {index: Counter(refused) for index, _, refused in saved}
