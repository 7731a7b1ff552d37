"""What a page knows, it asks the other parts for, in this process and as its visitor: it shows no more than they do."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import orjson

from pipeline.web.asgi import COOKIES, Asgi, Message, Refused, Scope

Find = Callable[[str], Asgi | None]


class Reply(msgspec.Struct, frozen=True):
    """An answer, or why there is none: a page shows what it has."""

    value: Any = None
    refused: Refused | None = None


class Asking:
    """Questions of one request."""

    def __init__(self, find: Find, scope: Scope, workspace: str) -> None:
        self._find, self._scope = find, scope
        self._below = f"/v1/{quote(workspace, safe='')}"

    async def get(self, *names: str, **query: Any) -> Any:
        """What GET /v1/{workspace}/names... says; `from_` is from. Raises Refused."""
        asked = {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}
        path = "/".join((self._below, *(quote(name, safe="") for name in names)))
        return await self.send("GET", path, query=urlencode(asked))

    async def all(self, **wanted: Any) -> dict[str, Reply]:
        """Several at a time, each by itself: what one lacks does not empty the page."""

        async def told(one: Any) -> Reply:
            try:
                return Reply(await one)
            except Refused as why:
                return Reply(refused=why)

        async with asyncio.TaskGroup() as group:
            found = {name: group.create_task(told(one)) for name, one in wanted.items()}
        return {name: task.result() for name, task in found.items()}

    async def has_image(self, event_id: str) -> bool:
        """Is there a picture of this inference?"""
        try:
            await self.send("HEAD", f"{self._below}/inferences/{quote(event_id, safe='')}/image")
        except Refused:
            return False
        return True

    async def send(
        self, method: str, path: str, body: bytes = b"", query: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> Any:
        """Any request to a part, and its JSON. Cookies that it sets go to the visitor. Raises Refused."""
        answer = self._find(path)
        if answer is None:
            raise Refused(404, "no_such_part", f"this process does not answer at {path}: it runs without that part")
        kept = [one for one in self._scope["headers"] if one[0] not in (b"content-type", b"content-length")]
        scope: Scope = {
            **self._scope,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [*kept, *headers],
            COOKIES: self._scope[COOKIES] if method in ("POST", "DELETE") else [],
        }
        said: list[Message] = []
        bodies = [body]

        async def receive() -> Message:
            if not bodies:
                await asyncio.Event().wait()  # who asks stays; when they go, this page's work is cancelled
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}

        async def take(message: Message) -> None:
            said.append(message)

        await answer(scope, receive, take)
        return _read(method, said)


def _read(method: str, said: list[Message]) -> Any:
    status = said[0]["status"]
    raw = b"".join(message.get("body", b"") for message in said[1:])
    if status < 300:
        return None if method == "HEAD" else orjson.loads(raw)
    try:
        told = orjson.loads(raw)
    except orjson.JSONDecodeError:
        told = {}
    more = {name: value for name, value in told.items() if name not in ("reason", "message")}
    raise Refused(status, told.get("reason", "refused"), told.get("message", "there is no answer"), more=more)
