"""The HTTP side: what an event costs its process up to Kafka's acknowledgement, and how long a request waits for it.

Bodies of 500 events (events.py), NDJSON in zstd, as the Python client sends them; connections are kept. First as fast
as they go, for the cost; then at a steady rate, for the time. The broker's offsets say whether all arrived.
"""

import asyncio
import http.client
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.local.worker import Worker
from schemas.roles import WEB
from schemas.topics import EVENTS
from tests.asked_once import create_topics, ends
from tests.integration.engines import Engines
from tests.performance import system
from tests.performance.events import chunks
from tests.performance.figures import Figure, VoidRunError, quantile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KEY = "the-key-of-this-benchmark"
BATCH = 500
BODIES = 60
CONNECTIONS = 8
STEADY_RATE = 10_000  # events/s
CPU_US_TARGET = 10.0
RECORD_US_TARGET = 5.0
RECORDS = 20_000
_HEADERS = {
    "Authorization": f"Bearer {KEY}",
    "Content-Type": "application/x-ndjson",
    "Content-Encoding": "zstd",
}


@dataclass
class _Sent:
    """What one connection did."""

    requests: int = 0
    seconds: list[float] = field(default_factory=list)
    problem: str = ""


def run(running: Engines, directory: Path, seconds: int) -> list[Figure]:
    """Both phases."""
    settings = system.world(running).model_copy(update={"web_api_key": SecretStr(KEY), "ingest_buffer_mb": 256})
    asyncio.run(create_topics(settings))
    bodies = _bodies()
    with _web(settings, directory) as web:
        _send(web.web_port, bodies, 2, None)  # caches, metadata, first connections
        meter = system.Meter(web=web, broker=running.kafka)
        fast = _send(web.web_port, bodies, seconds, None)
        use = meter.read()
        steady = _send(web.web_port, bodies, seconds, STEADY_RATE)
        rss_mb = system.rss_mb(web)
        _check(settings, web)
    events = sum(one.requests for one in fast) * BATCH
    waits_ms = [1000 * second for one in steady for second in one.seconds]
    cost_us = use.cpu_s["web"] / events * 1e6
    wire = sum(map(len, bodies)) / (len(bodies) * BATCH)
    return [
        Figure("web", "the HTTP side's process", cost_us, "CPU-us/event", CPU_US_TARGET),
        Figure("web", "events a core", 1e6 / cost_us, "events/s", 1e6 / CPU_US_TARGET, more=True),
        Figure("web", "the broker", use.cpu_s["broker"] / events * 1e6, "CPU-us/event"),
        Figure("web", f"taken by {CONNECTIONS} connections, all on this machine", events / use.seconds, "events/s"),
        Figure("web", "on the wire", wire, "bytes/event"),
        Figure("web", f"acknowledgement at {STEADY_RATE:,} events/s, p50", quantile(waits_ms, 0.5), "ms"),
        Figure("web", f"acknowledgement at {STEADY_RATE:,} events/s, p99", quantile(waits_ms, 0.99), "ms"),
        Figure("web", "resident memory afterwards", rss_mb, "MB"),
        Figure("client", "record, on the caller's thread, p50", _record_us(0.5), "us", RECORD_US_TARGET),
        Figure("client", "record, on the caller's thread, p99", _record_us(0.99), "us"),
    ]


def _record_us(q: float) -> float:
    """What one call takes that has 3.75 detections on average, while another thread sends (to nobody)."""
    from inferwatch.testing import testing  # of client/src, which make bench puts on the path

    monitor, _ = testing(device_id="cam-7", batch_s=0.5)
    predictions = [
        [{"class": f"c{n}", "confidence": 0.9, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0} for n in range(count)]
        for count in (3, 4, 4, 4)
    ]
    took: list[float] = []
    for number in range(RECORDS):
        given = predictions[number % 4]
        began = time.perf_counter()
        monitor.record("helmets/3", given, 12.5)
        took.append((time.perf_counter() - began) * 1e6)
    monitor.close()
    return quantile(took, q)


def _bodies() -> list[bytes]:
    values: list[bytes] = []
    for chunk in chunks(BODIES * BATCH, now_ms() - 60_000, 60_000):
        values += chunk.values
    return [zstd.compress(b"\n".join(values[at : at + BATCH]), 1) for at in range(0, len(values), BATCH)]


@contextmanager
def _web(settings: Settings, directory: Path) -> Iterator[Worker]:
    web = Worker(WEB, settings, web_port=free_port(), logs=directory / "logs" / settings.group_prefix)
    web.spawn()
    try:
        web.wait_ready()
        yield web
    finally:
        web.stop()


def _send(port: int, bodies: list[bytes], seconds: float, rate: int | None) -> list[_Sent]:
    """All connections for so long; with a rate (all together), each at its share of it."""
    every_s = 0.0 if rate is None else BATCH * CONNECTIONS / rate
    sent = [_Sent() for _ in range(CONNECTIONS)]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_connection, args=(port, bodies, number, until, every_s, one))
        for number, one in enumerate(sent)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problem := next((one.problem for one in sent if one.problem), ""):
        raise VoidRunError(problem)
    return sent


def _connection(port: int, bodies: list[bytes], number: int, until: float, every_s: float, sent: _Sent) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    due = time.monotonic() + every_s * number / CONNECTIONS
    while time.monotonic() < until:
        if every_s:
            time.sleep(max(0.0, due - time.monotonic()))
            due += every_s
        began = time.monotonic()
        connection.request("POST", "/v1/default/events", bodies[(number + sent.requests) % len(bodies)], _HEADERS)
        response = connection.getresponse()
        body = response.read()
        sent.seconds.append(time.monotonic() - began)
        sent.requests += 1
        if body != b'{"accepted":%d,"results":[]}' % BATCH:
            sent.problem = f"HTTP {response.status} {body[:300]!r}"
            return
    connection.close()


def _check(settings: Settings, web: Worker) -> None:
    """What was acknowledged is what the broker has."""
    connection = http.client.HTTPConnection(HOST, web.web_port, timeout=10)
    connection.request("GET", "/metrics", headers=_HEADERS)
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    counted = next(line for line in lines if line.startswith('inferwatch_ingested_total{kind="events"}'))
    told = int(float(counted.split()[-1]))
    there = sum(end for _, end in asyncio.run(ends(settings, [settings.topic(EVENTS.name)])).values())
    if told != there:
        raise VoidRunError(f"{told} events were acknowledged, the broker has {there}")
