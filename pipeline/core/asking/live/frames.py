"""Frames of a live view, as server-sent events: how an inference, sums of windows and all else look there."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from pipeline.core.asking.sql import PPM
from pipeline.core.rows.inferences import text_of
from schemas.event import Image, InferenceEvent, Prediction
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


def shown(seen: InferenceEvent, partition: int, offset: int) -> dict[str, Any]:
    """An inference as it stands in a list of them; metadata that come later are not known yet."""
    image = seen.image or Image()
    return {
        "event_id": seen.event_id,
        "event_time": _time(seen.event_time_ms),
        "model_id": seen.model_id,
        "device_id": seen.device_id or None,
        "latency_ms": None if seen.latency_ms is None else round(seen.latency_ms * 1000) / 1000,
        "predictions": [_prediction(one) for one in seen.predictions[:DETECTIONS_MAX]],
        "predictions_left_out": max(0, len(seen.predictions) - DETECTIONS_MAX),
        "error": seen.error or None,
        "image": {"width": image.width or None, "height": image.height or None, "url": image.url or None},
        "metadata": {key: text_of(value) for key, value in (seen.metadata or {}).items()},
        "metadata_added": [],
        "tags": seen.tags or [],
        "source": seen.source or "",
        "deployment": seen.deployment or "",
        "server_version": seen.server_version or "",
        "kafka_partition": partition,
        "kafka_offset": offset,
    }


def _prediction(one: Prediction) -> dict[str, Any]:
    sides = {"x": one.x, "y": one.y, "width": one.width, "height": one.height}
    box = {name: side for name, side in sides.items() if side is not None}
    return {"class": one.class_name, "confidence": round(one.confidence * PPM) / PPM, **box}


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
