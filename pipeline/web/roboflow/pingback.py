"""A pingback: what a Roboflow Inference server says every METRICS_INTERVAL of what it has done since. Pure.

Each entry of `response` becomes an event, also where none is in it (nothing was seen: a request is a request), and the
pingback itself a heartbeat. The API keys, addresses and host names in it are not looked at, so they go nowhere.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.shapes import HEARTBEATS, UNKNOWN, Context, Left, Record

SOURCE = "roboflow"
COMMAS_MAX = 2_000_000  # of a body: a full one of 16 MiB has half of that


KEY_LENGTH_MAX = 300
VALUE_BYTES_MAX = 65_536  # of a field that is looked at as a whole


class NotAPingbackError(Exception):
    """The body is none; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A process of Roboflow's, as it calls itself."""

    device: str
    server_id: str
    version: str | None
    tags: list[str]
    started_s: int  # 0: it does not say


_NULL = msgspec.Raw(b"null")


class Pingback(msgspec.Struct, gc=False):
    """What is read of one. Until somebody is known to have sent it, nothing of it is unpacked but the key."""

    api_key: msgspec.Raw = _NULL
    timestamp: msgspec.Raw = _NULL  # when the process started, the same in each
    device_id: msgspec.Raw = _NULL
    inference_server_id: msgspec.Raw = _NULL
    inference_server_version: msgspec.Raw = _NULL
    tags: msgspec.Raw = _NULL
    inference_results: msgspec.Raw = _NULL

    @property
    def key(self) -> str:
        """What it brings for the door."""
        return shapes.text(_value(self.api_key), KEY_LENGTH_MAX) or ""

    @property
    def server(self) -> Server:
        """Which process it is of."""
        started = shapes.text(_value(self.timestamp), 20) or ""
        server_id = shapes.text(_value(self.inference_server_id), shapes.LABEL_LENGTH_MAX)
        return Server(
            device=shapes.text(_value(self.device_id), shapes.LABEL_LENGTH_MAX) or server_id or UNKNOWN,
            server_id=server_id or "",
            version=shapes.text(_value(self.inference_server_version), shapes.LABEL_LENGTH_MAX),
            tags=shapes.tags(_value(self.tags)),
            started_s=int(started) if started.isascii() and started.isdigit() else 0,
        )


def _value(raw: msgspec.Raw) -> Any:
    return shapes.loads(bytes(raw)) if len(bytes(raw)) <= VALUE_BYTES_MAX else None


_decode = msgspec.json.Decoder(Pingback).decode
_results = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read(body: bytes) -> Pingback:
    """Raises NotAPingbackError."""
    if body.count(b",") > COMMAS_MAX:
        raise NotAPingbackError("it has too many values")
    try:
        return _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    if not isinstance(lenient := shapes.loads(body), dict):
        raise NotAPingbackError("it is no JSON object")
    return _decode(orjson.dumps(lenient))


def results(pingback: Pingback) -> list[bytes]:
    """Each inference, not yet looked at. Raises NotAPingbackError."""
    try:
        return [] if pingback.inference_results == _NULL else [bytes(r) for r in _results(pingback.inference_results)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise NotAPingbackError("inference_results is no list") from None


def inferences(raw: bytes, server: Server, context: Context, left: "Counter[Left]") -> Iterator[Record]:
    """The events of one of its results: one, or as many as a batch had images."""
    result = shapes.loads(raw)
    told = result.get("inference") if isinstance(result, dict) else None
    if not isinstance(told, dict):
        left[Left.INFERENCE] += 1
        return
    request = told.get("request")
    if not isinstance(request, dict):
        request = {}
    response = told.get("response")
    images = response if isinstance(response, list) and response else [response]
    given_id = shapes.text(told.get("inference_id"), 10_000) or hashlib.sha256(raw).hexdigest()
    model = shapes.text(request.get("model_id"), 10_000) or UNKNOWN
    at_ms = shapes.time_ms(shapes.number(result.get("request_time")), context, left)
    version = told.get("inference_server_version") or server.version
    same = {
        "event_time_ms": at_ms,
        "model_id": model[-shapes.NAME_LENGTH_MAX :],
        "device_id": server.device,
        "source": SOURCE,
        "deployment": context.deployment,
        "server_version": shapes.text(version, shapes.LABEL_LENGTH_MAX),
        "tags": server.tags,
        "metadata": shapes.flat(
            {
                "source": request.get("source"),
                "source_info": request.get("source_info"),
                "model_type": request.get("model_type"),
                "confidence_threshold": request.get("confidence"),
            }
        ),
    }
    for index, image in enumerate(images):
        said = image if isinstance(image, dict) else {}
        fields = same | {
            "event_id": shapes.id_of(given_id, index),
            "latency_ms": shapes.latency_ms(shapes.number(said.get("time")), left),
            "predictions": shapes.predictions(said.get("predictions"), left),
        }
        if (record := shapes.event_record(fields, context, left)) is not None:
            yield record
        else:
            left[Left.INFERENCE] += 1


def heartbeat(server: Server, context: Context, interval_ms: int, started_s: int) -> Record:
    """That its device lives. `started_s`: when the last of the device's processes began."""
    beat = {
        "schema": 1,
        "device_id": server.device,
        "workspace": context.workspace,
        "sent_at_ms": context.now_ms,
        "interval_ms": interval_ms,
        "server_id": server.server_id or None,
        "version": server.version,
        "tags": server.tags or None,
        "boot_id": str(started_s) if started_s else None,
    }
    value = orjson.dumps({name: given for name, given in beat.items() if given is not None})
    return Record(HEARTBEATS, server.device, value)
