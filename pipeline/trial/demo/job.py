"""The demo at work: devices that classify real images, publish every inference, its truth and their heartbeats."""

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import orjson
from aiokafka.structs import RecordMetadata

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.publish import Publisher
from pipeline.trial.demo.digits import MODELS, SIZE, Digits, Inference
from pipeline.trial.phases import Phase, Schedule
from schemas import topics
from schemas.rule import Metric, Operator, Rule

INFERENCE_S = 0.2  # each device
BEAT_S = 1.0
FLUSH_S = 15.0
AWAY_MS = 7 * 86_400_000  # when the demo is over its devices stop, and nobody is to be paged for that
DEGRADED = MODELS[-1]


def confidence_rule(workspace: str) -> Rule:
    """What the demo watches by a rule: how sure the model is that is to be degraded. Healthy it is at 0.92."""
    return Rule(
        rule_id="demo-confidence",
        name="the demo's degraded model",
        workspace=workspace,
        model_id=DEGRADED,
        metric=Metric.CONFIDENCE_MEAN,
        operator=Operator.BELOW,
        threshold=0.78,
        window_s=60,
    )


@dataclass(slots=True)
class Camera:
    """One camera with one model on it."""

    device_id: str
    model_id: str
    offset: int  # where in the images it begins
    boot_id: str = ""
    last_beat_ms: int | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A phase, and when it began."""

    phase: Phase
    start_ms: int


@dataclass(slots=True)
class Demo:
    """One run. The fields may be read while it runs."""

    settings: Settings
    digits: Digits
    publisher: Publisher
    schedule: Schedule
    device_count: int
    devices: list[Camera] = field(init=False)
    played: list[Played] = field(default_factory=list)
    published: Counter[str] = field(default_factory=Counter)  # inferences by model
    failure: BaseException | None = None
    start_ms: int = 0
    end_ms: int = 0

    def __post_init__(self) -> None:
        self.devices = [
            Camera(f"cam-{i + 1}", MODELS[-1 - i % len(MODELS)], i * len(self.digits) // self.device_count)
            for i in range(self.device_count)
        ]

    @property
    def silenced(self) -> Camera:
        """The one that falls silent: the last with the degraded model."""
        return [device for device in self.devices if device.model_id == DEGRADED][-1]

    def spans_ms(self) -> dict[str, list[tuple[int, int]]]:
        """By the name of each phase: when it was played, half-open."""
        out: dict[str, list[tuple[int, int]]] = {}
        ends = [*(played.start_ms for played in self.played[1:]), self.end_ms]
        for played, end_ms in zip(self.played, ends, strict=True):
            out.setdefault(played.phase.name, []).append((played.start_ms, end_ms))
        return out

    def story(self) -> str:
        """What is happening, for a person."""
        return self.played[-1].phase.text.format(model=DEGRADED, device=self.silenced.device_id)

    async def run(self, stop: asyncio.Event, total_s: float | None) -> None:
        """Until `stop`, the end, or a record that Kafka refuses; everything is acknowledged then."""
        self.start_ms = now_ms()
        self._enter(self.schedule.at(0))
        work = [asyncio.create_task(part) for d in self.devices for part in (self._infer(d), self._beat(d))]
        stopped = asyncio.create_task(stop.wait())
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < (total_s or float("inf")) and not self.failure:
            phase = self.schedule.at(elapsed)
            if phase is not self.played[-1].phase:
                self._enter(phase)
            done, _ = await asyncio.wait([stopped, *work], timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
        for task in (stopped, *work):
            task.cancel()
        ends = await asyncio.gather(stopped, *work, return_exceptions=True)
        self.end_ms = now_ms()
        for device in self.devices:
            if not device.silent:
                await self._send_beat(device, "stopping")
        await asyncio.wait_for(self.publisher.flush(), FLUSH_S)
        for error in (self.failure, *ends):
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    def _enter(self, phase: Phase) -> None:
        self.played.append(Played(phase, now_ms()))
        for device in self.devices:
            device.silent = phase.one_silent and device is self.silenced
            if device.silent or not device.boot_id:
                device.boot_id = uuid.uuid4().hex[:8]  # a device that comes back has been restarted

    async def _infer(self, device: Camera) -> None:
        number = device.offset
        due = time.monotonic()
        while True:
            due += INFERENCE_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if device.silent:
                continue
            phase = self.played[-1].phase
            degraded = device.model_id == DEGRADED
            effect = phase.effect if degraded else self.schedule.at(0).effect
            inference = self.digits.classify(device.model_id, number, effect)
            number = (number + 1) % len(self.digits)
            await self._publish(device, inference)

    async def _publish(self, device: Camera, inference: Inference) -> None:
        event_id = uuid.uuid4().hex
        workspace = self.settings.workspace
        half = SIZE / 2
        box = {"x": half, "y": half, "width": float(SIZE), "height": float(SIZE)}
        event = {
            "schema": 1,
            "event_id": event_id,
            "event_time_ms": now_ms(),
            "workspace": workspace,
            "model_id": device.model_id,
            "device_id": device.device_id,
            "latency_ms": round(inference.latency_ms, 3),
            "predictions": [{"class": str(inference.digit), "confidence": round(inference.confidence, 6), **box}],
            "image": {"width": SIZE, "height": SIZE, "url": inference.image.as_uri()},
            "metadata": {"site": "demo", "line": device.device_id[-1]},
            "tags": ["demo"],
            "source": "demo",
            "deployment": "edge",
        }
        await self._send(topics.EVENTS, device.device_id, event)
        self.published[device.model_id] += 1
        # As a person would who looks at it afterwards.
        for name, value in (("label", str(inference.label)), ("correct", inference.digit == inference.label)):
            verdict = {
                "schema": 1,
                "workspace": workspace,
                "inference_id": event_id,
                "field": name,
                "value": value,
                "sent_at_ms": now_ms(),
            }
            await self._send(topics.METADATA, event_id, verdict)

    async def _beat(self, device: Camera) -> None:
        while True:
            if not device.silent:
                await self._send_beat(device, "up")
            await asyncio.sleep(BEAT_S)

    async def _send_beat(self, device: Camera, status: str) -> None:
        beat = {
            "schema": 1,
            "device_id": device.device_id,
            "workspace": self.settings.workspace,
            "sent_at_ms": now_ms(),
            "interval_ms": round(BEAT_S * 1000),
            "version": device.model_id,
            "tags": ["demo"],
            "boot_id": device.boot_id,
            "status": status,
        }
        if status == "stopping":
            beat["expected_downtime_ms"] = AWAY_MS
        await self._send(topics.HEARTBEATS, device.device_id, beat)
        device.last_beat_ms = now_ms()

    async def _send(self, topic: topics.Topic, key: str, value: dict[str, object]) -> None:
        future = await self.publisher.send(self.settings.topic(topic.name), key.encode(), orjson.dumps(value))
        future.add_done_callback(self._settle)

    def _settle(self, future: "asyncio.Future[RecordMetadata]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self.failure = self.failure or error
