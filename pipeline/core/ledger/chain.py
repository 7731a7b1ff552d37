"""The chain by which a reader of cuts takes each once, and knows when one is missing (design section 2, rule 3)."""

from collections.abc import Mapping
from enum import Enum

from pipeline.core.ledger.names import Position


class Verdict(Enum):
    """What a reader does with a record of the chain."""

    ACCEPTED = "accepted"
    REPEAT = "repeat"  # already taken: a cut that was made again
    GAP = "gap"  # it does not fit: something is missing, or in twice; taken all the same, and an alarm


class Chain:
    """What one reader has taken from each source partition: it takes a record if it begins where the last one ended."""

    def __init__(self, positions: Mapping[int, Position] | None = None) -> None:
        """`positions` of an earlier `snapshot`."""
        self._positions = dict(positions or {})

    def observe(self, source: int, start: Position, end: Position) -> Verdict:
        """Judges a record, and takes it unless it is a repeat. A source never seen is taken where it begins.

        A repeat has been taken whole. One that begins before our position and ends after it is no cut made again: a
        name went back, and dropping it would lose what is new in it.
        """
        assert start < end, (source, start, end)
        at = self._positions.get(source, start)
        if end <= at:
            return Verdict.REPEAT
        self._positions[source] = end
        # A new epoch is an operator's word that what lies between is gone.
        return Verdict.ACCEPTED if start == at or start.epoch > at.epoch else Verdict.GAP

    def follow(self, source: int, end: Position) -> None:
        """Takes in where a record ends that others have judged: the furthest end is where the source has come to."""
        self._positions[source] = max(end, self._positions.get(source, end))

    def snapshot(self) -> dict[int, Position]:
        """The position of every source seen."""
        return dict(self._positions)
