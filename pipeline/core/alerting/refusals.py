"""How many of the records of late were refused, in the log's own time: counts in, a share out."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from pipeline.core.windows.log_clock import WINDOW_MS


class RefusalsState(msgspec.Struct):
    """Counts by ten seconds."""

    read: dict[int, int] = {}
    refused: dict[int, dict[str, int]] = {}  # and by reason


class Refusals:
    """Sums over a sliding window. Memory: one entry for each ten seconds that have records and are not over yet."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._state = RefusalsState()

    def add(self, at_ms: int, read: int, refused: Mapping[str, int]) -> None:
        """So many records were read at that time; of them so many were refused, by reason."""
        if read:
            index = at_ms // WINDOW_MS
            self._state.read[index] = self._state.read.get(index, 0) + read
            self._state.refused[index] = dict(Counter(self._state.refused.get(index, {})) + Counter(refused))

    def until(self, end_ms: int) -> tuple[int, Counter[str]]:
        """Records read, and refused ones by reason, of the window that ends then. What is older is forgotten."""
        first, last = (end_ms - self._length_ms) // WINDOW_MS + 1, end_ms // WINDOW_MS
        read, by_reason = self._state.read, self._state.refused
        for index in [index for index in read if index < first]:
            del read[index], by_reason[index]
        mine = [index for index in read if index <= last]
        refused: Counter[str] = Counter()
        for index in mine:
            refused.update(by_reason[index])
        return sum(read[index] for index in mine), refused

    def snapshot(self) -> RefusalsState:
        """What to save."""
        return self._state

    def restore(self, state: RefusalsState) -> None:
        """As it was when it was saved."""
        self._state = state
