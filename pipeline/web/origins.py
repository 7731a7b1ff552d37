"""Pages of other origins that may send and ask from a browser (CORS). No cookie is involved: a key is sent along."""

from collections.abc import Sequence

from pipeline.web.asgi import Asgi, Message, Receive, Scope, Send, answer, headers_of

ANY = "*"
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, x-api-key, content-type, content-encoding, idempotency-key, x-inferwatch-dropped",
    ),
    (b"access-control-max-age", b"600"),
)


class Origins:
    """In front of an application."""

    def __init__(self, app: Asgi, allowed: Sequence[str]) -> None:
        self._app, self._allowed = app, {origin.encode() for origin in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from wherever."""
        headers = headers_of(scope) if scope["type"] == "http" else {}
        origin = headers.get(b"origin", b"")
        if not origin or not {origin, ANY.encode()} & self._allowed:
            await self._app(scope, receive, send)
            return
        told = ((b"access-control-allow-origin", origin), (b"vary", b"origin"))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await answer(send, 204, b"", (*told, *_PREFLIGHT))
            return

        async def with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                exposed = (b"access-control-expose-headers", b"retry-after")
                message["headers"] = [*message["headers"], *told, exposed]
            await send(message)

        await self._app(scope, receive, with_origin)
