"""Where pictures are kept: anything that fsspec reaches, a directory or a bucket, under names that nobody can choose.

    ab/abcd….json           what is known of a picture; written last, so that it speaks of nothing that is not there
    ab/abcd…-0123….img      the picture, named by its content as well: two writers at once do not mix
    ab/abcd…-0123….jpg      its thumbnail

The name is a hash of workspace and id, so an odd id leads nowhere, and no workspace to another's pictures. A picture is
never replaced by another one: who has seen it may keep it.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import fsspec
import msgspec
import structlog

from pipeline.edge.images.picture import look_at

log = structlog.get_logger()
T = TypeVar("T")

LOOKS_MAX = 2  # pictures that are unpacked at once: each may take 200 MB for a moment
REACHES_MAX = 8  # files that are read or written at once
KEEP_FREE_BYTES = 1 << 30  # on the disk of a directory: others live there, too
_DAY_S = 86_400


class ImagesUnavailable(Exception):
    """The place of the pictures cannot be reached, or does not do what it should; the text says why."""


class OtherPictureError(Exception):
    """There is another picture of that id already."""


class StoredPicture(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a picture that is kept."""

    content_type: str
    width: int
    height: int
    bytes: int
    digest: str  # sha256
    stored_at_ms: int
    metadata: dict[str, str | int | float | bool] = {}


_decode = msgspec.json.Decoder(StoredPicture).decode


class ImageStore:
    """The pictures of all workspaces. Whatever takes its time happens in threads, a few at once."""

    def __init__(self, url: str, keep_free_bytes: int = KEEP_FREE_BYTES) -> None:
        """Raises ImagesUnavailable where fsspec cannot do anything with the address."""
        self._keep_free_bytes = keep_free_bytes
        try:
            options = {} if "://" in url and not url.startswith("file:") else {"auto_mkdir": True}
            self._files, self._root = fsspec.core.url_to_fs(url, **options)
        except (ValueError, ImportError, OSError) as error:
            raise ImagesUnavailable(f"INFERWATCH_IMAGES_URL: {error}") from error
        self._looks = ThreadPoolExecutor(LOOKS_MAX, "pictures")
        self._reaches = ThreadPoolExecutor(REACHES_MAX, "images")

    async def put(
        self, workspace: str, name: str, raw: bytes, now_ms: int, metadata: Mapping[str, str | int | float | bool]
    ) -> StoredPicture:
        """Keeps a picture. Raises NotAPictureError, OtherPictureError, ImagesUnavailable."""
        digest, key = hashlib.sha256(raw).hexdigest(), _key(workspace, name)
        there = await self.about(workspace, name)
        if there is not None:
            if there.digest != digest:
                raise OtherPictureError(f"there is another picture of {name} already")
            return there
        await self._reach(self._must_have_room)
        picture = await asyncio.get_running_loop().run_in_executor(self._looks, look_at, raw)
        stored = StoredPicture(
            content_type=picture.content_type,
            width=picture.width,
            height=picture.height,
            bytes=len(raw),
            digest=digest,
            stored_at_ms=now_ms,
            metadata=dict(metadata),
        )

        def write() -> None:
            self._files.pipe_file(self._path(key, digest, "img"), raw)
            self._files.pipe_file(self._path(key, digest, "jpg"), picture.thumbnail)
            self._files.pipe_file(self._about(key), msgspec.json.encode(stored))

        await self._reach(write)
        return stored

    async def about(self, workspace: str, name: str) -> StoredPicture | None:
        """What is known of a picture; None: there is none."""
        raw = await self._reach(lambda: self._read(self._about(_key(workspace, name))))
        try:
            return None if raw is None else _decode(raw)
        except msgspec.MsgspecError:
            return None  # cut short by a crash: it is as good as not there, and can be sent again

    async def read(self, workspace: str, name: str, stored: StoredPicture, *, thumbnail: bool) -> bytes | None:
        """The picture or its thumbnail; None: it is gone by now."""
        path = self._path(_key(workspace, name), stored.digest, "jpg" if thumbnail else "img")
        return await self._reach(lambda: self._read(path))

    async def sweep(self, now_ms: int, days: int) -> int:
        """Forgets what is older; how many files that were. Others may do the same at the same time."""
        oldest_s = now_ms / 1000 - days * _DAY_S
        folders = await self._reach(self._folders)
        return sum([await self._reach(partial(self._sweep, folder, oldest_s)) for folder in folders])

    async def close(self) -> None:
        """Waits for nothing."""
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._reaches.shutdown(wait=False, cancel_futures=True)

    def _must_have_room(self) -> None:
        if "file" not in self._files.protocol:
            return
        self._files.makedirs(self._root, exist_ok=True)
        if shutil.disk_usage(self._root).free < self._keep_free_bytes:
            raise ImagesUnavailable(f"less than {self._keep_free_bytes >> 20} MiB are free on the disk of the pictures")

    def _folders(self) -> list[str]:
        return list(self._files.ls(self._root, detail=False)) if self._files.exists(self._root) else []

    def _sweep(self, folder: str, oldest_s: float) -> int:
        self._files.invalidate_cache(folder)
        found: Mapping[str, Mapping[str, Any]] = self._files.find(folder, detail=True)
        old = [path for path, info in found.items() if _changed_s(info) < oldest_s]
        return sum(self._forget(sorted(old, key=lambda path: not path.endswith(".json"))))

    def _forget(self, paths: Iterable[str]) -> Iterable[int]:
        for path in paths:
            try:
                self._files.rm_file(path)
                yield 1
            except FileNotFoundError:
                yield 0

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._files.cat_file(path))
        except FileNotFoundError:
            return None

    def _about(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}.json"

    def _path(self, key: str, digest: str, kind: str) -> str:
        return f"{self._root}/{key[:2]}/{key}-{digest[:32]}.{kind}"

    async def _reach(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reaches, work)
        except ImagesUnavailable:
            raise
        except Exception as error:  # each of fsspec's file systems has errors of its own
            log.warning("images_unavailable", error=repr(error))
            raise ImagesUnavailable(f"the place of the pictures does not answer ({type(error).__name__})") from error


def _key(workspace: str, name: str) -> str:
    """The same for the same two texts only."""
    return hashlib.sha256(msgspec.json.encode([workspace, name])).hexdigest()


def _changed_s(info: Mapping[str, Any]) -> float:
    """When a file was written, as its file system calls it; what does not tell is never old."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        match info.get(name):
            case int() | float() as seconds:
                return float(seconds)
            case datetime() as moment:
                return moment.timestamp()
            case str() as text:
                return datetime.fromisoformat(text).timestamp()
    return float("inf")
