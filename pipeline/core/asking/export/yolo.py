"""YOLO as Ultralytics reads it, in a zip archive that is written as it is read: labels in shares of the image.

What cannot be said in it (an image of unknown size, a detection without a box) stands in left_out.csv.
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence

from pipeline.core.asking.export.format import ImageFile
from pipeline.core.asking.export.rows import ClassList, Detection, Row, detections, image_of
from pipeline.core.words import cell

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ENDS = {"image/jpeg": ".jpg"}


class Yolo:
    """labels/train/*.txt, images.csv (which picture each belongs to), data.yaml; and images/train/* where asked for."""

    content_type, suffix = "application/zip", "yolo.zip"

    def __init__(self, workspace: str, classes: ClassList, *, polygons: bool = False) -> None:
        """`polygons`: outlines instead of boxes where a detection has one, for segmentation."""
        self._workspace, self._classes, self._polygons = workspace, classes, polygons
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1)  # type: ignore[call-overload]
        self._rows = 0
        self._images, self._left_out = _Table("label", "event_id", "image"), _Table("event_id", "why")

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """Labels, and pictures if there are any."""
        for place, row in enumerate(rows):
            self._rows += 1
            self._add(row, pictures.get(place))
        return self._sink.take()

    def end(self) -> Iterator[bytes]:
        """What is known only now."""
        self._put("images.csv", self._images.text)
        if self._left_out:
            self._put("left_out.csv", self._left_out.text)
        names = "".join(f"  {number}: {_yaml(name)}\n" for number, name in enumerate(self._classes.names))
        self._put("data.yaml", f"path: .\ntrain: images/train\nval: images/train\nnames:\n{names}")
        self._zip.close()
        yield self._sink.take()

    def _add(self, row: Row, picture: ImageFile | None) -> None:
        # The number keeps apart what has the same id, and the order that was asked for.
        stem = f"{self._rows:06}" + (f"-{row.event_id}" if _PLAIN.fullmatch(row.event_id) else "")
        image = image_of(row, self._workspace)
        if picture is not None:
            image = f"images/train/{stem}{_ENDS.get(picture.content_type, '.' + picture.content_type.split('/')[-1])}"
            self._zip.writestr(_entry(image, zipfile.ZIP_STORED), picture.raw)
        width, height = row.image_width, row.image_height  # what boxes are in; a picture may have been made smaller
        if picture is not None and not width * height:
            width, height = picture.width, picture.height
        label = f"labels/train/{stem}.txt"
        self._images.add(label, row.event_id, image)
        if row.classes and not width * height:
            self._left_out.add(row.event_id, "the size of its image is not known")
            return
        lines = [self._line(each, width, height) for each in detections(row)]
        if without := lines.count(""):
            self._left_out.add(row.event_id, f"{without} detections without a box in the image")
        self._put(label, "".join(lines))

    def _line(self, of: Detection, width: int, height: int) -> str:
        number = self._classes.number(of.class_name)
        if self._polygons and of.points:
            sides = [side for x, y in of.points for side in (_within(x / width), _within(y / height))]
            return " ".join((str(number), *(f"{side:.6f}" for side in sides))) + "\n"
        if of.box is None:
            return ""
        left, right = _within(of.box.left / width), _within((of.box.left + of.box.width) / width)
        top, bottom = _within(of.box.top / height), _within((of.box.top + of.box.height) / height)
        if right <= left or bottom <= top:
            return ""
        box = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        return " ".join((str(number), *(f"{side:.6f}" for side in box))) + "\n"

    def _put(self, name: str, text: str) -> None:
        self._zip.writestr(_entry(name, zipfile.ZIP_DEFLATED), text)


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # of 1980: the same rows make the same archive
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16
    return entry


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))


def _yaml(name: str) -> str:
    """In quotes; what cannot be printed is written out."""
    plain = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in name)
    return '"' + "".join(plain) + '"'


class _Table:
    """A file of CSV in the making."""

    def __init__(self, *columns: str) -> None:
        self._out = io.StringIO(newline="")
        self._writer = csv.writer(self._out)
        self._writer.writerow(columns)
        self._lines = 0

    def add(self, *cells: str) -> None:
        self._lines += 1
        self._writer.writerow(map(cell, cells))

    def __bool__(self) -> bool:
        return self._lines > 0

    @property
    def text(self) -> str:
        return self._out.getvalue()


class _Sink:
    """Where the archive is written to; nobody can go back in it, so sizes stand behind each entry."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> int:
        self._chunks.append(bytes(chunk))
        return len(chunk)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)
