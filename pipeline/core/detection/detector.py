"""The machine of automatic detection: complete windows of many models in, findings out.

    windows ─▶ signals ─▶ baseline ─▶ bank and ladder ─▶ scoring ─▶ findings
                             └── learns last, and only where nothing is breached or masked

It reads no clock and keeps no history: a model costs `bytes_per_model`, whatever its traffic.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numpy as np

from pipeline.core.detection import bank, ladder
from pipeline.core.detection.anomaly import Anomaly, Deviation
from pipeline.core.detection.judgement import Judgement
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.seats import Model, Seats, SeatsState
from pipeline.core.detection.signals import (
    CLASS_SEATS,
    SIGNALS,
    Channel,
    ClassRows,
    ModelRows,
    Signal,
    Signals,
    signals,
)
from pipeline.core.detection.state import Arrays, Bools, Ints
from pipeline.core.isolation import Failures, Judged
from pipeline.core.windows.log_clock import WINDOW_MS
from schemas.aggregate import Rows, with_all
from schemas.windows import CLASSES, MODELS

FORGOTTEN_WINDOWS = 7 * WINDOWS_PER_DAY  # a model without an inference for a week is gone
FIRST_SAY_WINDOWS = int(min(bank.NEED.min(), ladder.NEED.min()))  # until then nothing is said of a new model
FILLED_WINDOWS_MAX = WINDOWS_PER_HOUR  # empty windows that are made up for a jump of the log's time


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The rows of one window in one record, whatever else is in it."""

    models: Rows
    classes: Rows

    def whole(self) -> "WindowRows":
        """With every column: what was saved before there was one lacks it."""
        return WindowRows(with_all(MODELS, self.models), with_all(CLASSES, self.classes))


class DetectionState(msgspec.Struct):
    """What is saved of an AutomaticDetector."""

    FORM: ClassVar[str] = Judgement(1.0).form

    next_index: int | None
    models: list[tuple[str, str, SeatsState]]  # by column
    arrays: dict[str, Arrays]


