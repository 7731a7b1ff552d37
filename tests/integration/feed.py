"""What the tests send: the load generator's events, at a pace of the test's own, with heartbeats and metadata.

With `own_time` the topics keep the timestamps that they are given, and the log's time may run faster than the clock:
ten minutes of windows in one minute of test.
"""

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import admin
from pipeline.trial.workload import Workload, WorkloadSpec
from schemas.topics import EVENTS, HEARTBEATS, METADATA

MARGIN_MS = 20_000  # the log ends so long ago: its last windows close as soon as it is idle
TICK_S = 0.05


def own_time(settings: Settings) -> None:
    """The topics of events, heartbeats and metadata keep their producers' timestamps, as a user's own may do."""

    async def alter() -> None:
        async with admin(settings) as client:
            for topic in (EVENTS, HEARTBEATS, METADATA):
                configs = topic.settings() | {"message.timestamp.type": "CreateTime"}
                await client.alter_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, settings.topic(topic.name), configs)]
                )

    asyncio.run(alter())


@dataclass(frozen=True)
class Traffic:
    """How much, and how fast."""

    seed: int
    events: int = 4000
    rate: float = 800.0  # events/s by our clock
    speed: float = 10.0  # seconds of the log's time in one of ours; 1: now
    late: float = 0.02
    duplicate: float = 0.02
    malformed: float = 0.02
    errors: float = 0.03
    devices: int = 48
    workspace: str = "acme"

    def but(self, **changes: Any) -> "Traffic":
        """The same, with some changes."""
        return replace(self, **changes)


class Feed:
    """Sends in a thread of its own, until all is sent, or `stop`; with `with`, not longer than its block."""

    def __init__(self, settings: Settings, traffic: Traffic) -> None:
        self._settings, self._traffic = settings, traffic
        t = traffic
        self._workload = Workload(
            WorkloadSpec(
                seed=t.seed,
                workspace=t.workspace,
                models=6,
                devices=t.devices,
                classes=12,
                late=t.late,
                duplicate=t.duplicate,
                malformed=t.malformed,
                errors=t.errors,
            )
        )
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.sent = 0

    def start(self) -> "Feed":
        """Begins to send."""
        self._thread.start()
        return self

    def __enter__(self) -> "Feed":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def done(self) -> bool:
        """Whether all is sent (or it failed)."""
        return not self._thread.is_alive()

    def stop(self, timeout_s: float = 60) -> None:
        """Ends soon."""
        self._stop.set()
        self.join(timeout_s)

    def join(self, timeout_s: float = 120) -> None:
        """Waits until all is sent and acknowledged."""
        self._thread.join(timeout_s)
        assert self.done, "the feed does not end"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:
            self._error = error

    async def _send(self) -> None:
        t, settings = self._traffic, self._settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap,
            enable_idempotence=True,
            max_request_size=1_200_000,
            request_timeout_ms=60_000,
            linger_ms=5,
        )
        await producer.start()
        end_ms = now_ms() - MARGIN_MS
        start_ms = end_ms - round(t.events / t.rate * t.speed * 1000)
        chance, topic = random.Random(t.seed), settings.topic(EVENTS.name)
        started, ticks = time.monotonic(), 0
        try:
            while self.sent < t.events and not self._stop.is_set():
                due = min(t.events, int((time.monotonic() - started) * t.rate)) - self.sent
                if due > 0:
                    due = min(due, round(10 * t.rate * TICK_S) + 1)
                    log_ms = now_ms() if t.speed == 1 else start_ms + round(self.sent / t.rate * t.speed * 1000)
                    records = self._workload.take(due, log_ms)
                    streams = [self._workload.streams[i] for i in records.stream.tolist()]
                    for stream, value in zip(streams, self._workload.values(records), strict=True):
                        await producer.send(topic, value, key=stream.key, timestamp_ms=log_ms)
                    self.sent += due
                    ticks += 1
                    await self._send_others(producer, chance, ticks, log_ms)
                await asyncio.sleep(TICK_S)
            await asyncio.wait_for(producer.flush(), 90)
        finally:
            await asyncio.wait_for(producer.stop(), 30)

    async def _send_others(self, producer: AIOKafkaProducer, chance: random.Random, tick: int, log_ms: int) -> None:
        """A heartbeat and a metadata record; one in ten is refused."""
        device = f"cam-{chance.randrange(self._traffic.devices):04d}"
        beat = {
            "device_id": device,
            "workspace": "acme",
            "sent_at_ms": log_ms,
            "interval_ms": 10_000,
            "tags": ["a", "b"],
        }
        if tick % 10 == 4:
            beat["interval_ms"] = -1
        told = {
            "workspace": "acme",
            "inference_id": f"i-{tick}",
            "field": "verdict",
            "value": [True, 4, 0.25, "gut ü"][tick % 4],
            "sent_at_ms": log_ms,
        }
        if tick % 10 == 7:
            del told["field"]
        for name, value, key in ((HEARTBEATS.name, beat, device), (METADATA.name, told, f"i-{tick}")):
            record = json.dumps(value).encode()
            await producer.send(self._settings.topic(name), record, key=key.encode(), timestamp_ms=log_ms)
