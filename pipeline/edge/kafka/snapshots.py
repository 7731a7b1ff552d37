"""The state of machines, on the compacted topic inference.detector-state: for each key the newest one.

A snapshot takes several records if it is large. Two slots take turns, so that a crash in the middle of one leaves the
other whole. A snapshot of another layout is none: the worker starts from the log, and says so.

The broker compacts the topic long after; until then all snapshots of days lie in it. So whoever saves notes in its
group's next commit where the newest lies, and a load begins there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

import cramjam
import msgspec
import structlog
from aiokafka.structs import TopicPartition

from pipeline.core.state import NoSnapshot, decode, encode, layout
from pipeline.edge import metrics
from pipeline.edge.kafka.connection import Log
from pipeline.edge.kafka.producer import OutRecord, Producer
from pipeline.edge.kafka.reader import Reader

log = structlog.get_logger()

S = TypeVar("S", bound=msgspec.Struct)

VERSION = 2  # of how a snapshot lies in records; what is in it has a layout of its own
PART_BYTES = 900_000
_NOTE = "s1:"
_HEAD_START = 2  # who is frozen on its way to a save, and loses its partition meanwhile, makes it late: the smaller


class _Head(msgspec.Struct, frozen=True, array_like=True):
    version: int
    serial: int  # of the snapshot: the greater is the newer
    part: int
    parts: int
    checksum: int  # of all parts together: parts of two snapshots do not mix

    @property
    def of(self) -> tuple[int, int]:
        """Which snapshot."""
        return self.serial, self.checksum


@dataclass(frozen=True, slots=True)
class _Part:
    head: _Head
    chunk: bytes


class SnapshotTopic:
    """Saves and loads. A key has one writer at a time, which has loaded it before it saves."""

    def __init__(self, log: Log, topic: str, output: Producer, part_bytes: int = PART_BYTES) -> None:
        """`topic` as on the broker; snapshots go out through `output`."""
        self._log, self._topic, self._output, self._part_bytes = log, topic, output, part_bytes
        self._serials: dict[str, int] = {}  # of the next
        self._places: dict[str, int] = {}  # offset where the newest begins

    def note(self, key: str) -> str:
        """What to commit as metadata: where to look for the newest snapshot."""
        return f"{_NOTE}{self._places.get(key, '')}"

    async def save(self, key: str, state: msgspec.Struct, alive: Callable[[], None]) -> None:
        """Returns when the broker has it. What is saved is the state at the moment of the call."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        serial = self._serials.get(key, 0)
        packed = await asyncio.to_thread(_packed, encode(state))
        chunks = [packed[i : i + self._part_bytes] for i in range(0, len(packed), self._part_bytes)]
        partition = (await self._partition(key)).partition
        records = []
        for part, chunk in enumerate(chunks):
            head = msgspec.json.encode(_Head(VERSION, serial, part, len(chunks), crc32(packed)))
            records.append(OutRecord(f"{key}:{serial % 2}:{part}".encode(), head + b"\n" + chunk, partition))
        place = min(await self._output.send(self._topic, records, alive))
        self._serials[key] = serial + 1
        if place >= 0:
            self._places[key] = place
        else:  # the broker did not say: whoever loads must look through all
            self._places.pop(key, None)
        metrics.SNAPSHOT_BYTES.inc(len(packed))
        metrics.SNAPSHOT_SECONDS.observe(loop.time() - started)

    async def load(self, key: str, kind: type[S], note: str = "") -> S | None:
        """The snapshot that `note` (as it was committed) vouches for; else the newest whole one.

        A newer one may be of somebody who lost the partition on the way to it: others have gone on without it.
        None: there is none, or none of this layout.
        """
        place = _place_in(note)
        slots, vouched = await self._slots_from(key, place)
        if place is not None and not any(map(_whole, slots)):  # the topic was made anew
            slots, vouched = await self._slots_from(key, None)
        whole = [found for parts in slots if (found := _whole(parts)) is not None]
        serial, packed = _whole(vouched) or max(whole, default=(1, b""))
        # The next one goes into the other slot, whatever lies there now, and stands against all that is there.
        following = max((p.head.serial for parts in slots for p in parts.values()), default=0) + _HEAD_START
        self._serials[key] = following + (following % 2 == serial % 2)
        self._places.pop(key, None)
        if place is not None:
            self._places[key] = place
        state = await asyncio.to_thread(_unpacked, kind, packed) if packed else None
        if isinstance(state, NoSnapshot):
            log.warning("snapshot_not_used", key=key, reason=state.value, layout=layout(kind))
            metrics.SNAPSHOTS_NOT_USED.labels(state.name.lower()).inc()
            return None
        return state

    async def _slots_from(self, key: str, place: int | None) -> tuple[list[dict[int, _Part]], dict[int, _Part]]:
        """The parts in each slot, of two in one place the one with the greater serial; and what begins at `place`."""
        slots: dict[bytes, dict[int, _Part]] = {}
        vouched: dict[int, _Part] = {}
        reader = Reader(self._log, {await self._partition(key): place})
        await reader.start()
        try:
            while not reader.caught_up:
                for record in await reader.read(0.5):
                    slot, _, number = (record.key or b"").rpartition(b":")
                    part = _part(record.value) if slot.rpartition(b":")[0] == key.encode() else None
                    if part is not None and number.isdigit():
                        parts = slots.setdefault(slot, {})
                        known = parts.get(int(number), part)
                        parts[int(number)] = max(known, part, key=lambda p: (p.head.version, p.head.serial))
                        if record.offset == place:
                            vouched = {part.head.part: part}
                        elif vouched and part.head.of == next(iter(vouched.values())).head.of:
                            vouched.setdefault(part.head.part, part)
        finally:
            await reader.stop()
        return list(slots.values()), vouched

    async def _partition(self, key: str) -> TopicPartition:
        return TopicPartition(self._topic, crc32(key.encode()) % await self._output.partitions(self._topic))


def _place_in(note: str) -> int | None:
    number = note.rstrip("\0").removeprefix(_NOTE)
    return int(number) if note.startswith(_NOTE) and number.isdecimal() else None


def _part(value: bytes | None) -> _Part | None:
    """A part of a snapshot; None: it is none of ours."""
    head, _, chunk = (value or b"").partition(b"\n")
    try:
        return _Part(msgspec.json.decode(head, type=_Head), chunk)
    except msgspec.MsgspecError:
        return None


def _packed(encoded: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(encoded, level=1))


def _unpacked(kind: type[S], packed: bytes) -> S | NoSnapshot:
    try:
        return decode(kind, bytes(cramjam.zstd.decompress(packed)))
    except cramjam.DecompressionError:
        return NoSnapshot.DAMAGED


def _whole(parts: dict[int, _Part]) -> tuple[int, bytes] | None:
    """(serial, packed state) of a slot; None if it is torn, or of another version."""
    if 0 not in parts or parts[0].head.version != VERSION:
        return None
    head = parts[0].head
    if not 0 < head.parts <= len(parts):
        return None
    packed = b"".join(parts[i].chunk for i in range(head.parts) if i in parts)
    return (head.serial, packed) if crc32(packed) == head.checksum else None
