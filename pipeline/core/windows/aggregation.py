"""The aggregator's machine: one partition of events -> cuts of closed windows, by the rules of the ledger.

    log     ──o──o──o──o──o──o──o──▶      observe() folds records into open windows, in log order
    cut        [from ───── to)            cut() names what is to go out: contributions of offsets < to
    windows  ··closed]····through]        to windows that end by `through`, less what is done already

A late event is a contribution to a window that is closed already: it goes out with the next cut, as a correction.
The content of a cut depends on the log and its name alone; when to cut, and through when, may depend on anything.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.windows.contributions import Contribution, Contributions, contribute
from pipeline.core.windows.fold import EventColumns, Folded, concatenate, fold, merge
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.windows.numbering import Numbering
from schemas.event import TimeLimits
from schemas.rejection import Reason
from schemas.windows import CLASSES, MODELS

_PENDING_MAX = 1 << 19  # of one window, as single events and detections; then they are folded into rows
_NAMES_MAX = 1 << 17  # names kept across cuts; then those without a pending contribution are forgotten


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept in memory: a cut is the same bytes with any."""

    pending: int = field(default_factory=lambda: _PENDING_MAX)
    names: int = field(default_factory=lambda: _NAMES_MAX)


FoldBatch = Callable[[Batch, TimeLimits, int, int], Contributions]  # contributions.contribute, or one as good


class Names:
    """Numbers for the texts of a partition: series (workspace, model, device), models and classes."""

    def __init__(self) -> None:
        self.series = Numbering[tuple[str, str, str]]()
        self.models = Numbering[tuple[str, str]]()
        self.classes = Numbering[str]()

    def __len__(self) -> int:
        return len(self.series) + len(self.classes)


class _Renumbering:
    """From a batch's own numbers to those of the partition."""

    def __init__(self, batch: Contributions, names: Names) -> None:
        self._series = np.array([names.series[text] for text in batch.series], np.int64)
        self._models = np.array([names.models[text] for text in batch.models], np.int64)
        self._classes = np.array([names.classes[text] for text in batch.classes], np.int64)

    def events(self, events: EventColumns) -> EventColumns:
        return replace(
            events,
            series=self._series[events.series],
            model=self._models[events.model],
            class_id=self._classes[events.class_id],
        )

    def rows(self, models: Folded, classes: Folded) -> tuple[Folded, Folded]:
        key = self._models[classes.key >> 32] << 32 | self._classes[classes.key & 0xFFFFFFFF]
        return replace(models, key=self._series[models.key]), replace(classes, key=key)


@dataclass(slots=True)
class _OpenWindow:
    """What is pending for one window, and the first offset that a restart would need to make it again."""

    first_offset: int
    events: list[EventColumns] = field(default_factory=list)
    pending: int = 0  # events and detections
    models: list[Folded] = field(default_factory=list)
    classes: list[Folded] = field(default_factory=list)

    def add(self, more: Contribution, numbers: _Renumbering, pending_max: int) -> None:
        if more.rows is not None:
            models, classes = numbers.rows(*more.rows)
            self.models.append(models)
            self.classes.append(classes)
            self.pending += len(models.key) + len(classes.key)
        if more.events is not None:
            self.events.append(numbers.events(more.events))
            self.pending += len(more.events) + len(more.events.class_id)
        if self.pending >= pending_max:
            self._fold()

    def rows(self) -> tuple[Folded, Folded]:
        self._fold()
        return self.models[0], self.classes[0]

    def renumber(self, old: Names, new: Names) -> None:
        models, classes = self.rows()
        series = [new.series[old.series.texts[n]] for n in models.key.tolist()]
        keys = [
            new.models[old.models.texts[key >> 32]] << 32 | new.classes[old.classes.texts[key & 0xFFFFFFFF]]
            for key in classes.key.tolist()
        ]
        self.models = [replace(models, key=np.array(series, np.int64))]
        self.classes = [replace(classes, key=np.array(keys, np.int64))]

    def _fold(self) -> None:
        if self.events:
            models, classes = fold(concatenate(self.events))
            self.models.append(models)
            self.classes.append(classes)
        self.models, self.classes = [merge(MODELS, self.models)], [merge(CLASSES, self.classes)]
        self.events, self.pending = [], 0


@dataclass(frozen=True, slots=True)
class Cut:
    """A named cut and its content: rows by window, the texts of their numbers, where a restart would begin after it."""

    name: AggregatorName
    windows: tuple[tuple[int, Folded, Folded], ...]  # (window start in ms, rows), ascending
    names: Names
    low_after: int
    read_count: int  # records between its offsets
    refused: Mapping[Reason, int]  # of them


