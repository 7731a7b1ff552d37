"""From the door to Kafka by way of this disk: whoever sends is answered when the disk has it, before Kafka does.

Roboflow's servers send once and wait ten seconds at most. So records are packed into entries of the spool, and one task
brings them to Kafka in their order, for as long as that takes. At least once: what Kafka has acknowledged and the spool
not yet let go when a process dies goes again, with the same event_id.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.batches import Batches, KeyedRecords
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.edge.metrics import INGESTED, SPOOL_REFUSED, SPOOL_SECONDS
from pipeline.edge.spool import Spool, SpoolFull, SpoolUnavailable, left_folders, take_folder
from pipeline.web.asgi import Refused
from pipeline.web.ingest.intake import Places
from pipeline.web.ingest.kinds import kinds
from pipeline.web.roboflow.shapes import Record

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

log = structlog.get_logger()

ENTRY_RECORDS = 1000
ROUND_BYTES = 1 << 20  # compressed: what is read of the spool at once
WAIT_S_FIRST, WAIT_S_MAX = 0.1, 5.0
LEFT_EVERY_S = 60.0  # between looks for what other processes have left behind
LEVEL = 1

_Packed = list[tuple[str, str, bytes]]  # kind, key, value
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode


class Courier:
    """One for the process."""

    def __init__(self, settings: Settings, batches: Batches, clock: Clock) -> None:
        self._directory: Path = settings.web_spool_dir
        self._bytes_max = settings.web_spool_mb << 20
        self._batches, self._clock = batches, clock
        self._places = {
            kind.name: Places(settings.topic(kind.topic.name)) for kind in kinds(settings.time_limits).values()
        }
        self._came = asyncio.Event()
        self._why_not = ""
        self._spool: Spool | None = None
        self._open()

    @property
    def waiting_bytes(self) -> int:
        """What waits, compressed."""
        return self._spool.bytes if self._spool is not None else 0

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""
        return [self._why_not] if self._spool is None else []

    async def take(self, records: Sequence[Record]) -> None:
        """Returns when they are on the disk. Raises Refused (503): then nothing of them is kept."""
        spool = self._spool
        if spool is None:
            SPOOL_REFUSED.inc()
            raise Refused(503, "no_spool", "there is no folder to keep it in; /readyz says why", retry_after_s=30)
        began = self._clock.monotonic()
        try:
            await spool.append(await asyncio.to_thread(_entries, records))
        except SpoolFull as full:
            SPOOL_REFUSED.inc()
            raise Refused(503, "full", str(full), retry_after_s=10) from None
        SPOOL_SECONDS.observe(self._clock.monotonic() - began)
        self._came.set()

    async def work(self) -> None:
        """Brings what comes to Kafka, and now and then what other processes have left. For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver_own())
            group.create_task(self._deliver_left())

    async def close(self) -> None:
        """Lets the folder go; what is in it stays."""
        spool, self._spool = self._spool, None
        if spool is not None:
            await spool.close()

    def _open(self) -> None:
        try:
            self._spool = take_folder(self._directory, self._bytes_max)
        except SpoolUnavailable as error:
            if self._why_not != (why := f"no spool: {error}"):
                log.error("no_spool", error=str(error))
            self._why_not = why

    async def _deliver_own(self) -> None:
        while self._spool is None:
            await asyncio.sleep(LEFT_EVERY_S / 10)
            self._open()
        while True:
            self._came.clear()
            await self._empty(self._spool)
            await self._came.wait()

    async def _deliver_left(self) -> None:
        while True:
            for spool in left_folders(self._directory, self._bytes_max):
                try:
                    await self._empty(spool)
                finally:
                    await spool.close()
            await asyncio.sleep(LEFT_EVERY_S)

    async def _empty(self, spool: Spool) -> None:
        """Until nothing is left in it."""
        while entries := await spool.first(ROUND_BYTES):
            for _, body in entries:
                await self._deliver(body)
            await self._let_go(spool, entries[-1][0])

    async def _let_go(self, spool: Spool, last: int) -> None:
        while True:
            try:
                return await spool.drop(last)
            except SpoolUnavailable as error:
                log.warning("spool_not_emptied", error=str(error))
                await asyncio.sleep(WAIT_S_MAX)

    async def _deliver(self, body: bytes) -> None:
        """Returns when Kafka has acknowledged every record of an entry."""
        missing = _records(body)
        wait_s = WAIT_S_FIRST
        while missing:
            try:
                missing = await self._send(missing)
            except KafkaUnavailable as error:
                log.warning("spool_waits", error=str(error))
            if missing:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, WAIT_S_MAX)

    async def _send(self, records: Sequence[Record]) -> list[Record]:
        """Those that were not acknowledged. Raises KafkaUnavailable: none was sent."""
        missing: list[Record] = []
        by_kind: dict[str, list[Record]] = {}
        for record in records:
            by_kind.setdefault(record.kind, []).append(record)
        for kind, of_kind in by_kind.items():
            places = self._places[kind]
            try:
                places.set_count(await self._batches.partitions(places.topic))
            except KafkaUnavailable:
                if len(by_kind) == 1:
                    raise
                missing += of_kind
                continue
            parts: dict[int, KeyedRecords] = {}
            bound: dict[int, list[Record]] = {}
            for record in of_kind:
                key, number = places.of(record.key)
                part = parts.setdefault(number, KeyedRecords())
                part.keys.append(key)
                part.values.append(record.value)
                bound.setdefault(number, []).append(record)
            failed = await self._batches.send(places.topic, parts, self._clock.now_ms())
            INGESTED.labels(kind).inc(sum(len(part.keys) for number, part in parts.items() if number not in failed))
            missing += [record for number in failed for record in bound[number]]
        return missing


def _entries(records: Sequence[Record]) -> list[bytes]:
    rows = [(record.kind, record.key, record.value) for record in records]
    pieces = [rows[start : start + ENTRY_RECORDS] for start in range(0, len(rows), ENTRY_RECORDS)]
    return [zstd.compress(_pack(piece), LEVEL) for piece in pieces]


def _records(body: bytes) -> list[Record]:
    try:
        return [Record(*row) for row in _unpack(zstd.decompress(body))]
    except (zstd.ZstdError, msgspec.MsgspecError) as error:  # SQLite vouches for its bytes: not ours, then
        log.error("spool_entry_unreadable", bytes=len(body), error=str(error))
        return []
