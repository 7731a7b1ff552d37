"""CloudEvents 1.0 over HTTP: binary, structured, batched. What they hold becomes our records.

Types: inferwatch.event, inferwatch.heartbeat and inferwatch.metadata hold our own records (the CloudEvent's id and time
fill in theirs); org.kubeflow.serving.inference.request and .response are what KServe's logger sends.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson

from pipeline.edge.clock import Clock
from pipeline.web.asgi import Headers, Refused
from pipeline.web.ingest.bodies import of_list
from pipeline.web.ingest.kinds import NotTaken
from pipeline.web.ingest.kserve import REQUEST, RESPONSE, UnreadableError, event_of, request_of
from pipeline.web.ingest.pairs import Half, Pairs
from schemas.rejection import Reason

CLOUDEVENTS = "cloudevents"  # the last part of its path
STRUCTURED, BATCHED = b"application/cloudevents+json", b"application/cloudevents-batch+json"
_OURS = {"inferwatch.event": "events", "inferwatch.heartbeat": "heartbeats", "inferwatch.metadata": "metadata"}
_EVENTS = "events"


class CloudEvent(msgspec.Struct, frozen=True):
    """One, however it was sent. `data` is JSON text."""

    id: str
    source: str
    type: str
    specversion: str
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None
    time: str | None = None
    inferenceservicename: str | None = None
    namespace: str | None = None
    component: str | None = None
    endpoint: str | None = None

    @property
    def json(self) -> bytes:
        """Its data."""
        if self.data_base64 is not None:
            return base64.b64decode(self.data_base64, validate=True)
        return bytes(self.data)

    @property
    def time_ms(self) -> int | None:
        """When it happened, if it says so."""
        try:
            return None if self.time is None else round(datetime.fromisoformat(self.time).timestamp() * 1000)
        except (ValueError, OverflowError):
            return None


_decode = msgspec.json.Decoder(CloudEvent).decode


@dataclass(slots=True)
class Found:
    """What came of a request: records by kind (line, bytes), problems, and halves that wait for the other one."""

    records: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    problems: list[tuple[int, str, NotTaken]] = field(default_factory=list)
    kept: int = 0

    def add(self, kind: str, line: int, raw: bytes) -> None:
        """One record more."""
        self.records.setdefault(kind, []).append((line, raw))


class CloudEvents:
    """The endpoint's work. Requests and responses of one inference may come at different times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pairs = Pairs(clock)

    def read(self, headers: Headers, body: bytes) -> list[CloudEvent | NotTaken]:
        """The CloudEvents of a request. Raises Refused: 400, 413, 415."""
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if content_type == BATCHED:
            return [_read(raw) for raw in of_list(body)]
        if content_type == STRUCTURED:
            return [_read(body)]
        if b"ce-specversion" not in headers:
            raise Refused(
                415, "unknown_type", "send CloudEvents 1.0: ce-* headers, or application/cloudevents[-batch]+json"
            )
        if content_type not in (b"application/json", b""):
            raise Refused(415, "unknown_type", "the data of a CloudEvent must be application/json")
        attributes = {
            name[3:].decode("latin-1"): unquote(value.decode("latin-1"))
            for name, value in headers.items()
            if name[:3] == b"ce-"
        }
        known = {name: attributes[name] for name in CloudEvent.__struct_fields__ if name in attributes}
        try:
            return [_sound(msgspec.convert(known | {"data": msgspec.Raw(body)}, CloudEvent))]
        except msgspec.ValidationError as error:
            raise Refused(400, "missing_field", f"the ce-* headers are no CloudEvent: {error}") from None

    async def records(self, workspace: str, sent: list[CloudEvent | NotTaken]) -> Found:
        """Our records in them. A response whose request is late waits for it a little."""
        found = Found()
        for line, one in enumerate(sent, 1):
            if isinstance(one, NotTaken):
                found.problems.append((line, _EVENTS, one))
                continue
            try:
                await self._take(workspace, line, one, found)
            except (UnreadableError, binascii.Error) as error:
                found.problems.append((line, _EVENTS, NotTaken(Reason.NOT_JSON.value, f"data: {error}"[:200])))
        return found

    async def _take(self, workspace: str, line: int, one: CloudEvent, found: Found) -> None:
        time_ms = one.time_ms if one.time_ms is not None else self._clock.now_ms()
        if one.type in _OURS:
            kind = _OURS[one.type]
            found.add(kind, line, _filled(one, time_ms) if kind == _EVENTS else one.json)
        elif one.type == REQUEST:
            half = Half(time_ms, request_of(one.json))
            self._pairs.request((workspace, one.source, one.id), half)
            found.kept += 1
        elif one.type == RESPONSE:
            request = await self._pairs.response((workspace, one.source, one.id))
            record = event_of(one.json, request.about if request else None)
            record |= _about(workspace, one)
            record["event_time_ms"] = request.time_ms if request else time_ms
            if request is not None and time_ms >= request.time_ms:
                record["latency_ms"] = time_ms - request.time_ms
            found.add(_EVENTS, line, orjson.dumps(record))
        else:
            found.problems.append((line, _EVENTS, NotTaken("unknown_type", "type")))


def _read(raw: bytes) -> CloudEvent | NotTaken:
    try:
        return _sound(_decode(raw))
    except msgspec.ValidationError as error:
        return NotTaken(Reason.WRONG_TYPE.value, str(error)[:200])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return NotTaken(Reason.NOT_JSON.value, "")


def _sound(one: CloudEvent) -> CloudEvent | NotTaken:
    if one.specversion != "1.0":
        return NotTaken(Reason.UNKNOWN_SCHEMA.value, "specversion")
    if not one.id:
        return NotTaken(Reason.OUT_OF_RANGE.value, "id")
    return one


def _filled(one: CloudEvent, time_ms: int) -> bytes:
    """An event of ours; where it has no id and no time of its own, it has its CloudEvent's."""
    raw = one.json
    try:
        given = orjson.loads(raw)
    except (ValueError, RecursionError):
        return raw  # whoever looks at it says what is wrong
    if not isinstance(given, dict) or {"event_id", "event_time_ms"} <= given.keys():
        return raw
    return orjson.dumps({"event_id": one.id, "event_time_ms": time_ms} | given)


def _about(workspace: str, one: CloudEvent) -> Mapping[str, Any]:
    """What KServe's logger says of an inference beside its data."""
    said = {"namespace": one.namespace, "component": one.component, "endpoint": one.endpoint}
    return {
        "event_id": one.id[:128],
        "workspace": workspace,
        "model_id": (one.inferenceservicename or one.source or "unknown")[:256],
        "source": "kserve",
        "metadata": {name: text[:1000] for name, text in said.items() if text},
    }
