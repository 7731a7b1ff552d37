"""One ASGI application of parts: a part says which paths are its own, the rest is the process's own pages or a 404.

/healthz is for everybody. /readyz tells everybody whether, and only who has a key why not. /metrics wants a key that
may query every workspace, unless INFERWATCH_WEB_METRICS_OPEN says otherwise.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline.edge.metrics import HTTP_REQUESTS
from pipeline.web.access.door import Door
from pipeline.web.access.principal import May
from pipeline.web.asgi import (
    COOKIES,
    JSON,
    Asgi,
    Body,
    Message,
    Receive,
    Refused,
    Scope,
    Send,
    answer,
    headers_of,
    only,
)
from schemas.access import EVERY_WORKSPACE
from schemas.roles import WEB

log = structlog.get_logger()


class Part(Protocol):
    """One of the applications that this one is made of."""

    name: str

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path (still with its %20); None: it is not this part's."""

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""

    async def stop(self) -> None:
        """Lets go of what it holds."""


@runtime_checkable
class Working(Protocol):
    """A part that has something to do beside requests."""

    async def work(self) -> None:
        """For ever. What it raises ends the process."""


@runtime_checkable
class Endless(Protocol):
    """A part with answers that take long, or for ever."""

    def end(self) -> None:
        """The process ends: brings them to an end."""


@runtime_checkable
class Inquiring(Protocol):
    """A part whose answers are made of what others answer."""

    def meet(self, find: Callable[[str], Asgi | None]) -> None:
        """`find`: who of the others answers at a path."""


class App:
    """What the server calls."""

    def __init__(
        self, parts: Sequence[Part], door: Door, not_ready: Callable[[], list[str]], *, metrics_open: bool
    ) -> None:
        """`not_ready`: why the process as a whole does not work."""
        self._parts, self._door, self._not_ready = parts, door, not_ready
        self._metrics_open = metrics_open
        for part in parts:
            if isinstance(part, Inquiring):
                part.meet(partial(_found, [other for other in parts if other is not part]))
        self._pages = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        name, found = self._find(scope.get("raw_path", b"").decode("latin-1") or scope["path"])
        body, status = Body(receive), 0
        cookies: list[bytes] = []
        scope[COOKIES] = cookies

        async def counted(message: Message) -> None:
            nonlocal status
            if not status:
                status = message["status"]
                if cookies:
                    message["headers"] = [*message.get("headers", ()), *((b"set-cookie", one) for one in cookies)]
            await send(message)

        try:
            await found(scope, body, counted)
        except Refused as why:
            if not status:
                if scope["method"] not in ("GET", "HEAD") and why.status != 408:
                    await body.drain()
                await answer(counted, why.status, why.body, why.headers)
        except (
            Exception
        ):  # whatever it is, one request's mistake of ours ends no other: told in the log, counted as a 500
            log.exception("request_failed", part=name, method=scope["method"], path=scope["path"])
            if status:
                raise  # the answer has begun: the server breaks the connection off
            await answer(counted, 500, b'{"reason":"internal","message":"this is our mistake; our log says more"}')
        finally:
            HTTP_REQUESTS.labels(name, str(status)).inc()

    def _find(self, path: str) -> tuple[str, Asgi]:
        for part in self._parts:
            if (found := part.find(path)) is not None:
                return part.name, found
        return "process", self._pages.get(path, _nothing)

    async def _healthz(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD")
        await answer(send, 200, orjson.dumps({"ok": True, "role": WEB}))

    async def _readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD")
        why = self._not_ready()
        why += [reason for part in self._parts for reason in part.not_ready()]
        told: dict[str, object] = {"ready": not why, "role": WEB}
        if why and self._is_known(scope):
            told["why"] = why
        await answer(send, 503 if why else 200, orjson.dumps(told))

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD")
        if not self._metrics_open:
            self._door.admit(scope, headers_of(scope), May.QUERY, EVERY_WORKSPACE)
        await answer(send, 200, generate_latest(), content_type=CONTENT_TYPE_LATEST.encode())

    def _is_known(self, scope: Scope) -> bool:
        try:
            self._door.admit(scope, headers_of(scope), May.QUERY, EVERY_WORKSPACE)
        except Refused:
            return False
        return True


def _found(parts: Sequence[Part], path: str) -> Asgi | None:
    return next((found for part in parts if (found := part.find(path)) is not None), None)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 404, b'{"reason":"not_found","message":"there is nothing at this path"}', content_type=JSON)
