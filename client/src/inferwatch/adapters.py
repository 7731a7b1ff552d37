"""Predictions of well-known libraries as inferwatch has them. Nothing is imported: their objects are only read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferwatch.monitor import Monitor

Prediction = dict[str, Any]


def from_ultralytics(result: Any) -> list[Prediction]:
    """One `Results` of ultralytics: boxes (centre, pixels), or the classes of a classification."""
    names = result.names
    if getattr(result, "boxes", None) is not None:
        boxes = result.boxes
        rows = zip(boxes.xywh.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
        return [
            {"class": names[int(c)], "class_id": int(c), "confidence": p, "x": x, "y": y, "width": w, "height": h}
            for (x, y, w, h), p, c in rows
        ]
    if getattr(result, "probs", None) is not None:
        best = int(result.probs.top1)
        return [{"class": names[best], "class_id": best, "confidence": float(result.probs.top1conf)}]
    return []


def from_supervision(detections: Any) -> list[Prediction]:
    """`supervision.Detections`: corners become centres; `data["class_name"]` names the classes."""
    count = len(detections)
    names = detections.data.get("class_name") if getattr(detections, "data", None) else None
    ids, confidences, trackers = detections.class_id, detections.confidence, detections.tracker_id
    out: list[Prediction] = []
    for i in range(count):
        x1, y1, x2, y2 = (float(value) for value in detections.xyxy[i])
        class_id = int(ids[i]) if ids is not None else None
        prediction: Prediction = {
            "class": str(names[i]) if names is not None else str(class_id if class_id is not None else "object"),
            "confidence": float(confidences[i]) if confidences is not None else 1.0,
            "x": (x1 + x2) / 2,
            "y": (y1 + y2) / 2,
            "width": x2 - x1,
            "height": y2 - y1,
        }
        if class_id is not None:
            prediction["class_id"] = class_id
        if trackers is not None:
            prediction["tracker_id"] = int(trackers[i])
        out.append(prediction)
    return out


def from_roboflow(answer: Any) -> list[Prediction]:
    """The answer of a Roboflow server or of `inference` (dict, or an object with model_dump): all its tasks."""
    if hasattr(answer, "model_dump"):
        answer = answer.model_dump(by_alias=True, exclude_none=True)
    predictions = answer.get("predictions", [])
    if isinstance(predictions, dict) and "predictions" in predictions:  # of a workflow
        predictions = predictions["predictions"]
    if isinstance(predictions, dict):  # several labels
        chosen = answer.get("predicted_classes", list(predictions))
        return [{"class": name, **predictions[name]} for name in chosen if name in predictions]
    if "top" in answer:  # one label: the list holds every class there is
        return [p for p in predictions if p.get("class") == answer["top"]][:1]
    return [dict(p) for p in predictions]


def on_prediction(monitor: Monitor, model_id: str, device_id: str | None = None) -> Callable[[Any, Any], None]:
    """A sink for Roboflow's InferencePipeline (video), or one of several sources of it."""

    def sink(predictions: Any, frames: Any) -> None:
        many = predictions if isinstance(predictions, list) else [predictions]
        of_frames = frames if isinstance(frames, list) else [frames]
        for one, frame in zip(many, of_frames, strict=False):
            if one is None or frame is None:
                continue
            source = getattr(frame, "source_id", None)
            fields = {"frame_id": getattr(frame, "frame_id", None), "source_id": source}
            monitor.record(
                model_id,
                _or_nothing(one),
                device_id=device_id,
                metadata={name: value for name, value in fields.items() if value is not None},
            )

    return sink


def _or_nothing(answer: Any) -> list[Prediction]:
    try:
        return from_roboflow(answer)
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
