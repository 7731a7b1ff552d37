"""Label Studio: a list of tasks with predictions, sides in per cent of the image.

For a labelling configuration with <Image name="image" value="$image"/>, and what is needed of <RectangleLabels
name="label">, <PolygonLabels name="polygon">, <KeyPointLabels name="keypoint"> and <Choices name="choice">, all of
toName="image".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from pipeline.core.asking.export.format import ImageFile
from pipeline.core.asking.export.rows import Box, Detection, Row, detections, image_of
from pipeline.core.words import iso

_KEYPOINT_WIDTH = 0.5  # how large it is drawn


class LabelStudio:
    """One file of JSON."""

    content_type, suffix = "application/json", "labelstudio.json"

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._tasks = 0

    def head(self) -> bytes:
        """Up to the first task."""
        return b"["

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """Tasks."""
        return b"".join(self._task(row) for row in rows)

    def end(self) -> Iterator[bytes]:
        """Behind the last."""
        yield b"]\n"

    def _task(self, row: Row) -> bytes:
        self._tasks += 1
        found = detections(row)
        results = [one for number, each in enumerate(found) for one in _results(row, number, each)]
        data = {
            "image": image_of(row, self._workspace),
            "event_id": row.event_id,
            "event_time": iso(row.event_time_ms),
            "model_id": row.model_id,
            "device_id": row.device_id,
            "metadata": row.metadata,
            "tags": row.tags,
        }
        if found and not row.image_width * row.image_height:
            data["left_out"] = "boxes: the event does not say how large its image is"
        score = min((each.confidence for each in found), default=1.0)
        task = {"data": data, "predictions": [{"model_version": row.model_id, "score": score, "result": results}]}
        return (b"," if self._tasks > 1 else b"") + b"\n" + orjson.dumps(task)


def _results(row: Row, number: int, of: Detection) -> Iterator[dict[str, Any]]:
    if of.box is None and not of.points:
        choice = {"choices": [of.class_name]}
        yield {"id": f"d{number}", "from_name": "choice", "to_name": "image", "type": "choices", "value": choice}
        return
    if not row.image_width * row.image_height:
        return

    def result(name: str, kind: str, id_: str, value: dict[str, Any], label: str) -> dict[str, Any]:
        return {
            "id": id_,
            "from_name": name,
            "to_name": "image",
            "type": kind,
            "original_width": row.image_width,
            "original_height": row.image_height,
            "image_rotation": 0,
            "score": of.confidence,
            "value": value | {kind: [label]},
        }

    if of.points:
        points = [[x / row.image_width * 100, y / row.image_height * 100] for x, y in of.points]
        yield result("polygon", "polygonlabels", f"d{number}", {"points": points, "closed": True}, of.class_name)
    elif of.box is not None:
        yield result("label", "rectanglelabels", f"d{number}", _in_per_cent(of.box, row), of.class_name)
    for at, (x, y, name) in enumerate(of.keypoints):
        value = {"x": x / row.image_width * 100, "y": y / row.image_height * 100, "width": _KEYPOINT_WIDTH}
        yield result("keypoint", "keypointlabels", f"d{number}k{at}", value, name)


def _in_per_cent(box: Box, row: Row) -> dict[str, Any]:
    return {
        "x": box.left / row.image_width * 100,
        "y": box.top / row.image_height * 100,
        "width": box.width / row.image_width * 100,
        "height": box.height / row.image_height * 100,
        "rotation": 0,
    }
