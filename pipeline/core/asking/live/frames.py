"""Frames of a live view, as server-sent events: how an inference, sums of windows and all else look there."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from pipeline.core.rows.inferences import text_of
from schemas.event import InferenceEvent, Prediction
from schemas.windows import WINDOW_MS

DETECTIONS_MAX = 100  # shown of one inference
SUMS = (
    "inference_count",
    "error_count",
    "empty_count",
    "detection_count",
    "latency_count",
    "latency_us_sum",
    "confidence_ppm_sum",
)


def frame(name: str, data: Mapping[str, Any], id_: str = "") -> bytes:
    """A server-sent event."""
    head = f"id: {id_}\n" if id_ else ""
    return f"{head}event: {name}\n".encode() + b"data: " + orjson.dumps(data) + b"\n\n"


def shown(seen: InferenceEvent) -> dict[str, Any]:
    """An inference as it is shown in a list."""
    return {
        "event_id": seen.event_id,
        "event_time": _time(seen.event_time_ms),
        "model_id": seen.model_id,
        "device_id": seen.device_id or "",
        "latency_ms": None if seen.latency_ms is None else round(seen.latency_ms * 1000) / 1000,
        "error": seen.error or "",
        "detection_count": len(seen.predictions),
        "detections": [_detection(one) for one in seen.predictions[:DETECTIONS_MAX]],
        "image_url": (seen.image.url if seen.image else None) or "",
        "metadata": {key: text_of(value) for key, value in (seen.metadata or {}).items()},
        "tags": seen.tags or [],
        "source": seen.source or "",
        "deployment": seen.deployment or "",
        "server_version": seen.server_version or "",
    }


def _detection(one: Prediction) -> dict[str, Any]:
    box = {"x": one.x, "y": one.y, "width": one.width, "height": one.height}
    return {"class": one.class_name, "confidence": one.confidence} | box


def numbers_frame(windows: Iterable[tuple[int, list[int]]]) -> bytes:
    """Windows by their start, in the order of SUMS."""
    told = []
    for start_ms, (inferences, errors, empty, detections, latencies, latency_us, ppm) in windows:
        told.append(
            {
                "start": _time(start_ms),
                "end": _time(start_ms + WINDOW_MS),
                "inference_count": inferences,
                "error_count": errors,
                "empty_count": empty,
                "detection_count": detections,
                "latency_mean_ms": latency_us / latencies / 1000 if latencies else None,
                "confidence_mean": ppm / detections / 1e6 if detections else None,
            }
        )
    return frame("numbers", {"windows": told})


def _time(time_ms: int) -> str:
    return f"{np.datetime64(time_ms, 'ms')}Z"
