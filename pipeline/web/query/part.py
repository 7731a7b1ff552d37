"""The part `query` as one Litestar application. Whoever goes away while we work ends the work.

It knows no route but those of ROUTES, each made with what its caller must be allowed (asked.py).
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store.questions import Questions
from pipeline.web.access.door import Door
from pipeline.web.asgi import Asgi, Message, Receive, Refused, Scope, Send, answer, headers_of, only
from pipeline.web.board.board import Board
from pipeline.web.images.gallery import Gallery
from pipeline.web.query import (
    alerts,
    compare,
    dead_letters,
    devices,
    export,
    inferences,
    models,
    overview,
    pipeline,
    rules,
    series,
    silences,
    stream,
    views,
)
from pipeline.web.query.about import about
from pipeline.web.query.asked import Admission, may_of
from pipeline.web.query.document import described, query_names, written
from pipeline.web.query.errors import answer_error
from pipeline.web.query.watching import Watching

ROUTES: Sequence[HTTPRouteHandler] = (
    *overview.ROUTES,
    *models.ROUTES,
    *compare.ROUTES,
    *export.ROUTES,
    *stream.ROUTES,
    *series.ROUTES,
    *inferences.ROUTES,
    *devices.ROUTES,
    *alerts.ROUTES,
    *dead_letters.ROUTES,
    *pipeline.ROUTES,
    *rules.ROUTES,
    *silences.ROUTES,
    *views.ROUTES,
)
BODY_BYTES_MAX = 1 << 20
BODY_S = 30.0
END_S = 8.0  # for answers that have begun when the process ends
DOCUMENT = "/v1/openapi.json"


class Query:
    """All of it; one for the process."""

    name = "query"

    def __init__(self, settings: Settings, door: Door, kafka: Kafka, clock: Clock, gallery: Gallery) -> None:
        self._door = door
        self._questions = Questions(settings)
        self._board = Board(settings, kafka)
        self._watching = Watching(kafka, settings, clock)
        admission = Admission(
            door,
            questions=self._questions,
            board=self._board,
            watching=self._watching,
            gallery=gallery,
            kafka=kafka,
            clock=clock,
            settings=settings,
        )
        self._app = application(admission)
        self._working: set[asyncio.Future[None]] = set()
        self._document = written(described(self._app))

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        if path == DOCUMENT:
            return self._describe
        head, _, rest = path.removeprefix("/v1/").partition("/")
        return self._answer if path.startswith("/v1/") and head and rest else None

    def not_ready(self) -> list[str]:
        """It works whenever the process does: what does not answer is told to who asks."""
        return []

    async def work(self) -> None:
        """Follows what everybody is shown."""
        async with asyncio.TaskGroup() as group:
            for follow in self._board.work:
                group.create_task(follow())

    def end(self) -> None:
        """Answers without an end come to one; others get a little time."""
        self._watching.end()
        asyncio.get_running_loop().call_later(END_S, lambda: [work.cancel() for work in self._working])

    async def stop(self) -> None:
        """Lets go of what it holds."""
        await self._watching.stop()
        await self._questions.close()
        await self._board.stop()

    async def _describe(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD")
        self._door.know(scope, headers_of(scope))
        await answer(send, 200, self._document)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ends the work when the client is gone."""
        bodies, gone = [await _body(receive)], asyncio.Event()

        async def received() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        # As it was sent: a %2F in a name is no slash between names (asked.py unquotes).
        raw = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        asked: Any = {**scope, "path": raw, "state": {}}
        work = asyncio.ensure_future(self._app(asked, received, send))  # type: ignore[arg-type]
        self._working.add(work)
        watch = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            gone.set()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
                return
            if work.cancelled():
                raise Refused(503, "ending", "this process ends", retry_after_s=1)
            work.result()
        finally:
            self._working.discard(work)
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)


def application(admission: Admission, routes: Sequence[HTTPRouteHandler] = ROUTES) -> Litestar:
    """The application. Raises TypeError for a route that does not say whom it is for."""
    for route in routes:
        may_of(route)
    app = Litestar(
        route_handlers=list(routes),
        guards=[admission.admit],
        dependencies={"asked": Provide(admission.provide), "about": Provide(about)},
        exception_handlers={Exception: answer_error, Refused: answer_error},
        openapi_config=OpenAPIConfig(
            title="inferwatch",
            version="1",
            use_handler_docstrings=True,
            security=[{"key": []}],
            components=Components(security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}),
        ),
        logging_config=None,
        pdb_on_exception=False,
        debug=False,
    )
    admission.query_names = query_names(app, described(app))
    return app


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_S):
            while (message := await receive())["type"] == "http.request":
                parts.append(message.get("body", b""))
                if sum(map(len, parts)) > BODY_BYTES_MAX:
                    raise Refused(413, "too_large", f"a body may have {BODY_BYTES_MAX >> 20} MiB")
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body did not come within {BODY_S:.0f} s") from None
    return b"".join(parts)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
