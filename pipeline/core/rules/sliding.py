"""Sliding windows of one subject, kept as sums that merge: the newest window is added, the oldest taken away.

    older                                           end
    ──┬──────────┬──────────┬─┬─┬─┬─┬─┬─┬─┬─┬─┬─┬─┬─┤ ─ ─ ─ ─ ─ ─
      │  1 min   │  1 min   │ 10 s each, the last hour │ not complete yet

A window of up to an hour slides by 10 s, exactly. A longer one slides by 10 s, too, but begins on a whole minute: it
leaves out the up to 50 s before that. What no window reaches any more is forgotten. A correction of a past window is
added where it belongs, and to every sum that reaches back to it. Integers throughout: a sum that was slid is the sum
of its parts, and the same after `restore`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.core.tally import Ints, dense_groups, group_sum
from pipeline.core.windows.log_clock import WINDOW_MS

STEP_S = WINDOW_MS // 1000
MINUTE_S = 60
FINE_S = 3600  # so far back windows of 10 s are kept apart

Numbers = npt.NDArray[Any]
Sparse = tuple[Numbers, Numbers]  # (which sums, ascending and distinct; how much of each)
_Slots = dict[int, Sparse]  # by start, ascending


def sparse(index: Ints, count: Ints) -> Sparse:
    """Sums as they are kept: most are small, and there are many."""
    wide = len(count) and int(count.max()) >= 1 << 32
    return index.astype(np.uint16), count if wide else count.astype(np.uint32)


class SlidingState(msgspec.Struct):
    """What is saved of a Sliding."""

    end_s: int
    since_s: int
    known_from_s: int
    last_s: int | None
    coming: dict[int, list[Sparse]]
    fine: dict[int, Sparse]
    coarse: dict[int, Sparse]


class Sliding:
    """Sums over the last `length` seconds before `end_s`, for each length asked for. Seconds are the log's."""

    def __init__(self, end_s: int, since_s: int) -> None:
        """Nothing is known of before `since_s`; windows that start at `end_s` or later are not complete yet."""
        self.end_s = end_s
        self.since_s = since_s
        self.last_s: int | None = None  # start of the newest complete window whose sum 0 is not 0
        self._known_from_s = since_s  # nothing younger was forgotten
        self._coming: dict[int, list[Sparse]] = {}
        self._fine: _Slots = {}
        self._coarse: _Slots = {}
        self._totals: dict[int, Ints] = {}
        self._edges: dict[int, int] = {}  # where a window of that length begins now

    @property
    def is_idle(self) -> bool:
        """Whether every sum is 0, and stays so until something is added."""
        return self.is_drained and not self._coming

    @property
    def is_drained(self) -> bool:
        """Whether every sum is 0."""
        return not (self._fine or self._coarse)

    def ask(self, lengths_s: Iterable[int], size: int) -> None:
        """From now on there are sums over these lengths, of at least `size` numbers: over what is still known."""
        totals = {}
        for length in sorted(set(lengths_s)):
            assert length % (STEP_S if length <= FINE_S else MINUTE_S) == 0, length
            total, edge_s = np.zeros(size, np.int64), _edge_s(self.end_s, length)
            for start_s, slot in (*self._fine.items(), *self._coarse.items()):
                if start_s >= edge_s:
                    total = _add(total, *_wide(slot))
            totals[length] = total
        self._totals = totals
        self._edges = {length: _edge_s(self.end_s, length) for length in totals}
        self._forget()

    def total(self, length_s: int) -> Ints:
        """The sums over that length. Not to be changed or kept; a sum that never was anything may be missing."""
        return self._totals[length_s]

    def covers(self, length_s: int) -> bool:
        """Whether all of that length is known, not only its end."""
        return self._known_from_s <= self._edges[length_s]

    def known_from_s(self, length_s: int) -> int:
        """Where what is known of that length begins."""
        return max(self._known_from_s, self._edges[length_s])

    def add(self, start_s: int, sums: Sparse) -> None:
        """Something of the window that starts then: the first of it, more of it, or a correction long after."""
        if start_s >= self.end_s:
            self._coming.setdefault(start_s, []).append(sums)
        else:
            self._complete(start_s, sums)

    def advance(self, end_s: int) -> None:
        """All windows that end by then are complete."""
        assert end_s >= self.end_s, (end_s, self.end_s)
        old_edges, old_end_s = self._edges, self.end_s
        self.end_s = end_s
        self._edges = {length: _edge_s(end_s, length) for length in old_edges}
        for length, edge_s in old_edges.items():
            if length <= FINE_S:
                self._take_away(length, self._fine, edge_s, min(self._edges[length], old_end_s), STEP_S)
        self._coarsen()
        for length, edge_s in old_edges.items():
            if length > FINE_S:
                self._take_away(length, self._coarse, edge_s, min(self._edges[length], old_end_s), MINUTE_S)
        if self._coming:
            for start_s in self._completed(old_end_s, end_s):
                self._complete(start_s, _merged(self._coming.pop(start_s)))
        self._forget()

    def _completed(self, old_end_s: int, end_s: int) -> Iterable[int]:
        """Starts of windows that came before they were complete, and now are."""
        if (end_s - old_end_s) // STEP_S <= len(self._coming):
            return [start_s for start_s in range(old_end_s, end_s, STEP_S) if start_s in self._coming]
        return sorted(start_s for start_s in self._coming if start_s < end_s)

    def snapshot(self) -> SlidingState:
        """All but what was asked for."""
        slots = self._coming, self._fine, self._coarse
        return SlidingState(self.end_s, self.since_s, self._known_from_s, self.last_s, *slots)

    @classmethod
    def restore(cls, state: SlidingState) -> "Sliding":
        """As it was, but for what was asked for."""
        sliding = cls(state.end_s, state.since_s)
        sliding.last_s, sliding._known_from_s = state.last_s, state.known_from_s
        sliding._coming, sliding._fine, sliding._coarse = state.coming, state.fine, state.coarse
        return sliding

    @property
    def _fine_from_s(self) -> int:
        return _floor(self.end_s - FINE_S, MINUTE_S)

    def _complete(self, start_s: int, sums: Sparse) -> None:
        index, count = sums
        if len(index) and index[0] == 0 and count[0] and (self.last_s is None or start_s > self.last_s):
            self.last_s = start_s
        fine = start_s >= self._fine_from_s
        if not fine:
            start_s = _floor(start_s, MINUTE_S)
        reached = [length for length, edge_s in self._edges.items() if start_s >= edge_s]
        if not reached:
            return
        place, wide = _wide(sums)
        for length in reached:
            self._totals[length] = _add(self._totals[length], place, wide)
        if fine:
            self._fine = _with(self._fine, start_s, sums)
        else:
            self._coarse = _with(self._coarse, start_s, sums)

    def _take_away(self, length: int, slots: _Slots, start_s: int, end_s: int, step_s: int) -> None:
        """What no longer belongs to a sum: the slots of [start_s, end_s)."""
        if start_s >= end_s:
            return
        if end_s - start_s == step_s:
            leaving = [slots[start_s]] if start_s in slots else []
        elif (end_s - start_s) // step_s <= len(slots):
            leaving = [slots[at_s] for at_s in range(start_s, end_s, step_s) if at_s in slots]
        else:
            leaving = [slot for at_s, slot in slots.items() if start_s <= at_s < end_s]
        total = self._totals[length]
        for sums in leaving:
            index, count = _wide(sums)
            total[index] -= count

    def _coarsen(self) -> None:
        fine_from_s = self._fine_from_s
        if not self._fine or next(iter(self._fine)) >= fine_from_s:
            return
        minutes: dict[int, list[Sparse]] = {}
        for start_s in _before(self._fine, fine_from_s):
            minutes.setdefault(_floor(start_s, MINUTE_S), []).append(self._fine.pop(start_s))
        for minute_s, parts in minutes.items():
            self._coarse = _with(self._coarse, minute_s, _merged(parts))

    def _forget(self) -> None:
        keep_from_s = min(self._edges.values(), default=self.end_s)
        self._known_from_s = max(self._known_from_s, keep_from_s)
        for slots in (self._fine, self._coarse):
            while slots and (start_s := next(iter(slots))) < keep_from_s:
                del slots[start_s]


