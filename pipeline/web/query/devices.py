"""The subject `devices`: who is there, since when not, and what they do."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from pipeline.core.asking import devices
from pipeline.core.asking.numbers import place, select
from pipeline.core.asking.question import KEYS_MAX, Question
from pipeline.core.asking.sql import Bound
from pipeline.web.access.principal import May
from pipeline.web.query.about import About
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told

NUMBERS = ("inferences", "errors", "latency_p95_ms", "confidence_mean")
DEVICES_MAX = 5000
LATE_BEATS = 3  # after which a device that is not heard is not called up any more


class DeviceSummary(msgspec.Struct, frozen=True):
    """One device. `state`: up, late (beats are missing), lost (an alert says so), stopped (as it said itself), or
    unknown (it sends no heartbeats in this range). `rate`: inferences a second over the range."""

    device_id: str
    state: str
    last_heartbeat: str | None
    heartbeat_interval_ms: int | None
    version: str | None
    server_id: str | None
    tags: list[str]
    inferences: int
    rate: float
    error_rate: float | None
    latency_p95_ms: float | None
    confidence_mean: float | None


class DeviceList(msgspec.Struct, frozen=True):
    """By name; `left_out`: how many are not told."""

    items: list[DeviceSummary]
    left_out: int = 0
    next: str | None = None


@get(May.QUERY, "/devices")
async def list_devices(asked: Asked, about: About) -> DeviceList:
    """The devices that sent a heartbeat or an inference in the range."""
    at = place(about.filter, ("device",), NUMBERS)
    about.check(at)
    bound = Bound()
    text = select(about.filter, about.over, NUMBERS, bound, {"device": "device_id"}, at)
    beats, open_alerts, rows = await asked.store.ask_all(
        devices.last_heartbeats(about.filter, about.start_ms, about.end_ms),
        devices.silent(),
        Question(text, bound.parameters, KEYS_MAX),
    )
    heard = {device_id: (sent_ms, last) for device_id, sent_ms, last in beats}
    done = {row[0]: dict(zip(NUMBERS, row[1:], strict=True)) for row in rows if row[0]}
    lost = {device_id for device_id, state in open_alerts if state in ("firing", "acknowledged")}
    is_of_devices = all(term.field == "device" for term in about.filter.terms)
    names = sorted(heard.keys() | done.keys() if is_of_devices else done)
    seconds = (min(about.end_ms, about.now_ms) - about.start_ms) / 1000
    items = [
        _device(name, heard.get(name), done.get(name, {}), is_lost=name in lost, now_ms=about.now_ms, seconds=seconds)
        for name in names[:DEVICES_MAX]
    ]
    return DeviceList(items, max(0, len(names) - DEVICES_MAX))


def _device(
    name: str,
    heard: tuple[int, Any] | None,
    done: Mapping[str, Any],
    *,
    is_lost: bool,
    now_ms: int,
    seconds: float,
) -> DeviceSummary:
    count = done.get("inferences", 0)
    sent_ms, last = heard if heard else (None, (None, None, "", None, []))
    interval_ms, version, status, server_id, tags = last
    if is_lost:
        state = "lost"
    elif sent_ms is None or interval_ms is None:
        state = "unknown"
    elif status == "stopping":
        state = "stopped"
    else:
        state = "up" if now_ms - sent_ms <= LATE_BEATS * interval_ms else "late"
    return DeviceSummary(
        device_id=name,
        state=state,
        last_heartbeat=None if sent_ms is None else told(sent_ms),
        heartbeat_interval_ms=interval_ms,
        version=version or None,
        server_id=server_id or None,
        tags=tags,
        inferences=count,
        rate=count / seconds,
        error_rate=done["errors"] / count if count else None,
        latency_p95_ms=done.get("latency_p95_ms"),
        confidence_mean=done.get("confidence_mean"),
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_devices,)
