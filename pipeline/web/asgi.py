"""What every part speaks: ASGI, headers, and answers that are no 200 as exceptions with a JSON reason."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]

JSON = b"application/json"
COOKIES = "inferwatch.cookies"  # of a scope: what is set along with the answer, whoever gives it
QUERY_FIELDS_MAX = 100

DRAIN_S, DRAIN_BYTES_MAX = 5.0, 64 << 20


class Refused(Exception):
    """A request that gets no 200: its status, a word for programs, a sentence for people."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        allow: str = "",
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`more`: what else the JSON holds."""
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_s, self.allow, self._more = retry_after_s, allow, more or {}

    @property
    def body(self) -> bytes:
        """The JSON that is answered."""
        return orjson.dumps({"reason": self.reason, "message": self.message, **self._more})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What goes with it."""
        out = []
        if self.retry_after_s is not None:
            out.append((b"retry-after", str(max(1, round(self.retry_after_s))).encode()))
        if self.allow:
            out.append((b"allow", self.allow.encode()))
        if self.status == 401:
            out.append((b"www-authenticate", b"Bearer"))
        return out


class Body:
    """What is received of a request, and whether more is to come."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        self.ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Takes what a client still sends, for a while: one that is cut off while it sends does not see why."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self.ended and size <= DRAIN_BYTES_MAX:
                    size += len((await self()).get("body", b""))


def headers_of(scope: Scope) -> Headers:
    """By lower-case name; of a repeated one the last."""
    return dict(scope["headers"])


def query_of(scope: Scope) -> dict[str, str]:
    """What stands behind the ?, by name; of a repeated one the last. Raises Refused (400)."""
    try:
        found = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise Refused(400, "bad_query", f"an address may have {QUERY_FIELDS_MAX} parameters") from None
    return {name: values[-1] for name, values in found.items()}


def local_path(path: str) -> str:
    """A page of ours to go on to, as somebody's address says; anything else is the first one."""
    sound = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isascii() and path.isprintable()
    return path if sound else "/"


def only(scope: Scope, *methods: str) -> None:
    """Raises Refused (405) for any other method."""
    if scope["method"] not in methods:
        allowed = ", ".join(methods)
        raise Refused(405, "method_not_allowed", f"{scope['method']} is not {allowed}", allow=allowed)


async def read_body(receive: Receive, bytes_max: int, within_s: float) -> bytes:
    """A small body, whole. Raises Refused: 413, 408."""
    body, more = b"", True
    try:
        async with asyncio.timeout(within_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "cut_short", "the connection ended within the body")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > bytes_max:
                    raise Refused(413, "too_large", f"a body here has at most {bytes_max} bytes")
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body was not there within {within_s:g} s") from None
    return body


async def answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), content_type: bytes = JSON
) -> None:
    """A whole answer."""
    all_headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
