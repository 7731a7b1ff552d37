"""A proxy that cuts requests and answers anywhere in their bytes, and passes on the rest as if it were whole."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from pipeline.edge.local.ports import HOST, free_port


@dataclass
class Cutting:
    """Forwards to ClickHouse; each cut strikes once."""

    target: str
    requests: list[float] = field(default_factory=list)  # shares of a body that are left
    answers: list[float] = field(default_factory=list)
    struck: int = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None  # an insert is done, its answer lost, and then this happens

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        is_insert = "insert_deduplication_token" in request.query
        if self.requests and is_insert:
            body = self._cut(body, self.requests.pop(0))
        headers = {name: value for name, value in request.headers.items() if name.startswith("X-ClickHouse")}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.target + "/", params=request.query, data=body, headers=headers) as response,
        ):
            answer = await response.read()
            if is_insert and self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                await meanwhile()
                assert request.transport is not None
                request.transport.abort()
            if self.answers and not is_insert:
                answer = self._cut(answer, self.answers.pop(0))
            said = {name: value for name, value in response.headers.items() if name.startswith("X-ClickHouse")}
            return web.Response(status=response.status, body=answer, headers=said)

    def _cut(self, body: bytes, share: float) -> bytes:
        self.struck += 1
        return body[: min(len(body) - 1, int(len(body) * share))]


@asynccontextmanager
async def cutting(target: str) -> AsyncIterator[tuple[Cutting, str]]:
    """The proxy, and where it listens."""
    proxy, port = Cutting(target), free_port()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/", proxy.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield proxy, f"http://{HOST}:{port}"
    finally:
        await runner.cleanup()