def _floor(time_s: int, step_s: int) -> int:
    return time_s - time_s % step_s


def _edge_s(end_s: int, length: int) -> int:
    """Where a window of that length begins."""
    start_s = end_s - length
    return start_s if length <= FINE_S else -_floor(-start_s, MINUTE_S)


def _before(slots: _Slots, end_s: int) -> list[int]:
    """Starts before `end_s`: those at the front."""
    found = []
    for start_s in slots:
        if start_s >= end_s:
            break
        found.append(start_s)
    return found


def _with(slots: _Slots, start_s: int, sums: Sparse) -> _Slots:
    """The slots and something more, in order."""
    known = slots.get(start_s)
    in_order = known is not None or not slots or start_s > next(reversed(slots))
    slots[start_s] = sums if known is None else _merged([known, sums])
    return slots if in_order else dict(sorted(slots.items()))


def _wide(sums: Sparse) -> tuple[Ints, Ints]:
    """As numpy calculates with them: several times as fast."""
    index, count = sums
    return index.astype(np.int64), count.astype(np.int64)


def _add(total: Ints, index: Ints, count: Ints) -> Ints:
    if len(index) and int(index[-1]) >= len(total):
        total = np.concatenate([total, np.zeros(int(index[-1]) + 1 - len(total), np.int64)])
    total[index] += count
    return total


def _merged(parts: Sequence[Sparse]) -> Sparse:
    if len(parts) == 1:
        return parts[0]
    index, place = dense_groups(np.concatenate([index for index, _ in parts]).astype(np.int64))
    counts = np.concatenate([count for _, count in parts]).astype(np.int64)
    return sparse(index, group_sum(place, counts, len(index)))
