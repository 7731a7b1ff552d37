"""inference.events -> inferences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from msgspec import UNSET

from pipeline.core.native import Column, Lists, Maps, NullableNumbers, Numbers, Strings
from pipeline.core.tables import Recorded, Records, RowsOf
from schemas import event
from schemas.event import InferenceEvent, Prediction, TimeLimits
from schemas.rejection import Rejected


def record_events(records: Records, limits: TimeLimits) -> Recorded:
    """inference.events -> inferences."""
    rows, events = RowsOf(records), _EventRows()
    for position, (time_ms, raw) in enumerate(zip(records.times_ms, records.values, strict=True)):
        value = event.decode(raw, time_ms, limits)
        if isinstance(value, Rejected):
            rows.refused.append((position, value))
        else:
            rows.positions.append(position)
            events.add(value)
    return rows.recorded("inferences", events.columns())


class _EventRows:
    """The columns of `inferences`, growing by an event at a time."""

    def __init__(self) -> None:
        self.head: list[tuple[Any, ...]] = []
        self.boxes: list[tuple[float | None, ...]] = []
        self.classes: list[str] = []
        self.confidences: list[float] = []
        self.extra: list[bytes] = []
        self.sizes: list[int] = []
        self.metadata: list[Mapping[str, Any]] = []
        self.tags: list[Sequence[str]] = []
        self.images: list[event.Image] = []

    def add(self, value: InferenceEvent) -> None:
        self.head.append(
            (
                value.event_id,
                value.event_time_ms,
                value.workspace,
                value.model_id,
                value.device_id or "",
                -1.0 if value.latency_ms is None else value.latency_ms,
                value.error or "",
                value.source or "",
                value.deployment or "",
                value.server_version or "",
            )
        )
        self.images.append(value.image or _NO_IMAGE)
        self.metadata.append(value.metadata or _NOTHING)
        self.tags.append(value.tags or ())
        predictions = value.predictions
        self.sizes.append(len(predictions))
        more = False
        for p in predictions:
            self.classes.append(p.class_name)
            self.confidences.append(p.confidence)
            self.boxes.append((p.x, p.y, p.width, p.height))
            more = more or not (p.class_id is p.detection_id is p.tracker_id is p.points is p.keypoints is UNSET)
        self.extra.append(_extra(predictions) if more else b"")

    def columns(self) -> dict[str, Column]:
        if not self.head:
            return {}
        ids, times, workspaces, models, devices, latency_ms, errors, sources, deployments, versions = zip(
            *self.head, strict=True
        )
        latency = np.array(latency_ms)
        sizes = np.array(self.sizes, np.int64)
        with np.errstate(over="ignore"):  # a box beyond Float32 becomes infinite, which is what it is
            boxes = np.array(self.boxes, np.float64).astype(np.float32).reshape(-1, 4)
        ppm = np.rint(np.array(self.confidences, np.float64) * 1e6)
        return {
            "event_id": Strings(ids),
            "event_time": Numbers("DateTime64(3)", np.array(times, np.int64)),
            "workspace": Strings(workspaces),
            "model_id": Strings(models),
            "device_id": Strings(devices),
            "latency_us": NullableNumbers(Numbers("UInt64", np.rint(np.maximum(latency, 0) * 1000)), latency >= 0),
            "detections.class": Lists(sizes, Strings(self.classes)),
            "detections.confidence_ppm": Lists(sizes, Numbers("UInt32", ppm)),
            "detections.x": Lists(sizes, Numbers("Float32", boxes[:, 0])),
            "detections.y": Lists(sizes, Numbers("Float32", boxes[:, 1])),
            "detections.width": Lists(sizes, Numbers("Float32", boxes[:, 2])),
            "detections.height": Lists(sizes, Numbers("Float32", boxes[:, 3])),
            "detections_extra": Strings(self.extra),
            "error": Strings(errors),
            "image_width": Numbers("UInt32", np.array([i.width or 0 for i in self.images])),
            "image_height": Numbers("UInt32", np.array([i.height or 0 for i in self.images])),
            "image_url": Strings([i.url or "" for i in self.images]),
            "metadata": _metadata_maps(self.metadata),
            "tags": string_lists(self.tags),
            "source": Strings(sources),
            "deployment": Strings(deployments),
            "server_version": Strings(versions),
        }


_NO_IMAGE = event.Image()
_NOTHING: Mapping[str, Any] = {}
_EXTRA_FIELDS = ("class_id", "detection_id", "tracker_id", "points", "keypoints")


def _extra(predictions: Sequence[Prediction]) -> bytes:
    """What else the detections had, as JSON: a list of objects, one a detection."""
    objects = []
    for p in predictions:
        given = [(name, value) for name in _EXTRA_FIELDS if (value := getattr(p, name)) is not UNSET]
        objects.append(b"{" + b",".join(b'"%b":%b' % (name.encode(), bytes(value)) for name, value in given) + b"}")
    return b"[" + b",".join(objects) + b"]"


def text_of(value: event.MetadataValue) -> str:
    """A metadata value as ClickHouse keeps it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode() if _fits(value) else str(value)


def _fits(value: float) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**64


def _metadata_maps(rows: Sequence[Mapping[str, Any]]) -> Maps:
    sizes = np.array([len(row) for row in rows], np.int64)
    keys = [key for row in rows for key in row]
    return Maps(sizes, Strings(keys), Strings([text_of(value) for row in rows for value in row.values()]))


def string_lists(rows: Sequence[Sequence[str]]) -> Lists:
    return Lists(np.array([len(row) for row in rows], np.int64), Strings([text for row in rows for text in row]))
