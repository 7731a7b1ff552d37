"""The subject `export`: inferences as files for labelling, training and spreadsheets, streamed from ClickHouse."""

import asyncio
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from enum import Enum
from typing import Annotated, Any, BinaryIO, cast

from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response import Stream

from pipeline.core.asking.changed.questions import Subset
from pipeline.core.asking.export import questions
from pipeline.core.asking.export.coco import Coco
from pipeline.core.asking.export.format import Format
from pipeline.core.asking.export.label_studio import LabelStudio
from pipeline.core.asking.export.rows import ClassList, decode
from pipeline.core.asking.export.tables import Csv, Lines
from pipeline.core.asking.export.yolo import Yolo
from pipeline.core.asking.language import parse
from pipeline.web.access.principal import May
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.period import period

LIMIT, LIMIT_MAX = 10_000, 1_000_000
ROWS_TOGETHER = 500  # that are written at once, in a thread
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
    MOST_SURE = "-confidence"
    QUICKEST = "latency"
    SLOWEST = "-latency"
    NONE = "none"  # as they lie


# How many images one file holds at most: archives and lists of images are for labelling, the rest may be all there is.
_LIMITS = {FileFormat.COCO: 100_000, FileFormat.YOLO: 100_000, FileFormat.LABELSTUDIO: 100_000}


@get(May.QUERY, "/export", media_type="application/octet-stream")
async def export(
    asked: Asked,
    format: FileFormat,
    filter: str = "",
    from_: Annotated[str, Parameter(query="from")] = "",
    to: str = "",
    sort: Order = Order.NEWEST,
    limit: Annotated[int, Parameter(ge=1, le=LIMIT_MAX)] = LIMIT,
    classes: str = "",
    polygons: bool = False,
) -> Stream:
    """Inferences as a file, boxes as pre-labels."""
    span = period(asked.clock.now_ms(), from_, to)
    subset = Subset(span.start_ms, span.end_ms, parse(filter))
    limit = min(limit, _LIMITS.get(format, LIMIT_MAX))
    if format is FileFormat.PARQUET:
        chunks = asked.store.stream(questions.parquet(subset, sort.value, limit))
        return await _answered(asked, chunks, "application/vnd.apache.parquet", "parquet")
    kind, make = await _format(asked, format, subset, [name for name in classes.split(",") if name], polygons)
    chunks = _written(make, asked.store.stream(questions.lines(subset, sort.value, limit)))
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


async def _written(make: Make, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The file. Each block is written in a thread: the loop has others to serve."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as aside:
        made = make(cast(BinaryIO, aside))
        head = made.head()
        async with aclosing(chunks):
            async for lines in _blocks(chunks):
                yield head + await asyncio.to_thread(_rows, made, lines)
                head = b""
        yield head
        for chunk in made.end():
            yield chunk


def _rows(made: Format, lines: Sequence[bytes]) -> bytes:
    return made.rows([decode(line) for line in lines], {})


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Whole lines, some at a time."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for start in range(0, len(lines), ROWS_TOGETHER):
            yield lines[start : start + ROWS_TOGETHER]
    if rest:
        yield [rest]


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