@dataclass(frozen=True, slots=True)
class Observed:
    """What a batch held."""

    accepted: int
    refused: Counter[Reason]


class PartitionAggregator:
    """The state of one partition: what is done, and what is pending for windows that are still open (or corrected)."""

    def __init__(self, name: AggregatorName, limits: TimeLimits, bounds: Bounds | None = None) -> None:
        """`name` as it was committed; the next record to observe is at `name.low`."""
        self.named = None if name.is_empty else name  # to be made again first
        self.next_offset = name.low
        self._done = name
        self._limits, self._bounds = limits, bounds or Bounds()
        self._names = Names()
        self._open: dict[int, _OpenWindow] = {}
        self._read_count, self._refused = 0, Counter[Reason]()  # that no cut has told

    @property
    def closed_ms(self) -> int:
        """Windows that end by then are out, but for corrections."""
        return self._done.closed_ms

    @property
    def low(self) -> int:
        """Where a restart must begin to read so that nothing pending is missed, and no record that no cut has told."""
        if self._reading_again:
            return self._done.low
        return min((self._done.from_offset, *(w.first_offset for w in self._open.values())))

    @property
    def _reading_again(self) -> bool:
        """After a restart, until all is read that was read before: what is pending is not all known yet."""
        return self.next_offset < self._done.from_offset

    def has_pending(self, through_ms: int) -> bool:
        """Whether a cut through then would hold a row."""
        return any(start + WINDOW_MS <= through_ms for start in self._open)

    def observe(self, batch: Batch, fold_batch: FoldBatch = contribute) -> Observed:
        """Folds records in log order. Never past the end of a named cut that is still to be made again."""
        assert batch.first_offset >= self.next_offset, (batch.first_offset, self.next_offset)
        assert self.named is None or batch.next_offset <= self.named.to_offset
        # Before `from_offset`, contributions to closed windows are done: we only read again for the open ones.
        first = self._done.from_offset
        found = fold_batch(batch, self._limits, first, self._done.closed_ms)
        self.next_offset = batch.next_offset
        # What is read again for open windows was told by the cut that it lay in.
        self._read_count += len(batch) - bisect_left(batch.offsets, first)
        self._refused.update(reason for offset, reason in found.refused if offset >= first)
        numbers = _Renumbering(found, self._names)
        for more in found.windows:
            window = self._open.setdefault(more.start_ms, _OpenWindow(more.first_offset))
            window.add(more, numbers, self._bounds.pending)
        return Observed(found.accepted, Counter(reason for _, reason in found.refused))

    def come_to(self, offset: int) -> None:
        """What is observed next lies at `offset` or behind it: markers of transactions take offsets too."""
        end = offset if self.named is None else min(offset, self.named.to_offset)
        self.next_offset = max(self.next_offset, end)

    def cut(self, through_ms: int, targets: int) -> Cut | None:
        """Names the next cut and takes its content; None if it would neither hold nor close anything, or too soon.

        While a committed name is still to be made again, that is what is cut, whatever is asked for.
        """
        if self.named is not None:
            assert self.next_offset == self.named.to_offset, "the named cut is not read to its end"
            name, self.named = self.named, None
        else:
            through_ms = max(through_ms, self.closed_ms)
            if self._reading_again:
                return None
            if through_ms == self.closed_ms and not self.has_pending(through_ms):
                return None
            done = self._done
            name = AggregatorName(
                self.low,
                done.from_offset,
                done.closed_ms,
                self.next_offset,
                through_ms,
                targets,
                done.epoch,
                done.topic_id,
            )
        closing = sorted(start for start in self._open if start + WINDOW_MS <= name.through_ms)
        windows = tuple((start, *self._open.pop(start).rows()) for start in closing)
        self._done = name.done(name.low)
        cut = Cut(name, windows, self._names, self.low, self._read_count, self._refused)
        self._read_count, self._refused = 0, Counter()
        if len(self._names) > self._bounds.names:
            self._forget_names()
        return cut

    def _forget_names(self) -> None:
        """Keeps the names of what is pending only. A cut that went out keeps the old ones."""
        old, self._names = self._names, Names()
        for window in self._open.values():
            window.renumber(old, self._names)

    def done_name(self) -> AggregatorName:
        """The name that says what is done, and names no cut: what a worker commits when it leaves in order."""
        return self._done.done(self.low) if self.named is None else self.named
