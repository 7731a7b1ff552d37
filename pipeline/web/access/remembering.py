"""Keys on this disk, as hashes, for the process after this one: it may start while Kafka is away."""

import asyncio
from pathlib import Path

import structlog

from pipeline.edge import remembered
from pipeline.web.access.book import AccessBook

log = structlog.get_logger()

LOOK_S = 2.0  # between looks whether keys have changed


def begin(book: AccessBook, file: Path) -> None:
    """What was remembered last is known again."""
    book.remember(remembered.read(file))


async def work(book: AccessBook, file: Path) -> None:
    """Remembers what changes. For ever."""
    last = 0
    while True:
        version, keys = book.to_remember()
        if version != last:
            try:
                await asyncio.to_thread(remembered.write, file, keys)
                last = version
            except OSError as error:
                log.warning("keys_not_remembered", error=str(error))
        await asyncio.sleep(LOOK_S)
