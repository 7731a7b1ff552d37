"""What a batch of inference.events adds to windows: a function of the batch alone, so that anybody may compute it.

This is the oracle, in Python. Another kernel may hand over rows that it has folded already, instead of single events;
which of the two, and in which order its names come, must not show in what is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.batch import Batch
from pipeline.core.tally import Ints
from pipeline.core.windows.fold import EventColumns, Folded
from pipeline.core.windows.numbering import Numbering
from schemas.event import TimeLimits, decode
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted
from schemas.windows import WINDOW_MS


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a batch adds to one window: events, or rows. Their numbers are those of the batch's own names."""

    start_ms: int
    first_offset: int
    events: EventColumns | None = None
    rows: tuple[Folded, Folded] | None = None  # of models, of classes


@dataclass(frozen=True, slots=True)
class Contributions:
    """All that a batch adds."""

    series: Sequence[tuple[str, str, str]]  # (workspace, model, device) by number
    models: Sequence[tuple[str, str]]
    classes: Sequence[str]
    windows: Sequence[Contribution]
    accepted: int
    refused: Sequence[tuple[int, Reason]]  # (offset, why)


def contribute(batch: Batch, limits: TimeLimits, from_offset: int, closed_ms: int) -> Contributions:
    """Less what is done: contributions of offsets < `from_offset` to windows that end by `closed_ms`."""
    columns = _Columns(limits)
    columns.decode(batch.times_ms, batch.values)
    offsets = np.array(batch.offsets, np.int64)[np.array(columns.positions, np.int64)]
    windows = _by_window(columns, offsets, from_offset, closed_ms) if columns.windows else []
    refused = [(batch.offsets[position], reason) for position, reason in columns.refused]
    names = columns.series.texts, columns.models.texts, columns.classes.texts
    return Contributions(*names, windows, len(columns.windows), refused)


def _by_window(columns: "_Columns", offsets: Ints, from_offset: int, closed_ms: int) -> list[Contribution]:
    window, events = np.array(columns.windows, np.int64), columns.events()
    take = (offsets >= from_offset) | (window * WINDOW_MS + WINDOW_MS > closed_ms)
    detection_window, detection_take = np.repeat(window, events.detections), np.repeat(take, events.detections)
    out = []
    for number in np.unique(window[take]).tolist():
        mine = take & (window == number)
        first = int(offsets[np.argmax(mine)])
        of_detections = detection_take & (detection_window == number)
        out.append(
            Contribution(number * WINDOW_MS, first, events if mine.all() else _select(events, mine, of_detections))
        )
    return out


class _Columns:
    """Decoded records as growing columns: one pass, no object kept."""

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits
        self.series = Numbering[tuple[str, str, str]]()
        self.models = Numbering[tuple[str, str]]()
        self.classes = Numbering[str]()
        self.positions: list[int] = []  # in the batch, of the accepted ones
        self.windows: list[int] = []  # number of the window: event time // WINDOW_MS
        self.refused: list[tuple[int, Reason]] = []  # position in the batch, and why
        self._series: list[int] = []
        self._latency_ms: list[float] = []  # -1: unknown
        self._failed: list[int] = []
        self._detections: list[int] = []
        self._class_ids: list[int] = []
        self._confidences: list[float] = []

    def decode(self, times_ms: Sequence[int], values: Sequence[bytes | None]) -> None:
        series, classes, limits = self.series, self.classes, self._limits
        class_ids, confidences = self._class_ids, self._confidences
        for position, (time_ms, raw) in enumerate(zip(times_ms, values, strict=True)):
            found = decode(raw, time_ms, limits)
            if isinstance(found, Rejected):
                self.refused.append((position, found.reason))
                continue
            event = found.value if isinstance(found, Adjusted) else found
            self.positions.append(position)
            self.windows.append(event.event_time_ms // WINDOW_MS)
            self._series.append(series[event.workspace, event.model_id, event.device_id or ""])
            self._latency_ms.append(-1.0 if event.latency_ms is None else event.latency_ms)
            self._failed.append(1 if event.error else 0)
            predictions = event.predictions
            self._detections.append(len(predictions))
            for prediction in predictions:
                class_ids.append(classes[prediction.class_name])
                confidences.append(prediction.confidence)

    def events(self) -> EventColumns:
        series = np.array(self._series, np.int64)
        model_of_series = np.array([self.models[w, m] for w, m, _ in self.series.texts], np.int64)
        latency_ms = np.array(self._latency_ms)
        return EventColumns(
            series,
            model_of_series[series],
            np.where(latency_ms < 0, -1, np.rint(latency_ms * 1000)).astype(np.int64),
            np.array(self._failed, np.int64),
            np.array(self._detections, np.int64),
            np.array(self._class_ids, np.int64),
            np.rint(np.array(self._confidences, np.float64) * 1e6).astype(np.int64),
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
