"""Alerts as inference.alerts tells them, and who keeps them quiet: all of it from Kafka, whatever else is down."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka import client as kafka
from pipeline.edge.kafka.compacted import read_compacted, write_compacted
from pipeline.edge.kafka.reader import Reader
from schemas import alert, silence
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Acknowledgement, Silence
from schemas.topics import ALERTS, SILENCES

T = TypeVar("T")

_QUIET_S = 30  # without a record, before the topic's end was reached


class NoSuchAlertError(Exception):
    """An alert or a silence that was asked for is not there, or not in a state for what was asked."""


@dataclass(slots=True)
class Alerts:
    """The newest step of every alert, by fingerprint, and what people have said about them."""

    steps: dict[str, AlertEvent] = field(default_factory=dict)
    silences: dict[str, Silence] = field(default_factory=dict)
    acknowledgements: dict[str, Acknowledgement] = field(default_factory=dict)
    refused: int = 0  # records that are no steps

    def observe(self, raw: bytes | None) -> AlertEvent | None:
        """A record of inference.alerts: the step if it is news."""
        step = alert.decode(raw)
        if not isinstance(step, AlertEvent):
            self.refused += 1
            return None
        known = self.steps.get(step.fingerprint)
        if known is not None and (step.episode, step.sequence) <= (known.episode, known.sequence):
            return None  # told again
        self.steps[step.fingerprint] = step
        return step

    @property
    def open(self) -> list[AlertEvent]:
        """Those that are not resolved, the newest first."""
        found = [step for step in self.steps.values() if step.state is not AlertState.RESOLVED]
        return sorted(found, key=lambda step: (-step.starts_at_ms, step.fingerprint))

    def acknowledgement(self, step: AlertEvent) -> Acknowledgement | None:
        """Who has taken this episode."""
        return self.acknowledgements.get(silence.acknowledgement_id(step.fingerprint, step.episode))

    def find(self, fingerprint: str) -> AlertEvent:
        """The newest step of an alert, by its fingerprint or the beginning of it. Raises NoSuchAlertError."""
        found = [step for name, step in self.steps.items() if name.startswith(fingerprint)]
        if len(found) != 1:
            how_many = "several alerts begin" if found else "there is no alert"
            raise NoSuchAlertError(f"{how_many} with the fingerprint {fingerprint}; inferwatch alerts list shows them")
        return found[0]


def read(settings: Settings) -> Alerts:
    """All that Kafka has. Raises KafkaUnavailable."""
    return asyncio.run(_answering(settings, _read(settings)))


async def _read(settings: Settings) -> Alerts:
    alerts = Alerts()
    await _read_silences(settings, alerts)
    ends = await _ends(settings)
    if all(start >= end for start, end in ends.values()):
        return alerts
    async for raw in _records(settings, {tp: start for tp, (start, _) in ends.items()}, follow=False):
        alerts.observe(raw)
    return alerts


def is_over(settings: Settings, step: AlertEvent, timeout_s: float) -> bool:
    """Whether the episode of `step` ends within that time. Raises KafkaUnavailable."""
    deadline = time.monotonic() + timeout_s
    while True:
        now = read(settings).steps.get(step.fingerprint)
        if now is None or now.episode > step.episode or now.state is AlertState.RESOLVED:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


async def follow(settings: Settings, on_step: Callable[[AlertEvent], None], ended: asyncio.Event) -> None:
    """Calls `on_step` for each new step from now on, until `ended`. Raises KafkaUnavailable."""

    async def run() -> None:
        alerts, ends = Alerts(), await _ends(settings)
        async for raw in _records(settings, {tp: end for tp, (_, end) in ends.items()}, follow=True, ended=ended):
            step = alerts.observe(raw)
            if step is not None:
                on_step(step)

    await _answering(settings, run())


def put_silence(settings: Settings, value: Silence | Acknowledgement) -> None:
    """Takes it in. Raises KafkaUnavailable."""
    asyncio.run(write_compacted(settings, settings.topic(SILENCES.name), {value.id.encode(): silence.encode(value)}))


def delete_silence(settings: Settings, silence_id: str) -> Silence:
    """Takes a silence back; returns it. Raises NoSuchAlertError, KafkaUnavailable."""
    found = read_silences(settings).get(silence_id)
    if found is None:
        raise NoSuchAlertError(f"there is no silence {silence_id}; inferwatch alerts silences shows them")
    asyncio.run(write_compacted(settings, settings.topic(SILENCES.name), {silence_id.encode(): None}))
    return found


def read_silences(settings: Settings) -> dict[str, Silence]:
    """Every silence by its id, those too that are over. Raises KafkaUnavailable."""
    alerts = Alerts()
    asyncio.run(_read_silences(settings, alerts))
    return alerts.silences


async def _read_silences(settings: Settings, alerts: Alerts) -> None:
    values: Iterable[bytes] = (await read_compacted(settings, settings.topic(SILENCES.name))).values()
    for raw in values:
        value = silence.decode(raw)
        if isinstance(value, Silence):
            alerts.silences[value.id] = value
        elif isinstance(value, Acknowledgement):
            alerts.acknowledgements[value.id] = value


async def _ends(settings: Settings) -> dict[TopicPartition, tuple[int, int]]:
    topic = settings.topic(ALERTS.name)
    ends = await kafka.ends(settings, [topic])
    if not ends:
        raise kafka.KafkaUnavailable(f"there is no topic {topic}; inferwatch topics create makes it")
    return ends


async def _records(
    settings: Settings, offsets: dict[TopicPartition, int], follow: bool, ended: asyncio.Event | None = None
) -> AsyncIterator[bytes | None]:
    """Values from these offsets on, to the end of what is there or until `ended`."""
    reader = Reader(kafka.Kafka(settings), dict(offsets))
    loop = asyncio.get_running_loop()
    heard = loop.time()
    try:
        async with asyncio.timeout(_QUIET_S):  # somebody waits at the terminal
            await reader.start()
        while not (ended is not None and ended.is_set()) and (follow or not reader.caught_up):
            found = await reader.read(0.3)
            for record in found:
                yield record.value
            if found:
                heard = loop.time()
            elif not follow and loop.time() - heard > _QUIET_S:
                raise kafka.KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap}: the alerts could not be read")
    finally:
        await reader.stop()


async def _answering(settings: Settings, work: Awaitable[T]) -> T:
    try:
        return await work
    except (KafkaError, OSError) as error:
        raise kafka.KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap} does not answer: {error!r}") from error
