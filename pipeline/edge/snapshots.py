"""A partition's state and the offset that explains it, on the compacted topic inference.detector-state.

A snapshot takes several records if it is large. Two slots take turns, so that a crash in the middle of one leaves the
other whole.
"""

import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka import client_options
from pipeline.edge.output import Output, OutRecord
from schemas.topics import DETECTOR_STATE

VERSION = 1
_PART_BYTES = 900_000


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    next_offset: int
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after all records before `next_offset`."""

    next_offset: int
    state: dict[str, Any]


class SnapshotTopic:
    """Saves and loads."""

    def __init__(self, settings: Settings, output: Output) -> None:
        self._settings, self._output = settings, output
        self._topic = settings.topic(DETECTOR_STATE.name)
        self._slots: dict[str, int] = {}

    async def save(self, key: str, snapshot: Snapshot, alive: Callable[[], None]) -> None:
        """Returns when the broker has it."""
        slot = self._slots[key] = 1 - self._slots.get(key, 1)
        packed = zlib.compress(msgspec.json.encode(snapshot.state), 1)
        chunks = [packed[i : i + _PART_BYTES] for i in range(0, len(packed), _PART_BYTES)]
        partition = crc32(key.encode()) % await self._output.partitions(self._topic)
        records = []
        for part, chunk in enumerate(chunks):
            head = msgspec.json.encode(_Head(VERSION, snapshot.next_offset, part, len(chunks)))
            records.append(OutRecord(f"{key}:{slot}:{part}".encode(), head + b"\n" + chunk, partition))
        await self._output.send(self._topic, records, alive)

    async def load(self, key: str) -> Snapshot | None:
        """The newest whole snapshot of a key; None if there is none that this version can read."""
        partition = TopicPartition(self._topic, crc32(key.encode()) % await self._output.partitions(self._topic))
        slots: dict[bytes, dict[int, tuple[_Head, bytes]]] = {}
        async for record in self._records(partition):
            name, _, part = (record.key or b"").rpartition(b":")
            if name.rpartition(b":")[0].decode(errors="replace") == key and record.value is not None:
                head, _, chunk = record.value.partition(b"\n")
                slots.setdefault(name, {})[int(part)] = msgspec.json.decode(head, type=_Head), chunk
        whole = [found for parts in slots.values() if (found := _joined(parts)) is not None]
        return max(whole, key=lambda snapshot: snapshot.next_offset, default=None)

    async def _records(self, partition: TopicPartition) -> AsyncIterator[ConsumerRecord]:
        """All that is there: one record at a time, as compaction may be long in coming."""
        consumer = AIOKafkaConsumer(**client_options(self._settings), enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(timeout_ms=500)).get(partition, []):
                    yield record
        finally:
            await consumer.stop()


def _joined(parts: dict[int, tuple[_Head, bytes]]) -> Snapshot | None:
    first = parts.get(0)
    if first is None or first[0].version != VERSION:
        return None
    head = first[0]
    chosen = [parts.get(i) for i in range(head.parts)]
    if any(p is None or (p[0].next_offset, p[0].parts) != (head.next_offset, head.parts) for p in chosen):
        return None
    packed = b"".join(p[1] for p in chosen if p is not None)
    return Snapshot(head.next_offset, msgspec.json.decode(zlib.decompress(packed)))
