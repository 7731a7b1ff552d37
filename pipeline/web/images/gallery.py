"""The pictures of this process, for whichever part takes them in: one place, one bound on what is held, one sweep.

A picture is never fetched from an address that somebody sends: it comes with the request or not at all.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

import structlog

from pipeline.config.sections import ImageSettings
from pipeline.edge.clock import Clock
from pipeline.edge.images.picture import NotAPictureError
from pipeline.edge.images.store import ImageStore, ImagesUnavailable, OtherPictureError, StoredPicture
from pipeline.web.asgi import Refused
from pipeline.web.ingest.room import Room
from schemas.event import MetadataValue

log = structlog.get_logger()

SWEEP_S = 3600.0
OFF = "pictures are not kept here: INFERWATCH_IMAGES_URL names no place for them"


class Gallery:
    """One for all parts of a process."""

    def __init__(self, settings: ImageSettings, clock: Clock) -> None:
        """Raises ImagesUnavailable where the settings name a place that cannot be."""
        self._clock, self._days = clock, settings.images_days
        self.bytes_max = settings.images_mb << 20
        self.room = Room(settings.images_buffer_mb << 20)
        self._store = ImageStore(settings.images_url) if settings.images_url else None

    @property
    def is_on(self) -> bool:
        """Are pictures kept?"""
        return self._store is not None

    def must_be_on(self) -> None:
        """Raises Refused (404) where no pictures are kept."""
        self._place()

    async def stop(self) -> None:
        """Lets go."""
        if self._store is not None:
            await self._store.close()

    async def work(self) -> None:
        """Sweeps every now and then, for ever."""
        while True:
            try:
                if self._store is not None and (swept := await self._store.sweep(self._clock.now_ms(), self._days)):
                    log.info("images_swept", files=swept)
            except ImagesUnavailable as error:
                log.warning("images_not_swept", error=str(error))
            await asyncio.sleep(SWEEP_S)

    async def take(
        self, workspace: str, name: str, raw: bytes, metadata: Mapping[str, MetadataValue] | None = None
    ) -> StoredPicture:
        """Keeps a picture. Raises Refused: 404, 409, 413, 415, 503."""
        if len(raw) > self.bytes_max:
            raise Refused(413, "too_large", f"a picture may have {self.bytes_max >> 20} MiB (INFERWATCH_IMAGES_MB)")
        try:
            return await self._place().put(workspace, name, raw, self._clock.now_ms(), metadata or {})
        except NotAPictureError as error:
            raise Refused(415, "not_a_picture", str(error)) from None
        except OtherPictureError as error:
            raise Refused(409, "another_picture", str(error)) from None
        except ImagesUnavailable as error:
            raise _unavailable(error) from None

    async def about(self, workspace: str, name: str) -> StoredPicture | None:
        """What is known of a picture; None: there is none. Raises Refused: 404, 503."""
        try:
            return await self._place().about(workspace, name)
        except ImagesUnavailable as error:
            raise _unavailable(error) from None

    async def bytes_of(self, workspace: str, name: str, stored: StoredPicture, *, thumbnail: bool) -> bytes | None:
        """The picture itself; None: it is gone by now. Raises Refused: 503."""
        try:
            return await self._place().read(workspace, name, stored, thumbnail=thumbnail)
        except ImagesUnavailable as error:
            raise _unavailable(error) from None

    def _place(self) -> ImageStore:
        if self._store is None:
            raise Refused(404, "images_off", OFF)
        return self._store


def address(workspace: str, name: str) -> str:
    """Where a picture is served."""
    return f"/v1/{quote(workspace, safe='')}/inferences/{quote(name, safe='')}/image"


def _unavailable(error: ImagesUnavailable) -> Refused:
    return Refused(503, "images_unavailable", str(error), retry_after_s=5)
