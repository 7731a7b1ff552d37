"""The monitor: takes inferences from the model's own thread in some microseconds, and lets another thread send them."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import random
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from inferwatch.context import CURRENT
from inferwatch.options import Event, Options
from inferwatch.queue import Queue
from inferwatch.sender import Sender
from inferwatch.transport import HttpTransport, Transport

log = logging.getLogger("inferwatch")

Call = TypeVar("Call", bound=Callable[..., Any])
Predictions = Iterable[Mapping[str, Any]]


def _plain(value: Any) -> Any:
    """What numpy, torch and others have instead of Python's own numbers and lists."""
    for name in ("tolist", "item"):
        convert = getattr(value, name, None)
        if convert is not None:
            return convert()
    raise TypeError(f"{type(value).__name__} cannot be sent")


class Monitor:
    """Reports inferences of one program. Threads may share it; a forked child has an empty queue of its own."""

    def __init__(self, url: str | None = None, *, transport: Transport | None = None, **options: Any) -> None:
        """`options`: see Options. Raises ValueError with every mistake in them; nothing later raises."""
        self.options = Options.of(url=url, **options)
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode
        self._enabled = self.options.enabled and bool(self.options.url or transport)
        self._given_transport = transport
        self._fixed = self._fixed_fields()
        self.unsendable = 0  # events that could not be written, or that before_send failed on
        self._start()
        if self.options.enabled and not self._enabled:
            log.warning("inferwatch: no url is set (INFERWATCH_URL): nothing is sent")
        if self._enabled:
            _watch(self)

    def _start(self) -> None:
        """What belongs to this process alone."""
        self._prefix = os.urandom(8).hex()
        self._count = 0
        self._random = random.Random()  # noqa: S311  a share of events, no secret
        self.queue = Queue(self.options.queue_bytes_max)
        transport = self._given_transport or _transport(self.options)
        self._sender = Sender(self.options, self.queue, transport, self._heartbeat)

    def _fixed_fields(self) -> Event:
        options = self.options
        fixed = {
            "workspace": options.workspace,
            "device_id": options.device_id,
            "source": options.source,
            "deployment": options.deployment,
            "server_version": options.version,
            "tags": list(options.tags) or None,
        }
        return {name: value for name, value in fixed.items() if value is not None}

    # -- recording

    def record(
        self,
        model_id: str,
        predictions: Predictions = (),
        latency_ms: float | None = None,
        *,
        event_id: str | None = None,
        event_time_ms: int | None = None,
        device_id: str | None = None,
        error: str | None = None,
        image: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: list[str] | None = None,
    ) -> str | None:
        """One inference; its id, or None where nothing is sent. Never blocks, never raises."""
        if not self._enabled:
            return None
        try:
            if self.options.sample_rate < 1 and self._random.random() >= self.options.sample_rate:
                return None
            if event_id is None:
                self._count += 1
                event_id = f"{self._prefix}-{self._count:x}-{time.perf_counter_ns() & 0xFFFFFF:x}"
            event: Event = {
                "event_id": event_id,
                "event_time_ms": event_time_ms or time.time_ns() // 1_000_000,
                "model_id": model_id,
                "predictions": predictions if isinstance(predictions, list) else list(predictions),
                **self._fixed,
            }
            given = (("latency_ms", latency_ms), ("error", error), ("device_id", device_id), ("image", image))
            for name, value in given:
                if value is not None:
                    event[name] = value
            if tags:
                event["tags"] = [*event.get("tags", ()), *tags]
            if found := self._metadata(metadata):
                event["metadata"] = found
            changed = event if self.options.before_send is None else self.options.before_send(event)
            if changed is None:
                return None
            self.queue.put(self._encode(changed))
            self._sender.ensure_started()
            return event_id
        except Exception as failed:
            self.unsendable += 1
            self.queue.count_dropped(1)
            if self.unsendable == 1:
                log.warning("inferwatch: an inference could not be recorded: %r", failed)
            return None

    def _metadata(self, own: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """What is said around the inference, what it says itself, and how it was sampled."""
        around, rate = CURRENT.get(), self.options.sample_rate
        if not around and not own and rate == 1:
            return around
        return {**around, **(own or {}), **({"sample_rate": rate} if rate < 1 else {})}

    async def arecord(self, model_id: str, predictions: Predictions = (), **more: Any) -> str | None:
        """The same for asyncio: it does not wait either."""
        return self.record(model_id, predictions, **more)

    def inference(self, model_id: str, **more: Any) -> Inference:
        """Times a block: `with monitor.inference("helmets/3") as i: i.predictions = model(frame)`.

        An exception is recorded as the inference's error, and goes on its way.
        """
        return Inference(self, model_id, more)

    def watch(self, model_id: str, predictions: Callable[[Any], Predictions] = lambda r: r) -> Callable[[Call], Call]:
        """Decorates a function that infers; `predictions` takes them from what it returns."""

        def decorate(function: Call) -> Call:
            @functools.wraps(function)
            def timed(*args: Any, **kwargs: Any) -> Any:
                with self.inference(model_id) as inference:
                    result = function(*args, **kwargs)
                    inference.read(predictions, result)
                return result

            return timed  # type: ignore[return-value]

        return decorate

    # -- life

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything recorded is sent, spooled or given up; whether that was in time."""
        return self._sender.flush(self.options.flush_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Flushes and ends. Later records are not sent."""
        if self._enabled:
            self._enabled = False
            self._sender.stop(self.options.flush_s)

    @property
    def sent(self) -> int:
        """Events that the server has taken."""
        return self._sender.sent

    @property
    def refused(self) -> int:
        """Events that the server will never take."""
        return self._sender.refused

    def start(self) -> None:
        """Begins to beat at once, and not with the first inference."""
        if self._enabled:
            self._sender.ensure_started()

    def _heartbeat(self, status: str) -> bytes:
        options = self.options
        beat = {
            "device_id": options.device_id,
            "workspace": options.workspace,
            "sent_at_ms": time.time_ns() // 1_000_000,
            "interval_ms": int((options.heartbeat_s or 0) * 1000),
            "boot_id": self._prefix,
            "status": status,
            "version": options.version,
            "tags": list(options.tags) or None,
        }
        return self._encode({name: value for name, value in beat.items() if value is not None})


class Inference:
    """A block that infers: set `predictions`, `latency_ms` is the block's."""

    def __init__(self, monitor: Monitor, model_id: str, more: dict[str, Any]) -> None:
        self.predictions: Predictions = ()
        self.metadata: dict[str, Any] = {}
        self.event_id: str | None = None
        self._monitor, self._model_id, self._more = monitor, model_id, more

    def read(self, predictions: Callable[[Any], Predictions], result: Any) -> None:
        """Takes the predictions from what a model returned; a failure in that is not the model's."""
        try:
            self.predictions = list(predictions(result))
        except Exception as failed:
            log.warning("inferwatch: predictions could not be read: %r", failed)

    def __enter__(self) -> Inference:
        self._began = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        latency_ms = (time.perf_counter_ns() - self._began) / 1e6
        more = dict(self._more)
        if self.metadata:
            more["metadata"] = {**(more.get("metadata") or {}), **self.metadata}
        if error is not None:
            more["error"] = f"{type(error).__name__}: {error}"[:1000]
        self.event_id = self._monitor.record(self._model_id, self.predictions, latency_ms, **more)


def _transport(options: Options) -> Transport:
    if not options.url.startswith("kafka://"):
        return HttpTransport(options)
    try:
        from inferwatch.kafka import KafkaTransport

        return KafkaTransport(options)
    except ImportError:
        raise ValueError('url: kafka:// wants aiokafka: pip install "inferwatch-client[kafka]"') from None


# -- processes: what a child inherits is not its own to send; at the end everything has one chance more

_MONITORS: weakref.WeakSet[Monitor] = weakref.WeakSet()


def _watch(monitor: Monitor) -> None:
    _MONITORS.add(monitor)


def _after_fork() -> None:
    for monitor in list(_MONITORS):
        monitor._sender.leave_to_parent()
        monitor._start()


def _at_exit() -> None:
    for monitor in list(_MONITORS):
        monitor.close()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
