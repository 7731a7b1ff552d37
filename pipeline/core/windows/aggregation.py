"""The aggregator's machine: one partition of events -> cuts of closed windows, by the rules of the ledger.

    log     ──o──o──o──o──o──o──o──▶      observe() folds records into open windows, in log order
    cut        [from ───── to)            cut() names what is to go out: contributions of offsets < to
    windows  ··closed]····through]        to windows that end by `through`, less what is done already

A late event is a contribution to a window that is closed already: it goes out with the next cut, as a correction.
The content of a cut depends on the log and its name alone; when to cut, and through when, may depend on anything.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.tally import Ints
from pipeline.core.windows.fold import EventColumns, Folded, concatenate, fold, merge
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.windows.numbering import Numbering
from schemas.event import TimeLimits, decode
from schemas.rejection import Reason, Rejected
from schemas.windows import CLASSES, MODELS

_PENDING_MAX = 1 << 19  # of one window, as single events and detections; then they are folded into rows
_NAMES_MAX = 1 << 17  # names kept across cuts; then those without a pending contribution are forgotten


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept in memory: a cut is the same bytes with any."""

    pending: int = field(default_factory=lambda: _PENDING_MAX)
    names: int = field(default_factory=lambda: _NAMES_MAX)


class Names:
    """Numbers for the texts of a partition: series (workspace, model, device), models and classes."""

    def __init__(self) -> None:
        self.series = Numbering[tuple[str, str, str]]()
        self.models = Numbering[tuple[str, str]]()
        self.classes = Numbering[str]()
        self._model_of_series: list[int] = []

    def __len__(self) -> int:
        return len(self.series) + len(self.classes)

    def models_of(self, series: Ints) -> Ints:
        """The number of each series' model."""
        new = self.series.texts[len(self._model_of_series) :]
        self._model_of_series += [self.models[workspace, model] for workspace, model, _ in new]
        return np.array(self._model_of_series, np.int64)[series]


@dataclass(slots=True)
class _OpenWindow:
    """What is pending for one window, and the first offset that a restart would need to make it again."""

    first_offset: int
    events: list[EventColumns] = field(default_factory=list)
    pending: int = 0  # events and detections
    models: list[Folded] = field(default_factory=list)
    classes: list[Folded] = field(default_factory=list)

    def add(self, events: EventColumns, pending_max: int) -> None:
        self.events.append(events)
        self.pending += len(events) + len(events.class_id)
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
            self.models = [merge(MODELS, [*self.models, models])]
            self.classes = [merge(CLASSES, [*self.classes, classes])]
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

    def observe(self, offsets: Sequence[int], times_ms: Sequence[int], values: Sequence[bytes | None]) -> Observed:
        """Folds records in log order. Never past the end of a named cut that is still to be made again."""
        assert offsets[0] >= self.next_offset, (offsets[0], self.next_offset)
        assert self.named is None or offsets[-1] < self.named.to_offset
        batch = _Batch(self._names, self._limits)
        batch.decode(times_ms, values)
        self.next_offset = offsets[-1] + 1
        # What is read again for open windows was told by the cut that it lay in.
        first = self._done.from_offset
        self._read_count += len(offsets) - bisect_left(offsets, first)
        self._refused.update(reason for position, reason in batch.refused if offsets[position] >= first)
        if batch.windows:
            self._add(batch, np.array(offsets, np.int64))
        return Observed(len(batch.windows), Counter(reason for _, reason in batch.refused))

    def _add(self, batch: "_Batch", offsets: Ints) -> None:
        window, events = np.array(batch.windows, np.int64), batch.columns()
        offsets = offsets[np.array(batch.positions, np.int64)]
        # Before `from_offset`, contributions to closed windows are done: we only read again for the open ones.
        take = (offsets >= self._done.from_offset) | (window * WINDOW_MS + WINDOW_MS > self._done.closed_ms)
        detection_window = np.repeat(window, events.detections)
        detection_take = np.repeat(take, events.detections)
        for number in np.unique(window[take]).tolist():
            mine = take & (window == number)
            of_detections = detection_take & (detection_window == number)
            open_window = self._open.get(number * WINDOW_MS)
            if open_window is None:
                first = int(offsets[np.argmax(mine)])
                open_window = self._open[number * WINDOW_MS] = _OpenWindow(first)
            open_window.add(events if mine.all() else _select(events, mine, of_detections), self._bounds.pending)

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
                self.low, done.from_offset, done.closed_ms, self.next_offset, through_ms, targets, done.epoch
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


class _Batch:
    """Decoded records as growing columns: one pass, no object kept."""

    def __init__(self, names: Names, limits: TimeLimits) -> None:
        self._names, self._limits = names, limits
        self.positions: list[int] = []  # in the batch, of the accepted ones
        self.windows: list[int] = []  # number of the window: event time // WINDOW_MS
        self.series: list[int] = []
        self.latency_ms: list[float] = []  # -1: unknown
        self.failed: list[int] = []
        self.detections: list[int] = []
        self.class_ids: list[int] = []
        self.confidences: list[float] = []
        self.refused: list[tuple[int, Reason]] = []  # position in the batch, and why

    def decode(self, times_ms: Sequence[int], values: Sequence[bytes | None]) -> None:
        series, classes, limits = self._names.series, self._names.classes, self._limits
        class_ids, confidences = self.class_ids, self.confidences
        for position, (time_ms, raw) in enumerate(zip(times_ms, values, strict=True)):
            event = decode(raw, time_ms, limits)
            if isinstance(event, Rejected):
                self.refused.append((position, event.reason))
                continue
            self.positions.append(position)
            self.windows.append(event.event_time_ms // WINDOW_MS)
            self.series.append(series[event.workspace, event.model_id, event.device_id or ""])
            self.latency_ms.append(-1.0 if event.latency_ms is None else event.latency_ms)
            self.failed.append(1 if event.error else 0)
            predictions = event.predictions
            self.detections.append(len(predictions))
            for prediction in predictions:
                class_ids.append(classes[prediction.class_name])
                confidences.append(prediction.confidence)

    def columns(self) -> EventColumns:
        series = np.array(self.series, np.int64)
        latency_ms = np.array(self.latency_ms)
        return EventColumns(
            series,
            self._names.models_of(series),
            np.where(latency_ms < 0, -1, np.rint(latency_ms * 1000)).astype(np.int64),
            np.array(self.failed, np.int64),
            np.array(self.detections, np.int64),
            np.array(self.class_ids, np.int64),
            np.rint(np.array(self.confidences, np.float64) * 1e6).astype(np.int64),
        )


def _select(events: EventColumns, mine: npt.NDArray[np.bool_], of_detections: npt.NDArray[np.bool_]) -> EventColumns:
    return EventColumns(
        events.series[mine],
        events.model[mine],
        events.latency_us[mine],
        events.failed[mine],
        events.detections[mine],
        events.class_id[of_detections],
        events.confidence_ppm[of_detections],
    )
