"""Exports as lines: NDJSON (our own events, to be sent in again) and CSV (a line a detection, for spreadsheets)."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from pipeline.core.asking.export.format import ImageFile
from pipeline.core.asking.export.rows import Row, image_of, more_of
from pipeline.core.asking.sql import PPM
from pipeline.core.words import cell, iso
from schemas.event import SCHEMA_VERSION

COLUMNS = (
    "event_id",
    "event_time",
    "model_id",
    "device_id",
    "latency_ms",
    "error",
    "class",
    "confidence",
    "x",
    "y",
    "width",
    "height",
    "image",
    "image_width",
    "image_height",
    "metadata",
    "tags",
    "source",
    "deployment",
    "server_version",
)


class Lines:
    """Events, one a line, as they may be published again. Values of metadata are texts by now."""

    content_type, suffix = "application/x-ndjson", "ndjson"

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """A line each."""
        return b"".join(msgspec.json.encode(event_of(row, self._workspace)) + b"\n" for row in rows)

    def end(self) -> Iterator[bytes]:
        """Nothing."""
        yield from ()


def event_of(row: Row, workspace: str) -> dict[str, Any]:
    """The event that the row was, without what was not given."""
    boxes = zip(row.x, row.y, row.width, row.height, strict=True)
    predictions = [
        {"class": name, "confidence": ppm / PPM, **_given(zip(("x", "y", "width", "height"), box, strict=True)), **rest}
        for name, ppm, box, rest in zip(row.classes, row.confidence_ppm, boxes, more_of(row), strict=True)
    ]
    image = {"width": row.image_width or None, "height": row.image_height or None, "url": row.image_url or None}
    event = {
        "schema": SCHEMA_VERSION,
        "event_id": row.event_id,
        "event_time_ms": row.event_time_ms,
        "workspace": workspace,
        "model_id": row.model_id,
        "device_id": row.device_id or None,
        "latency_ms": None if row.latency_us is None else row.latency_us / 1000,
        "error": row.error or None,
        "image": _given(image.items()) or None,
        "metadata": row.metadata or None,
        "tags": row.tags or None,
        "source": row.source or None,
        "deployment": row.deployment or None,
        "server_version": row.server_version or None,
    }
    return _given(event.items()) | {"predictions": predictions}


def _given(pairs: Any) -> dict[str, Any]:
    return {name: value for name, value in pairs if value is not None}


class Csv:
    """A line a detection; an inference without one has a line of its own. No text is a formula."""

    content_type, suffix = "text/csv; charset=utf-8", "csv"

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace

    def head(self) -> bytes:
        """The names of the columns."""
        return _written([COLUMNS])

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """Lines."""
        return _written([line for row in rows for line in self._lines(row)])

    def end(self) -> Iterator[bytes]:
        """Nothing."""
        yield from ()

    def _lines(self, row: Row) -> Iterator[Sequence[Any]]:
        latency_ms = "" if row.latency_us is None else row.latency_us / 1000
        first = [cell(row.event_id), iso(row.event_time_ms), cell(row.model_id), cell(row.device_id), latency_ms]
        first.append(cell(row.error))
        last = [
            cell(image_of(row, self._workspace)),
            row.image_width or "",
            row.image_height or "",
            orjson.dumps(row.metadata).decode() if row.metadata else "",
            cell(" ".join(row.tags)),
            *map(cell, (row.source, row.deployment, row.server_version)),
        ]
        boxes = zip(row.x, row.y, row.width, row.height, strict=True)
        for name, ppm, box in zip(row.classes, row.confidence_ppm, boxes, strict=True):
            yield [*first, cell(name), ppm / PPM, *("" if side is None else side for side in box), *last]
        if not row.classes:
            yield [*first, *[""] * 6, *last]


def _written(lines: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(lines)
    return out.getvalue().encode()
