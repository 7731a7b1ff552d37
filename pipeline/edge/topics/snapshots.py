"""The state of machines, on the compacted topic inference.detector-state: for each key the newest one.

A snapshot takes several records if it is large. Two slots take turns, so that a crash in the middle of one leaves the
other whole.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.topics.output import Output, OutRecord
from pipeline.edge.topics.reader import Reader
from schemas.topics import DETECTOR_STATE

VERSION = 1
PART_BYTES = 900_000


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    serial: int  # of the snapshot: the greater is the newer
    part: int
    parts: int
    checksum: int  # of all parts together: parts of two snapshots do not mix


@dataclass(frozen=True, slots=True)
class _Part:
    head: _Head
    chunk: bytes


class SnapshotTopic:
    """Saves and loads. A key has one writer at a time, which has loaded it before it saves."""

    def __init__(self, settings: Settings, output: Output, part_bytes: int = PART_BYTES) -> None:
        """Snapshots go out through `output`."""
        self._settings, self._output, self._part_bytes = settings, output, part_bytes
        self._topic = settings.topic(DETECTOR_STATE.name)
        self._serials: dict[str, int] = {}  # of the newest

    async def save(self, key: str, state: dict[str, Any], alive: Callable[[], None]) -> None:
        """Returns when the broker has it."""
        serial = self._serials.get(key, 0) + 1
        packed = zlib.compress(msgspec.json.encode(state), 1)
        chunks = [packed[i : i + self._part_bytes] for i in range(0, len(packed), self._part_bytes)]
        partition = (await self._partition(key)).partition
        records = []
        for part, chunk in enumerate(chunks):
            head = msgspec.json.encode(_Head(VERSION, serial, part, len(chunks), crc32(packed)))
            records.append(OutRecord(f"{key}:{serial % 2}:{part}".encode(), head + b"\n" + chunk, partition))
        await self._output.send(self._topic, records, alive)
        self._serials[key] = serial

    async def load(self, key: str) -> dict[str, Any] | None:
        """The newest whole snapshot of a key; None if there is none that this version can read."""
        slots: dict[bytes, dict[int, _Part]] = {}
        reader = Reader(self._settings, {await self._partition(key): None})
        await reader.start()
        try:
            while not reader.caught_up:
                for record in await reader.read(0.5):
                    slot, _, part = (record.key or b"").rpartition(b":")
                    if slot.rpartition(b":")[0] == key.encode() and record.value is not None:
                        head, _, chunk = record.value.partition(b"\n")
                        slots.setdefault(slot, {})[int(part)] = _Part(msgspec.json.decode(head, type=_Head), chunk)
        finally:
            await reader.stop()
        whole = [found for parts in slots.values() if (found := _whole(parts)) is not None]
        # The next one goes into the other slot, whatever lies there now.
        self._serials[key], packed = max(whole, default=(0, b""))
        return msgspec.json.decode(zlib.decompress(packed)) if packed else None

    async def _partition(self, key: str) -> TopicPartition:
        return TopicPartition(self._topic, crc32(key.encode()) % await self._output.partitions(self._topic))


def _whole(parts: dict[int, _Part]) -> tuple[int, bytes] | None:
    """(serial, packed state) of a slot; None if it is torn, or of another version."""
    if 0 not in parts or parts[0].head.version != VERSION:
        return None
    head = parts[0].head
    packed = b"".join(parts[i].chunk for i in range(head.parts) if i in parts)
    return (head.serial, packed) if crc32(packed) == head.checksum else None
