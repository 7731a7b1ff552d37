"""inference.events -> inferences."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from msgspec import UNSET

from pipeline.core.batch import Batch
from pipeline.core.rows.native import CodedNames, Column, Lists, Maps, NullableNumbers, Numbers, Strings
from pipeline.core.rows.tables import Recorded, RowsOf
from pipeline.core.windows.numbering import Numbering
from schemas import event
from schemas.event import InferenceEvent, Prediction, TimeLimits

_TOGETHER = 128  # events that are decoded before they become columns; many more do not stay in a processor's cache


def record_events(records: Batch, limits: TimeLimits) -> Recorded:
    """inference.events -> inferences."""
    rows, columns = RowsOf(records), _Columns()
    for start in range(0, len(records.values), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        events = []
        for position, (time_ms, raw) in enumerate(
            zip(records.times_ms[part], records.values[part], strict=True), start
        ):
            value = rows.accepted(position, event.decode(raw, time_ms, limits))
            if value is not None:
                events.append(value)
        columns.add(events)
    return rows.recorded("inferences", columns.native())


class _Columns:
    """The columns of `inferences`, growing by some events at a time. Comprehensions: loops take three times as long."""

    def __init__(self) -> None:
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._names: defaultdict[str, Numbering[str]] = defaultdict(Numbering)
        self._numbers: defaultdict[str, list[npt.NDArray[Any]]] = defaultdict(list)

    def add(self, events: Sequence[InferenceEvent]) -> None:
        self._texts["event_id"] += [e.event_id for e in events]
        self._texts["error"] += [e.error or "" for e in events]
        self._add_names("workspace", [e.workspace for e in events])
        self._add_names("model_id", [e.model_id for e in events])
        self._add_names("device_id", [e.device_id or "" for e in events])
        self._add_names("source", [e.source or "" for e in events])
        self._add_names("deployment", [e.deployment or "" for e in events])
        self._add_names("server_version", [e.server_version or "" for e in events])
        self._add_numbers("event_time", np.int64, [e.event_time_ms for e in events])
        self._add_numbers("latency_ms", np.float64, [e.latency_ms for e in events])  # NaN: unknown
        self._add_numbers("tag_count", np.int64, [len(e.tags or ()) for e in events])
        self._add_names("tags", [tag for e in events if e.tags for tag in e.tags])
        self._add_images([e.image or _NO_IMAGE for e in events])
        self._add_metadata([e.metadata or {} for e in events])
        self._add_detections([e.predictions for e in events])

    def _add_numbers(self, name: str, dtype: type[np.generic], values: Sequence[float | None]) -> None:
        self._numbers[name].append(np.array(values, dtype))

    def _add_names(self, name: str, values: Sequence[str]) -> None:
        numbering = self._names[name]
        self._numbers[name].append(np.array([numbering[value] for value in values], np.int64))

    def _add_images(self, images: Sequence[event.Image]) -> None:
        self._texts["image_url"] += [image.url or "" for image in images]
        self._add_numbers("image_width", np.uint32, [image.width or 0 for image in images])
        self._add_numbers("image_height", np.uint32, [image.height or 0 for image in images])

    def _add_metadata(self, rows: Sequence[event.Metadata]) -> None:
        self._add_numbers("metadata_count", np.int64, [len(row) for row in rows])
        self._add_names("metadata_keys", [key for row in rows for key in row])
        self._texts["metadata_values"] += [text_of(value) for row in rows for value in row.values()]

    def _add_detections(self, rows: Sequence[Sequence[Prediction]]) -> None:
        predictions = [p for row in rows for p in row]
        self._add_numbers("detection_count", np.int64, [len(row) for row in rows])
        self._add_names("class", [p.class_name for p in predictions])
        self._add_numbers("confidence", np.float64, [p.confidence for p in predictions])
        with np.errstate(over="ignore"):  # a box beyond Float32 becomes infinite, which is what it is
            self._add_numbers("x", np.float32, [p.x for p in predictions])  # NaN: not given
            self._add_numbers("y", np.float32, [p.y for p in predictions])
            self._add_numbers("width", np.float32, [p.width for p in predictions])
            self._add_numbers("height", np.float32, [p.height for p in predictions])
        has_more = [
            not (p.class_id is p.detection_id is p.tracker_id is p.points is p.keypoints is UNSET) for p in predictions
        ]
        self._texts["extra"] += [_extra(row) for row in rows] if any(has_more) else [""] * len(rows)

    def native(self) -> dict[str, Column]:
        if not self._numbers:
            return {}
        texts, numbers = self._texts, {name: np.concatenate(parts) for name, parts in self._numbers.items()}
        names = {name: CodedNames(numbering.texts, numbers[name]) for name, numbering in self._names.items()}
        latency_us = np.rint(numbers["latency_ms"] * 1000)
        known = ~np.isnan(latency_us)
        detections = numbers["detection_count"]
        return {
            "event_id": Strings(texts["event_id"]),
            "event_time": Numbers("DateTime64(3)", numbers["event_time"]),
            "workspace": names["workspace"],
            "model_id": names["model_id"],
            "device_id": names["device_id"],
            "latency_us": NullableNumbers(Numbers("UInt64", np.where(known, latency_us, 0)), known),
            "detections.class": Lists(detections, names["class"]),
            "detections.confidence_ppm": Lists(detections, Numbers("UInt32", np.rint(numbers["confidence"] * 1e6))),
            "detections.x": Lists(detections, Numbers("Float32", numbers["x"])),
            "detections.y": Lists(detections, Numbers("Float32", numbers["y"])),
            "detections.width": Lists(detections, Numbers("Float32", numbers["width"])),
            "detections.height": Lists(detections, Numbers("Float32", numbers["height"])),
            "detections_extra": Strings(texts["extra"]),
            "error": Strings(texts["error"]),
            "image_width": Numbers("UInt32", numbers["image_width"]),
            "image_height": Numbers("UInt32", numbers["image_height"]),
            "image_url": Strings(texts["image_url"]),
            "metadata": Maps(numbers["metadata_count"], names["metadata_keys"], Strings(texts["metadata_values"])),
            "tags": Lists(numbers["tag_count"], names["tags"]),
            "source": names["source"],
            "deployment": names["deployment"],
            "server_version": names["server_version"],
        }


_NO_IMAGE = event.Image()
_EXTRA_FIELDS = ("class_id", "detection_id", "tracker_id", "points", "keypoints")


def _extra(predictions: Sequence[Prediction]) -> str:
    """What else the detections had, as JSON: a list of objects, one a detection; "" if nothing."""
    objects = []
    for p in predictions:
        given = [(name, value) for name in _EXTRA_FIELDS if (value := getattr(p, name)) is not UNSET]
        objects.append("{" + ",".join(f'"{name}":{bytes(value).decode()}' for name, value in given) + "}")
    return "[" + ",".join(objects) + "]" if any(len(o) > 2 for o in objects) else ""


def text_of(value: event.MetadataValue) -> str:
    """A metadata value as ClickHouse keeps it: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    # orjson has no integers beyond 64 bits.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else orjson.dumps(value).decode()


def string_lists(rows: Sequence[Sequence[str]]) -> Lists:
    """A column of lists of texts."""
    return Lists(np.array([len(row) for row in rows], np.int64), Strings([text for row in rows for text in row]))