class AutomaticDetector:
    """Detection for all models of a partition. Windows come complete, and in order."""

    def __init__(self, asked_per_model_week: float = 1.0, failures: Failures | None = None) -> None:
        """Models that cannot be judged are noted in `failures`, and begin anew."""
        self._failures = failures or Failures()
        self._judgement = Judgement(asked_per_model_week)
        self._models: list[Model] = []  # by column
        self._columns: dict[Model, int] = {}
        self._seats = Seats()
        self._next_index: int | None = None
        self._ahead: _Ahead | None = None

    def __len__(self) -> int:
        return len(self._models)

    @property
    def models(self) -> Sequence[Model]:
        """Those watched, by column."""
        return self._models

    @property
    def breached(self) -> Bools:
        """What is going on: (channels, models), by column."""
        return self._judgement.breaches

    def surprise(self, column: int) -> float:
        """How strange the last window of a model was: ln of the hours between two such, over all that is watched."""
        return self._judgement.surprise(column)

    @property
    def bytes_per_model(self) -> int:
        """What a model costs in memory, names apart."""
        return self._judgement.bytes_per_model

    def observe(
        self, start_ms: int, records: Sequence[WindowRows], masked: Collection[Model] = (), through_ms: int = 0
    ) -> list[Anomaly]:
        """The window that starts at `start_ms` is complete; its rows are somewhere in `records`.

        So are those of all windows that end by `through_ms`: they come next, and may be read already.
        Nothing is learned of the models in `masked`: a rule has an alert for them, or they are in maintenance. A breach
        is told when it begins, once a minute while it lasts, and when it is over.
        """
        index = start_ms // WINDOW_MS
        if self._next_index is not None and index < self._next_index:
            return []  # judged before: a replay
        findings = self._fill(index)
        window = None if self._ahead is None else self._ahead.take(index, len(self))
        if window is None:
            count = self._readable(index, through_ms // WINDOW_MS, records)
            self._ahead = _Ahead(index, self._signals(index, count, records))
            window = self._ahead.take(index, len(self))
            assert window is not None
        mask = np.zeros(len(self), np.bool_)
        if masked:
            mask[[self._columns[model] for model in masked if model in self._columns]] = True
        return findings + self.advance(index, window, mask)

    def watch(self, models: Sequence[Model]) -> None:
        """Watch these too."""
        new = [model for model in dict.fromkeys(models) if model not in self._columns]
        for model in new:
            self._columns[model] = len(self._models)
            self._models.append(model)
            self._seats.add(model)
        if new:
            self._judgement.add(len(new))

    def advance(self, index: int, window: Signals, masked: Bools) -> list[Anomaly]:
        """One window of all models watched, by column: signals of this one, or of those that come next as well."""
        assert self._next_index is None or index >= self._next_index
        self._next_index = index + 1
        coming = window if window.x.ndim == 3 else Signals(window.x[:, None], window.n[:, None])
        findings, failed = [], {}
        for column, found in self._judgement.step(index, coming, masked):
            if isinstance(found, Exception):
                failed[column] = found
            else:
                findings.append(self._named(column, found))
        for column, error in failed.items():
            self._failures.add(Judged.MODEL, *self._models[column], error)
        if failed:
            self._judgement.renew(np.array(list(failed), np.int64))
        if index % WINDOWS_PER_HOUR == WINDOWS_PER_HOUR - 1:
            self._review_seats()
            findings += self._forget(index)
        return findings

    def accept(self, model: Model, channel: Channel | None = None) -> None:
        """An operator says that this is the new normal: in a quarter of an hour it is what is expected."""
        if model in self._columns:
            self._judgement.accept(self._columns[model], list(Channel) if channel is None else [channel])

    def snapshot(self) -> DetectionState:
        """All that a restart needs to go on as if nothing had been."""
        models = [(*model, self._seats.snapshot(model)) for model in self._models]
        return DetectionState(self._next_index, models, self._judgement.arrays())

    def restore(self, state: DetectionState) -> None:
        """As it was when it was saved, into one that is new."""
        assert not self._models
        self._next_index = state.next_index
        for column, (workspace, model_id, seats) in enumerate(state.models):
            self._columns[workspace, model_id] = column
            self._models.append((workspace, model_id))
            self._seats.restore((workspace, model_id), seats)
        self._judgement.take(state.arrays)

    def _fill(self, index: int) -> list[Anomaly]:
        """Windows that nobody had anything to say in are complete as well."""
        if self._next_index is None:
            return []
        findings = []
        for empty in range(max(self._next_index, index - FILLED_WINDOWS_MAX), index):
            findings += self.advance(empty, Signals.nothing(len(self)), np.zeros(len(self), np.bool_))
        return findings

    def _readable(self, index: int, end: int, records: Sequence[WindowRows]) -> int:
        """How many windows may be read at once: those in which no model is new, and no class gets a seat."""
        if end <= index + 1 or not len(self) or len(self._judgement.young()):
            return 1
        for record in records:
            for columns in (record.models, record.classes):
                if not self._columns.keys() >= set(zip(*_owners(columns), strict=True)):
                    return 1
        return min(end, (index // WINDOWS_PER_HOUR + 1) * WINDOWS_PER_HOUR) - index

    def _signals(self, index: int, count: int, records: Sequence[WindowRows]) -> Signals:
        """Those of the next windows: (SIGNALS, windows, models)."""
        chosen = []
        for record in records:
            of_models = _places(record.models.window_start_s, index, count)
            of_classes = _places(record.classes.window_start_s, index, count)
            self.watch(_named_rows(record.models, of_models[0]))
            self.watch(_named_rows(record.classes, of_classes[0]))
            chosen.append((record, of_models, of_classes))
        young, size = self._judgement.young(), len(self)
        young_models = {self._models[column] for column in young.tolist()}
        models, classes = [], []
        for record, (model_rows, model_windows), (class_rows, class_windows) in chosen:
            if len(model_rows):
                columns = self._column_numbers(_named_rows(record.models, model_rows))
                models.append(ModelRows.of(record.models, model_rows, model_windows * size + columns))
            if len(class_rows):
                owners = _named_rows(record.classes, class_rows)
                texts, detections = record.classes.texts["class"], record.classes.numbers["detection_count"][class_rows]
                names = [texts[row] for row in class_rows.tolist()]
                seats = np.array(self._seats.find(owners, names, detections.tolist(), young_models), np.int64)
                places = class_windows * size + self._column_numbers(owners)
                classes.append(ClassRows(places, seats, detections))
        found = signals(models, classes, count * size)
        return Signals(found.x.reshape(SIGNALS, count, size), found.n.reshape(SIGNALS, count, size))

    def _column_numbers(self, models: Sequence[Model]) -> Ints:
        return np.array([self._columns[model] for model in models], np.int64)

    def _named(self, column: int, found: Deviation) -> Anomaly:
        model = self._models[column]
        class_name = None
        if found.signal >= Signal.CLASS:
            class_name = [*self._seats.names(model), ""][found.signal - Signal.CLASS]
        return Anomaly.of(model, class_name, found)

    def _review_seats(self) -> None:
        for model in self._seats.to_review:
            column = self._columns[model]
            if self._judgement.breached(column, Channel.CLASSES):
                continue  # What is not normal gets no seat.
            shares, detections = self._judgement.class_shares(column)
            change = self._seats.review(model, shares[:CLASS_SEATS], detections)
            if change is not None:
                self._judgement.seat(column, *change)

    def _forget(self, index: int) -> list[Anomaly]:
        gone = self._judgement.quiet_for(FORGOTTEN_WINDOWS)
        if not len(gone):
            return []
        findings = [self._named(*one) for one in self._judgement.dropped(index, gone)]
        kept = np.setdiff1d(np.arange(len(self)), gone)
        for column in gone.tolist():
            self._seats.remove(self._models[column])
        self._models = [self._models[column] for column in kept.tolist()]
        self._columns = {model: column for column, model in enumerate(self._models)}
        self._judgement.keep(kept)
        return findings


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Signals of windows that come next, read at once."""

    first: int
    signals: Signals  # (SIGNALS, windows, models)

    def take(self, index: int, models: int) -> Signals | None:
        """This window and those after it, if it is among them and they are of just these models."""
        _, windows, known = self.signals.x.shape
        place = index - self.first
        if not 0 <= place < windows or known != models:
            return None
        return Signals(self.signals.x[:, place:], self.signals.n[:, place:])


def _owners(rows: Rows) -> tuple[Sequence[str], Sequence[str]]:
    return rows.texts["workspace"], rows.texts["model_id"]


def _places(starts: Ints, index: int, count: int) -> tuple[Ints, Ints]:
    """Rows of the windows from `index` on, and which of these each is of."""
    of_window = starts // (WINDOW_MS // 1000) - index
    rows = np.flatnonzero((of_window >= 0) & (of_window < count))
    return rows, of_window[rows]


def _named_rows(columns: Rows, rows: Ints) -> list[Model]:
    workspaces, models = _owners(columns)
    return [(workspaces[row], models[row]) for row in rows.tolist()]
