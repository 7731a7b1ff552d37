"""The subject `export`: inferences as files for labelling, training and spreadsheets, streamed from ClickHouse."""

import asyncio
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from enum import Enum
from typing import Annotated, Any, BinaryIO, cast

from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response import Stream

from pipeline.core.asking.changed.questions import Subset
from pipeline.core.asking.export import questions
from pipeline.core.asking.export.coco import Coco
from pipeline.core.asking.export.format import Format, ImageFile
from pipeline.core.asking.export.label_studio import LabelStudio
from pipeline.core.asking.export.rows import ClassList, Row, decode
from pipeline.core.asking.export.tables import Csv, Lines
from pipeline.core.asking.export.yolo import Yolo
from pipeline.core.asking.numbers import NumbersAt
from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get

LIMIT, LIMIT_MAX = 10_000, 1_000_000
ROWS_TOGETHER, PICTURES_TOGETHER = 500, 4  # that are written at once, in a thread
SPOOL_BYTES = 8 << 20  # of annotations in memory; beyond they wait in a file
Make = Callable[[BinaryIO], Format]
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class FileFormat(Enum):
    """What the file is."""

    COCO = "coco"
    YOLO = "yolo"
    LABELSTUDIO = "labelstudio"
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


class Order(Enum):
    """Which come first."""

    NEWEST = "-time"
    OLDEST = "time"
    LEAST_SURE = "confidence"
    MOST_SURE = "-confidence"  # by the detection that is least sure
    QUICKEST = "latency"
    SLOWEST = "-latency"
    NONE = "none"  # as they lie


# How many images one file holds at most: archives and lists of images are for labelling, the rest may be all there is.
_LIMITS = {FileFormat.COCO: 100_000, FileFormat.YOLO: 100_000, FileFormat.LABELSTUDIO: 100_000}


@get(May.QUERY, "/export", media_type="application/octet-stream")
async def export(
    asked: Asked,
    about: About,
    format: FileFormat,
    sort: Order = Order.NEWEST,
    limit: Annotated[int, Parameter(ge=1, le=LIMIT_MAX)] = LIMIT,
    classes: str = "",
    polygons: bool = False,
    pictures: bool = False,
) -> Stream:
    """Inferences as a file, boxes as pre-labels."""
    about.check(NumbersAt.ROWS)
    subset = Subset(about.start_ms, about.end_ms, about.filter)
    limit = min(limit, _LIMITS.get(format, LIMIT_MAX))
    if format is FileFormat.PARQUET:
        chunks = asked.store.stream(questions.parquet(subset, sort.value, limit))
        return await _answered(asked, chunks, "application/vnd.apache.parquet", "parquet")
    if pictures:
        if format is not FileFormat.YOLO:
            raise Refused(400, "no_pictures", "only yolo is an archive that may hold pictures")
        asked.gallery.must_be_on()
    kind, make = await _format(asked, format, subset, [name for name in classes.split(",") if name], polygons)
    rows = _rows(
        asked.store.stream(questions.lines(subset, sort.value, limit)), PICTURES_TOGETHER if pictures else ROWS_TOGETHER
    )
    chunks = _written(make, rows, asked if pictures else None)
    return await _answered(asked, chunks, kind.content_type, kind.suffix)


async def _format(
    asked: Asked, format_: FileFormat, subset: Subset, pinned: Sequence[str], polygons: bool
) -> tuple[type[Format], Make]:
    """What it is, and how it is made with a file for what must wait."""
    match format_:
        case FileFormat.COCO:
            coco_classes = await _classes(asked, subset, pinned)
            return Coco, lambda aside: Coco(asked.workspace, coco_classes, aside)
        case FileFormat.YOLO:
            yolo_classes = await _classes(asked, subset, pinned)
            return Yolo, lambda _: Yolo(asked.workspace, yolo_classes, polygons=polygons)
        case FileFormat.LABELSTUDIO:
            return LabelStudio, lambda _: LabelStudio(asked.workspace)
        case FileFormat.CSV:
            return Csv, lambda _: Csv(asked.workspace)
        case _:
            return Lines, lambda _: Lines(asked.workspace)


async def _classes(asked: Asked, subset: Subset, pinned: Sequence[str]) -> ClassList:
    return ClassList.of(pinned, [name for (name,) in await asked.store.ask(questions.classes(subset))])


async def _written(make: Make, rows: AsyncGenerator[list[Row]], pictured: Asked | None) -> AsyncGenerator[bytes]:
    """The file. Each block is written in a thread: the loop has others to serve."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as aside:
        made = make(cast(BinaryIO, aside))
        head = made.head()
        async with aclosing(rows):
            async for some in rows:
                pictures = await _pictures(pictured, some) if pictured else {}
                yield head + await asyncio.to_thread(made.rows, some, pictures)
                head = b""
        yield head
        for chunk in made.end():
            yield chunk


async def _pictures(asked: Asked, rows: Sequence[Row]) -> dict[int, ImageFile]:
    """Those that are kept here, by the place of their row."""
    found = {}
    for place, row in enumerate(rows):
        if stored := await asked.gallery.about(asked.workspace, row.event_id):
            raw = await asked.gallery.bytes_of(asked.workspace, row.event_id, stored, thumbnail=False)
            if raw is not None:
                found[place] = ImageFile(raw, stored.content_type, stored.width, stored.height)
    return found


async def _rows(chunks: AsyncGenerator[bytes], together: int) -> AsyncGenerator[list[Row]]:
    """Some at a time, of lines that come in pieces."""
    rest = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for start in range(0, len(lines), together):
                yield [decode(line) for line in lines[start : start + together]]
        if rest:
            yield [decode(rest)]


async def _answered(asked: Asked, chunks: AsyncGenerator[bytes], content_type: str, suffix: str) -> Stream:
    """The answer, once there is something to answer: a question that fails at once is refused as any other."""
    first = await _first(chunks)

    async def all_of_it() -> AsyncGenerator[bytes]:
        async with aclosing(chunks):
            yield first
            async for chunk in chunks:
                if chunk:
                    yield chunk

    name = f"{_ODD.sub('_', asked.workspace)[:100]}.{suffix}"
    headers: dict[str, Any] = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Stream(all_of_it(), media_type=content_type, headers=headers)


async def _first(chunks: AsyncGenerator[bytes]) -> bytes:
    """What comes first; it has the store's answer in it, or there is none."""
    try:
        async for chunk in chunks:
            if chunk:
                return chunk
    except BaseException:
        await chunks.aclose()
        raise
    return b""


ROUTES: Sequence[HTTPRouteHandler] = (export,)
