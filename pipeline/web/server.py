"""The HTTP server in this process's own loop: Granian, whose core is Rust: a request costs Python only what is ours.

It reads header lines against a deadline of its own; bodies against ours (ingest/bodies.py).
"""

import asyncio
import logging
from collections.abc import Callable

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from pipeline.web.asgi import Asgi

HEADERS_WITHIN_MS = 10_000
BACKLOG = 1024


async def serve(app: Asgi, host: str, port: int, when_asked_to_end: Callable[[Callable[[], None]], None]) -> None:
    """Serves until it is asked to end. `when_asked_to_end(action)` has somebody call `action` then."""
    logging.getLogger("_granian").setLevel(logging.WARNING)
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        backlog=BACKLOG,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_WITHIN_MS),
        log_enabled=False,
    )
    asked = asyncio.Event()
    when_asked_to_end(asked.set)
    serving = asyncio.ensure_future(server.serve())
    ending = asyncio.ensure_future(asked.wait())
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if asked.is_set():
        server.stop()  # type: ignore[no-untyped-call]
    await serving  # raises what went wrong
