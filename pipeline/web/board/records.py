"""A compacted topic as people see and change it: each record decoded once, with a version to change it by."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

from pipeline.edge.kafka.shared import SharedTopic
from schemas.rejection import Rejected

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A record as it stands."""

    value: T
    raw: bytes

    @property
    def version(self) -> str:
        """Another one for every content."""
        return blake2b(self.raw, digest_size=8).hexdigest()


class Records(Generic[T]):
    """All sound records of a topic, by their keys."""

    def __init__(self, topic: SharedTopic, decode: Callable[[bytes], T | Rejected]) -> None:
        """What cannot be decoded is not there: the workers say so."""
        self.topic = topic
        self._decode = decode
        self._version = -1
        self._seen: Mapping[bytes, bytes] = {}
        self._kept: dict[str, Kept[T]] = {}

    @property
    def ready(self) -> asyncio.Event:
        """Set once the topic has been read."""
        return self.topic.followed.ready

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self.topic.followed.version

    @property
    def all(self) -> Mapping[str, Kept[T]]:
        """As of now."""
        followed = self.topic.followed
        if self._version != followed.version:
            self._version, values = followed.version, followed.values
            for gone in self._seen.keys() - values.keys():
                self._kept.pop(_name(gone), None)
            for key, raw in values.items():
                if self._seen.get(key) != raw:
                    self._learn(_name(key), raw)
            self._seen = values
        return self._kept

    async def put(self, key: str, raw: bytes | None, seen: Kept[T] | None) -> None:
        """Takes it in (None: out) in place of what was `seen`. Raises what SharedTopic.put raises."""
        await self.topic.put(key.encode(), raw, None if seen is None else seen.raw)

    def _learn(self, name: str, raw: bytes) -> None:
        value = self._decode(raw)
        if isinstance(value, Rejected):
            self._kept.pop(name, None)
        else:
            self._kept[name] = Kept(value, raw)


def _name(key: bytes) -> str:
    return key.decode(errors="backslashreplace")
