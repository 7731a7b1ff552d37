"""What is exported: a row of inferences, its detections, and the list of classes that formats number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from pipeline.core.asking.sql import PPM


class Row(msgspec.Struct, gc=False):
    """One inference, as `question` asks for it and ClickHouse writes it: a line of JSON. None in a box: not given."""

    event_id: str
    event_time_ms: int
    model_id: str
    device_id: str
    latency_us: int | None
    classes: list[str]
    confidence_ppm: list[int]
    x: list[float | None]
    y: list[float | None]
    width: list[float | None]
    height: list[float | None]
    extra: str
    error: str
    image_width: int
    image_height: int
    image_url: str
    metadata: dict[str, str]
    tags: list[str]
    source: str
    deployment: str
    server_version: str


class Box(NamedTuple):
    """In pixels, from the upper left corner."""

    left: float
    top: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box."""
        return self.left + self.width / 2, self.top + self.height / 2


@dataclass(frozen=True, slots=True)
class Detection:
    """One of a row. `points`: its outline, `keypoints`: (x, y, name), where they were kept and can be read."""

    class_name: str
    confidence: float
    box: Box | None
    points: tuple[tuple[float, float], ...] = ()
    keypoints: tuple[tuple[float, float, str], ...] = ()


decode = msgspec.json.Decoder(Row).decode


_decode_more = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_anything = msgspec.json.Decoder().decode


def more_of(row: Row) -> list[dict[str, msgspec.Raw]]:
    """What else was kept of its detections, each as it was given."""
    return _decode_more(row.extra) if row.extra else [{}] * len(row.classes)


def detections(row: Row) -> list[Detection]:
    """All of them, in order."""
    boxes = zip(row.x, row.y, row.width, row.height, strict=True)
    return [
        Detection(name, ppm / PPM, _box(*box), _points(more.get("points")), _keypoints(more.get("keypoints")))
        for name, ppm, box, more in zip(row.classes, row.confidence_ppm, boxes, more_of(row), strict=True)
    ]


def _box(x: float | None, y: float | None, width: float | None, height: float | None) -> Box | None:
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    return Box(x - width / 2, y - height / 2, width, height)


def _points(given: msgspec.Raw | None) -> tuple[tuple[float, float], ...]:
    """Of [{"x", "y"}, ...] or [[x, y], ...]."""
    found = [_point(one) for one in _list(given)]
    points = tuple(one for one in found if one is not None)
    return points if len(points) == len(found) >= 3 else ()


def _keypoints(given: msgspec.Raw | None) -> tuple[tuple[float, float, str], ...]:
    found = []
    for number, one in enumerate(_list(given)):
        point = _point(one)
        if point is None:
            return ()
        name = one.get("class") if isinstance(one, dict) else None
        found.append((*point, name if isinstance(name, str) else str(number)))
    return tuple(found)


def _list(given: msgspec.Raw | None) -> list[Any]:
    """A producer may have sent anything."""
    try:
        found = None if given is None else _decode_anything(given)
    except (msgspec.DecodeError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _point(one: Any) -> tuple[float, float] | None:
    if isinstance(one, dict):
        one = [one.get("x"), one.get("y")]
    if not isinstance(one, list) or len(one) < 2 or not all(_is_number(side) for side in one[:2]):
        return None
    return float(one[0]), float(one[1])


def _is_number(one: Any) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < 1e9


@dataclass(slots=True)
class ClassList:
    """Classes by number: in the order that was given, then as they come."""

    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, pinned: Sequence[str], found: Iterable[str]) -> "ClassList":
        """`pinned` keep their numbers from one export to the next; the others follow by name."""
        order = dict.fromkeys((*pinned, *sorted(found)))
        return cls({name: number for number, name in enumerate(order)})

    def number(self, name: str) -> int:
        """From 0; one that came in while we read is the next."""
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def names(self) -> list[str]:
        """By number."""
        return list(self.numbers)


def image_of(row: Row, workspace: str) -> str:
    """Where its picture is: what the event says, or the path at which this process has it if anybody sent it."""
    own = f"/v1/{quote(workspace, safe='')}/inferences/{quote(row.event_id, safe='')}/image"
    return row.image_url or own
