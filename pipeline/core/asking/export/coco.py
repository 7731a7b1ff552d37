"""COCO: boxes from the upper left corner, polygons, keypoints; confidence as `score`.

Images and annotations are two lists: annotations wait in a file of their own until all images are out.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import orjson

from pipeline.core.asking.export.format import ImageFile
from pipeline.core.asking.export.rows import ClassList, Detection, Row, detections, image_of
from pipeline.core.words import iso

_CHUNK = 1 << 16


class Coco:
    """One file of JSON."""

    content_type, suffix = "application/json", "coco.json"

    def __init__(self, workspace: str, classes: ClassList, aside: BinaryIO | None = None) -> None:
        """`aside`: where annotations wait."""
        self._workspace, self._classes = workspace, classes
        self._aside = io.BytesIO() if aside is None else aside
        self._images = self._annotations = self._without_box = 0
        self._keypoints: dict[str, list[str]] = {}  # of a class, as its first detection has them

    def head(self) -> bytes:
        """Up to the first image."""
        return b'{"images":['

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """Images; their annotations are put aside."""
        return b"".join(self._image(row) for row in rows)

    def end(self) -> Iterator[bytes]:
        """Annotations, and what is known only now."""
        yield b'],"annotations":['
        self._aside.seek(0)
        while chunk := self._aside.read(_CHUNK):
            yield chunk
        yield b'],"categories":' + orjson.dumps([*self._categories()])
        info = {"description": f"inferwatch, workspace {self._workspace}", "detections_without_box": self._without_box}
        yield b',"info":' + orjson.dumps(info) + b',"licenses":[]}\n'

    def _image(self, row: Row) -> bytes:
        self._images += 1
        reference = image_of(row, self._workspace)
        for detection in detections(row):
            if detection.box is None and not detection.points:
                self._without_box += 1
                continue
            self._annotations += 1
            comma = b"," if self._annotations > 1 else b""
            self._aside.write(comma + orjson.dumps(self._annotation(detection)))
        image = {
            "id": self._images,
            "file_name": reference.rsplit("/", 1)[-1] if row.image_url else row.event_id,
            "coco_url": reference,
            "width": row.image_width,
            "height": row.image_height,
            "date_captured": iso(row.event_time_ms),
            "event_id": row.event_id,
            "model_id": row.model_id,
            "device_id": row.device_id,
            "metadata": row.metadata,
        }
        return (b"," if self._images > 1 else b"") + orjson.dumps(image)

    def _annotation(self, of: Detection) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": self._annotations,
            "image_id": self._images,
            "category_id": self._classes.number(of.class_name) + 1,
            "bbox": list(of.box or _around(of.points)),
            "area": _area(of.points) if of.points else of.box.width * of.box.height if of.box else 0,
            "iscrowd": 0,
            "score": of.confidence,
            "segmentation": [[side for point in of.points for side in point]] if of.points else [],
        }
        if of.keypoints:
            self._keypoints.setdefault(of.class_name, [name for _, _, name in of.keypoints])
            found["keypoints"] = [side for x, y, _ in of.keypoints for side in (x, y, 2)]
            found["num_keypoints"] = len(of.keypoints)
        return found

    def _categories(self) -> Iterator[dict[str, Any]]:
        for number, name in enumerate(self._classes.names):
            more = {"keypoints": self._keypoints[name], "skeleton": []} if name in self._keypoints else {}
            yield {"id": number + 1, "name": name, "supercategory": ""} | more


def _around(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _area(points: Sequence[tuple[float, float]]) -> float:
    """By the shoelace."""
    pairs = zip(points, (*points[1:], points[0]), strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2
