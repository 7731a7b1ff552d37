"""The HTTP side as a process: what it follows, its parts, how it begins and ends."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import structlog
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.edge.clock import Clock, SystemClock
from pipeline.edge.forwarding import Forwarder
from pipeline.edge.kafka.batches import Batches
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import FollowedTopic, write_compacted
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.edge.store.questions import Questions
from pipeline.web.access.book import AccessBook
from pipeline.web.access.door import Door, door_of
from pipeline.web.app import App, Endless, Part, Working
from pipeline.web.console.part import Pages
from pipeline.web.images.gallery import Gallery
from pipeline.web.images.part import Images
from pipeline.web.ingest.part import Ingest
from pipeline.web.origins import Origins
from pipeline.web.roboflow.courier import Courier
from pipeline.web.roboflow.part import Roboflow
from pipeline.web.roboflow.vision.finding import VisionFinding
from pipeline.web.roboflow.vision.part import Vision
from pipeline.web.roboflow.vision.use_cases import UseCases
from pipeline.web.server import serve
from pipeline.web.session.part import SignIns
from schemas.topics import ACCESS, USE_CASES

log = structlog.get_logger()

USES_S = 60.0  # between looks at which keys were used
ASK_S = 5.0  # between questions to Kafka whether it is there, and how long one may take
STUCK_SHARE = 0.75  # of the time that a request waits: then a partition that is stuck refuses at once

Make = Callable[[Settings, Door, Kafka, Clock], Part]


def _ingest(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    return Ingest(settings, door, Batches(kafka, settings.ingest_answer_s * STUCK_SHARE), clock)


def _roboflow(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    courier = Courier(settings, Batches(kafka, settings.ingest_answer_s), clock)
    forwarder = Forwarder(settings.roboflow_forward_url) if settings.roboflow_forward_url else None
    return Roboflow(settings, door, courier, Questions(settings), forwarder, clock)


def _images(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    return Images(settings, door, Batches(kafka, settings.ingest_answer_s * STUCK_SHARE), clock, _gallery(settings))


def _vision(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    topic = FollowedTopic(kafka, settings.topic(USE_CASES.name))
    batches = Batches(kafka, settings.ingest_answer_s * STUCK_SHARE)
    finding = VisionFinding(Questions(settings), settings.ttl_inferences_days)
    return Vision(settings, door, batches, clock, _gallery(settings), UseCases(settings, topic), finding)


@cache
def _gallery(settings: Settings) -> Gallery:
    """One for all parts."""
    return Gallery(settings, SystemClock())


def _session(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    return SignIns(settings, door, clock)


def _query(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    from pipeline.web.query.part import Query  # a framework that only this part needs

    return Query(settings, door, kafka, clock, _gallery(settings))


def _console(settings: Settings, door: Door, kafka: Kafka, clock: Clock) -> Part:
    return Pages(settings, door, clock)


PARTS: Mapping[str, Make] = {  # who comes first is asked first: `query` takes all that is left of a workspace
    "ingest": _ingest,
    "session": _session,
    "console": _console,  # before roboflow: it hands on what comes to / with a key
    "images": _images,
    "vision": _vision,
    "roboflow": _roboflow,
    "query": _query,
}


async def run(
    settings: Settings, names: Sequence[str], when_asked_to_end: Callable[[Callable[[], None]], None]
) -> None:
    """Serves these parts until it is asked to end."""
    settings = _with_session_key(settings)
    clock = SystemClock()
    async with Kafka(settings) as kafka:
        topic = FollowedTopic(kafka, settings.topic(ACCESS.name))
        door = door_of(settings, topic, clock)
        parts = [make(settings, door, kafka, clock) for name, make in PARTS.items() if name in names]
        state = _State(topic)
        app = App(parts, door, state.not_ready, metrics_open=settings.web_metrics_open)
        front = Origins(app, settings.allowed_origins) if settings.allowed_origins else app
        work = (topic.follow_forever(), _write_uses(settings, door.book), state.watch_forever(kafka))
        beside = [asyncio.create_task(one) for one in work]
        beside += [asyncio.create_task(part.work()) for part in parts if isinstance(part, Working)]

        def asked_to_end(action: Callable[[], None]) -> None:
            def end() -> None:
                action()
                for part in parts:
                    if isinstance(part, Endless):
                        part.end()

            when_asked_to_end(end)

        serving = asyncio.create_task(serve(front, settings.web_host, settings.web_port, asked_to_end))
        log.info("web_started", parts=list(names), host=settings.web_host, port=settings.web_port)
        try:
            done, _ = await asyncio.wait({serving, *beside}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what nobody thought of: the process ends with it
        finally:
            for task in (*beside, serving):
                task.cancel()
            await asyncio.gather(*beside, serving, return_exceptions=True)
            for part in parts:
                await part.stop()


def _with_session_key(settings: Settings) -> Settings:
    """Without one in the settings: one that ends with this process, and the sessions with it."""
    if settings.web_session_key.get_secret_value():
        return settings
    log.info("session_key_made", hint="set INFERWATCH_WEB_SESSION_KEY: sessions outlive restarts and hold everywhere")
    return settings.model_copy(update={"web_session_key": SecretStr(secrets.token_urlsafe(32))})


class _State:
    """Whether the process can work at all."""

    def __init__(self, topic: FollowedTopic) -> None:
        self._topic = topic
        self._kafka_answers = True

    def not_ready(self) -> list[str]:
        """Why not; empty when it can."""
        keys = [] if self._topic.ready.is_set() else ["the keys are not read yet"]
        return keys if self._kafka_answers else [*keys, "Kafka does not answer"]

    async def watch_forever(self, kafka: Kafka) -> None:
        """Asks Kafka every now and then, also when nobody sends anything."""
        while True:
            try:
                async with asyncio.timeout(ASK_S):
                    await kafka.brokers()
                self._kafka_answers = True
            except (KafkaUnavailable, TimeoutError):
                self._kafka_answers = False
            await asyncio.sleep(ASK_S)


async def _write_uses(settings: Settings, book: AccessBook) -> None:
    """When keys were used last, at most hourly each. Nothing depends on it: what cannot be written is left out."""
    while True:
        await asyncio.sleep(USES_S)
        if uses := book.take_uses():
            try:
                await write_compacted(settings, settings.topic(ACCESS.name), uses)
            except KafkaUnavailable as error:
                log.warning("uses_not_written", error=str(error))
