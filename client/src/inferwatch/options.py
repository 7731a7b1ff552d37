"""What a Monitor may be told, and from where: arguments, else INFERWATCH_* of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

Event = dict[str, Any]
_ENVIRONMENT = {
    "url": "INFERWATCH_URL",
    "api_key": "INFERWATCH_API_KEY",
    "workspace": "INFERWATCH_WORKSPACE",
    "device_id": "INFERWATCH_DEVICE_ID",
    "spool": "INFERWATCH_SPOOL",
}


@dataclass(frozen=True)
class Options:
    """How a Monitor behaves. Without an address it does nothing, and says so once in its log."""

    url: str = ""  # of the HTTP side, or kafka://broker:9092; "" : nothing is sent
    api_key: str = ""
    workspace: str = "default"
    device_id: str | None = None
    enabled: bool = True
    queue_bytes_max: int = 16 << 20  # what waits in memory; then the oldest is dropped, and counted
    batch_events: int = 500
    batch_s: float = 0.5
    batch_bytes_max: int = 4 << 20  # before compression; the server takes 16 MiB
    timeout_s: float = 10.0  # of a request
    flush_s: float = 2.0  # at the end of the process
    sample_rate: float = 1.0  # of inferences; what is kept says so in metadata.sample_rate
    heartbeat_s: float | None = 10.0  # where there is a device_id; None: no heartbeats
    before_send: Callable[[Event], Event | None] | None = None  # changes an event, or drops it (None)
    spool: str = ""  # a directory that keeps what cannot be sent; "" : memory only
    spool_bytes_max: int = 256 << 20
    source: str = "client"
    deployment: str | None = None
    version: str | None = None  # of the program that infers: server_version of its events
    tags: tuple[str, ...] = ()
    topic_prefix: str = ""  # Kafka alone: put before every topic name

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> Options:
        """What is given, else the environment's, else the default. Raises ValueError with every mistake."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(given.keys() - known)
        if unknown:
            raise ValueError(f"no such option: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        values: dict[str, Any] = {name: environment[key] for name, key in _ENVIRONMENT.items() if environment.get(key)}
        values.update({name: value for name, value in given.items() if value is not None or name == "heartbeat_s"})
        options = cls(**values)
        mistakes = []
        if options.url and not options.url.startswith(("http://", "https://", "kafka://")):
            mistakes.append(f"url: {options.url!r} must begin with http://, https:// or kafka://")
        if not 0 < options.sample_rate <= 1:
            mistakes.append(f"sample_rate: {options.sample_rate} must lie above 0 and up to 1")
        if options.batch_events < 1 or options.batch_bytes_max < 1 or options.queue_bytes_max < 1:
            mistakes.append("batch_events, batch_bytes_max and queue_bytes_max must be above 0")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return options
