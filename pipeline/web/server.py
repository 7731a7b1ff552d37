"""The HTTP server in this process's own loop: Granian, whose core is Rust: a request costs Python only what is ours.

It reads header lines against a deadline of its own; bodies against ours (ingest/bodies.py).
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from pipeline.web.asgi import Asgi

HEADERS_WITHIN_MS = 10_000
BACKLOG = 1024
END_S = 15.0  # for what has begun


class PortError(Exception):
    """The address cannot be listened on; the text says why."""


async def serve(app: Asgi, host: str, port: int, when_asked_to_end: Callable[[Callable[[], None]], None]) -> None:
    """Serves until it is asked to end. `when_asked_to_end(action)` has somebody call `action` then.

    Raises PortError where nobody can listen there: Granian would say nothing, and never end.
    """
    _check(host, port)
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
    await asyncio.wait_for(serving, END_S)  # raises what went wrong


def _check(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise PortError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another INFERWATCH_WEB_PORT or _HOST"
        ) from error
