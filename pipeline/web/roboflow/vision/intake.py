"""Vision events on their way to Kafka: translated, sent, and what became of each.

The version of an event goes first and its inference after it, so that no inference is counted for an event that may
have to come again. An event that comes again is a new version, but counts once: ids are remembered for a while.
"""

import asyncio
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.images.store import StoredPicture
from pipeline.edge.kafka.batches import Batches, KeyedRecords
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.asgi import Refused
from pipeline.web.images.gallery import OFF, Gallery
from pipeline.web.ingest.intake import Places
from pipeline.web.roboflow.seen import Seen
from pipeline.web.roboflow.shapes import EVENTS as EVENT_KIND
from pipeline.web.roboflow.shapes import METADATA as METADATA_KIND
from pipeline.web.roboflow.shapes import Context, Record
from pipeline.web.roboflow.vision.translation import (
    VERSION,
    RefusedVisionEventError,
    Translated,
    sources_of,
    translate,
)
from pipeline.web.roboflow.vision.use_cases import UseCases
from schemas.event import MetadataValue
from schemas.topics import EVENTS, METADATA, VISION_EVENTS

COUNTED_MS = 1_200_000  # so long an id is remembered as counted
SOURCES_MAX = 500  # pictures that one request's events may name
_TOPICS = {VERSION: VISION_EVENTS.name, EVENT_KIND: EVENTS.name, METADATA_KIND: METADATA.name}


@dataclass(slots=True)
class TakenEvents:
    """What became of a request's events, in their order."""

    ids: list[str] = field(default_factory=list)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


class VisionIntake:
    """Takes events and pictures of one workspace at a time."""

    def __init__(
        self, settings: Settings, batches: Batches, clock: Clock, gallery: Gallery, use_cases: UseCases
    ) -> None:
        self._settings, self._batches, self._clock = settings, batches, clock
        self._gallery, self._use_cases = gallery, use_cases
        self._places: dict[str, Places] = {}
        self._counted = Seen(COUNTED_MS)

    async def take(self, workspace: str, events: Sequence[Any]) -> TakenEvents:
        """Returns when Kafka has acknowledged. Raises Refused: 400 where none could be taken, 503."""
        known = self._use_cases.of(workspace)
        pictures = await self._pictures(workspace, events)
        context = Context(workspace, self._clock.now_ms(), self._settings.time_limits)
        taken, translated = TakenEvents(), list[Translated]()
        for index, event in enumerate(events):
            try:
                made = translate(event, context, pictures)
                if event["useCaseId"] not in known:
                    why = "there is no such use case; POST /vision-events/use-cases makes one"
                    raise RefusedVisionEventError("useCaseId", why)
            except RefusedVisionEventError as error:
                taken.errors.append({"index": index, "field": error.field, "message": str(error)})
                continue
            translated.append(made)
            taken.ids.append(made.event_id)
            if made.warnings:
                taken.warnings[made.event_id] = made.warnings
        if events and not translated:
            raise Refused(400, "refused", taken.errors[0]["message"])
        await self._send_all(workspace, translated, context.now_ms)
        return taken

    async def keep(
        self, workspace: str, raw: bytes, metadata: Mapping[str, MetadataValue] | None = None
    ) -> tuple[str, StoredPicture | None]:
        """The id of a picture: the same for the same one, whoever sends it again. None: pictures are not kept here.

        Raises Refused: 413, 415, 503.
        """
        name = hashlib.sha256(raw + orjson.dumps(metadata or {}, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
        stored = await self._gallery.take(workspace, name, raw, metadata) if self._gallery.is_on else None
        return name, stored

    async def send(self, records: Sequence[Record]) -> None:
        """Returns when Kafka has acknowledged all of them. Raises Refused: 503."""
        by_topic: dict[str, dict[int, KeyedRecords]] = {}
        try:
            for record in records:
                topic = self._settings.topic(_TOPICS[record.kind])
                places = self._places.setdefault(topic, Places(topic))
                if topic not in by_topic:
                    places.set_count(await self._batches.partitions(topic))
                    by_topic[topic] = defaultdict(KeyedRecords)
                key, number = places.of(record.key)
                by_topic[topic][number].keys.append(key)
                by_topic[topic][number].values.append(record.value)
        except KafkaUnavailable:
            raise unavailable("Kafka does not answer") from None
        now_ms = self._clock.now_ms()
        sent = (self._batches.send(topic, parts, now_ms) for topic, parts in by_topic.items())
        if any(await asyncio.gather(*sent)):
            raise unavailable("Kafka has not acknowledged; some may have arrived")

    async def _send_all(self, workspace: str, translated: Sequence[Translated], now_ms: int) -> None:
        await self.send([one.version for one in translated])
        new = [one for one in translated if self._counted.is_new(workspace, one.event_id, now_ms)]
        try:
            await self.send([record for one in new for record in one.beside])
        except BaseException:
            for one in new:
                self._counted.forget(workspace, one.event_id)
            raise

    async def _pictures(self, workspace: str, events: Sequence[Any]) -> Mapping[str, StoredPicture]:
        names = list(dict.fromkeys(name for event in events for name in sources_of(event)))[:SOURCES_MAX]
        if not self._gallery.is_on or not names:
            return {}
        found = await asyncio.gather(*(self._gallery.about(workspace, name) for name in names))
        return {name: one for name, one in zip(names, found, strict=True) if one is not None}


def picture_warning(stored: StoredPicture | None) -> list[str]:
    """What is to be said of a picture that came."""
    return [] if stored is not None else [OFF]


def id_from(raw: bytes) -> str:
    """An event's id, made from what was sent: the same when it is sent again."""
    return str(uuid.UUID(bytes=hashlib.sha256(raw).digest()[:16], version=4))


def unavailable(message: str) -> Refused:
    """Nobody but us is to blame: send it again."""
    return Refused(503, "kafka_unavailable", message, retry_after_s=2)
