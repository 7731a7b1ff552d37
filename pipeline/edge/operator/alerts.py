"""Alerts as inference.alerts tells them, and who keeps them quiet: all of it from Kafka, whatever else is down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.core.alerting.told import Alerts, NoSuchAlertError
from pipeline.edge.kafka.client import Kafka, KafkaUnavailable
from pipeline.edge.kafka.compacted import read_compacted, write_compacted
from pipeline.edge.kafka.connection import answering
from pipeline.edge.kafka.reader import Reader
from schemas import silence
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Acknowledgement, Silence
from schemas.topics import ALERTS, SILENCES

_QUIET_S = 30  # without a record, before the topic's end was reached


async def read(kafka: Kafka) -> Alerts:
    """All that Kafka has. Raises KafkaUnavailable."""
    alerts = await _said(kafka)
    ends = await _ends(kafka)
    if all(start >= end for start, end in ends.values()):
        return alerts
    async for raw in _records(kafka, {tp: start for tp, (start, _) in ends.items()}, follow=False):
        alerts.observe(raw)
    return alerts


async def is_over(kafka: Kafka, step: AlertEvent, timeout_s: float) -> bool:
    """Whether the episode of `step` ends within that time. Raises KafkaUnavailable."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        now = (await read(kafka)).steps.get(step.fingerprint)
        if now is None or now.episode > step.episode or now.state is AlertState.RESOLVED:
            return True
        if loop.time() > deadline:
            return False
        await asyncio.sleep(0.5)


async def follow(kafka: Kafka, on_step: Callable[[AlertEvent], None], ended: asyncio.Event) -> None:
    """Calls `on_step` for each new step from now on, until `ended`. Raises KafkaUnavailable."""
    alerts, ends = Alerts(), await _ends(kafka)
    async for raw in _records(kafka, {tp: end for tp, (_, end) in ends.items()}, follow=True, ended=ended):
        step = alerts.observe(raw)
        if step is not None:
            on_step(step)


async def put_silence(settings: Settings, value: Silence | Acknowledgement) -> None:
    """Takes it in. Raises KafkaUnavailable."""
    await write_compacted(settings, settings.topic(SILENCES.name), {value.id.encode(): silence.encode(value)})


async def delete_silence(kafka: Kafka, silence_id: str) -> Silence:
    """Takes a silence back; returns it. Raises NoSuchAlertError, KafkaUnavailable."""
    found = (await read_silences(kafka)).get(silence_id)
    if found is None:
        raise NoSuchAlertError(f"there is no silence {silence_id}; inferwatch alerts silences shows them")
    await write_compacted(kafka.settings, kafka.settings.topic(SILENCES.name), {silence_id.encode(): None})
    return found


async def read_silences(kafka: Kafka) -> dict[str, Silence]:
    """Every silence by its id, those too that are over. Raises KafkaUnavailable."""
    return (await _said(kafka)).silences


async def _said(kafka: Kafka) -> Alerts:
    """What people have said, without the alerts."""
    alerts = Alerts()
    alerts.hear((await read_compacted(kafka, kafka.settings.topic(SILENCES.name))).values())
    return alerts


async def _ends(kafka: Kafka) -> dict[TopicPartition, tuple[int, int]]:
    topic = kafka.settings.topic(ALERTS.name)
    ends = await kafka.ends([topic])
    if not ends:
        raise KafkaUnavailable(f"there is no topic {topic}; inferwatch topics create makes it")
    return ends


async def _records(
    kafka: Kafka, offsets: dict[TopicPartition, int], follow: bool, ended: asyncio.Event | None = None
) -> AsyncIterator[bytes | None]:
    """Values from these offsets on, to the end of what is there or until `ended`."""
    loop = asyncio.get_running_loop()
    heard = loop.time()
    async with _reading(kafka, offsets) as reader:
        while not (ended is not None and ended.is_set()) and (follow or not reader.caught_up):
            found = await reader.read(0.3)
            for record in found:
                yield record.value
            if found:
                heard = loop.time()
            elif not follow and loop.time() - heard > _QUIET_S:
                raise KafkaUnavailable(f"Kafka at {kafka.where}: the alerts could not be read")


@asynccontextmanager
async def _reading(kafka: Kafka, offsets: dict[TopicPartition, int]) -> AsyncIterator[Reader]:
    reader = Reader(kafka, dict(offsets))
    try:
        with answering(kafka.where):
            async with asyncio.timeout(_QUIET_S):  # somebody waits at the terminal
                await reader.start()
            yield reader
    finally:
        await reader.stop()
