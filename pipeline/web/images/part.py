"""The part `images`: PUT, GET, HEAD /v1/{workspace}/inferences/{id}/image, with ?thumbnail=1 the small one.

A picture that came is said of its inference as metadata (`image`: its address), so that lists know without looking.
"""

import re
from functools import partial
from urllib.parse import unquote

import orjson

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.images.store import StoredPicture
from pipeline.edge.kafka.batches import Batches
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.access.door import Door
from pipeline.web.access.principal import May
from pipeline.web.asgi import Asgi, Receive, Refused, Scope, Send, answer, headers_of, only, query_of
from pipeline.web.images.gallery import Gallery, address
from pipeline.web.ingest import bodies
from pipeline.web.ingest.intake import Intake, Taken
from pipeline.web.ingest.kinds import kinds
from pipeline.web.ingest.room import Held
from schemas.access import EVERY_WORKSPACE

ID_LENGTH_MAX, WORKSPACE_LENGTH_MAX = 128, 256  # as of an event's
FIELD = "image"  # of the metadata
_PATH = re.compile(r"/v1/([^/]+)/inferences/([^/]+)/image")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"private, max-age=31536000, immutable"),  # it never becomes another one
)


class Images:
    """All of it; one for the process."""

    name = "images"

    def __init__(self, settings: Settings, door: Door, batches: Batches, clock: Clock, gallery: Gallery) -> None:
        self._settings, self._door, self._batches, self._gallery = settings, door, batches, gallery
        self._kind = kinds(settings.time_limits)["metadata"]
        self._intake = Intake(batches, clock)

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        found = _PATH.fullmatch(path)
        return partial(self._answer, unquote(found[1]), unquote(found[2])) if found else None

    def not_ready(self) -> list[str]:
        """It works whenever the process does: what its place does not do is told to who asks."""
        return []

    async def work(self) -> None:
        """Sweeps."""
        await self._gallery.work()

    async def stop(self) -> None:
        """Lets go of what it holds."""
        await self._gallery.stop()
        await self._batches.close()

    async def _answer(self, workspace: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "PUT", "GET", "HEAD")
        if scope["method"] == "PUT":
            await self._put(workspace, name, scope, receive, send)
        else:
            await self._get(workspace, name, scope, send)

    async def _put(self, workspace: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        self._door.admit(scope, headers, May.INGEST, workspace)
        if len(name) > ID_LENGTH_MAX or len(workspace) > WORKSPACE_LENGTH_MAX or workspace == EVERY_WORKSPACE:
            raise Refused(400, "out_of_range", f"an id has up to {ID_LENGTH_MAX} characters, in one workspace")
        self._gallery.must_be_on()
        held = Held(self._gallery.room)
        try:
            raw = await bodies.read(receive, headers, held, self._settings.ingest_body_s, self._gallery.bytes_max)
            stored = await self._gallery.take(workspace, name, raw)
            await self._say(workspace, name)
        finally:
            held.release()
        url = address(workspace, name)
        told = {
            "url": url,
            "content_type": stored.content_type,
            "width": stored.width,
            "height": stored.height,
            "bytes": stored.bytes,
        }
        await answer(send, 200, orjson.dumps(told))

    async def _say(self, workspace: str, name: str) -> None:
        record = orjson.dumps({"inference_id": name, "field": FIELD, "value": address(workspace, name)[:1000]})
        outcome = Taken()
        try:
            topic = self._settings.topic(self._kind.topic.name)
            await self._intake.take(self._kind, topic, workspace, [(1, record)], outcome)
        except KafkaUnavailable:
            raise _unsaid() from None
        if outcome.nothing_came:
            raise _unsaid()

    async def _get(self, workspace: str, name: str, scope: Scope, send: Send) -> None:
        headers = headers_of(scope)
        self._door.admit(scope, headers, May.QUERY, workspace)
        small = query_of(scope).get("thumbnail", "0")
        if small not in ("0", "1"):
            raise Refused(400, "out_of_range", "thumbnail is 1 or 0")
        stored = await self._gallery.about(workspace, name)
        if stored is None:
            raise _no_picture(name)
        tag = f'"{stored.digest[:32]}{"-thumbnail" if small == "1" else ""}"'.encode()
        told = (*_SAFE, (b"etag", tag))
        if tag in headers.get(b"if-none-match", b""):
            await _empty(send, 304, told)
            return
        if scope["method"] == "HEAD" and small == "0":
            about = (b"content-type", stored.content_type.encode()), (b"content-length", str(stored.bytes).encode())
            await _empty(send, 200, (*about, *told))
            return
        await self._send(workspace, name, stored, told, send, thumbnail=small == "1")

    async def _send(
        self,
        workspace: str,
        name: str,
        stored: StoredPicture,
        told: tuple[tuple[bytes, bytes], ...],
        send: Send,
        *,
        thumbnail: bool,
    ) -> None:
        held = Held(self._gallery.room)
        try:
            held.take(0 if thumbnail else stored.bytes)
            raw = await self._gallery.bytes_of(workspace, name, stored, thumbnail=thumbnail)
            if raw is None:
                raise _no_picture(name)
            await answer(send, 200, raw, told, b"image/jpeg" if thumbnail else stored.content_type.encode())
        finally:
            held.release()


async def _empty(send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})


def _no_picture(name: str) -> Refused:
    return Refused(404, "no_picture", f"there is no picture of {name[:128]}")


def _unsaid() -> Refused:
    return Refused(503, "kafka_unavailable", "the picture is kept, but Kafka has not heard of it", retry_after_s=2)
