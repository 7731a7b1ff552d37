"""What each endpoint of vision events does with a request, and what it answers, in Roboflow's words."""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.edge.clock import Clock
from pipeline.web.asgi import Refused
from pipeline.web.images.gallery import address
from pipeline.web.ingest.room import Held
from pipeline.web.roboflow import shapes
from pipeline.web.roboflow.vision import bundles, forms, given
from pipeline.web.roboflow.vision.asked import asked_of
from pipeline.web.roboflow.vision.finding import VisionFinding
from pipeline.web.roboflow.vision.intake import TakenEvents, VisionIntake, id_from, picture_warning
from pipeline.web.roboflow.vision.use_cases import EXISTS, UseCases
from schemas.use_case import UseCaseStatus

EVENTS_MAX, DELETED_MAX = 100, 1000
BUNDLES_AT_ONCE = 2
DEFAULT_USE_CASE = "edge"  # of events at /v2/events that name none
BUSY_STATUS = 529  # what devices take for "later", at /v2/events
_STATUSES: Mapping[str, tuple[UseCaseStatus, ...]] = {
    "active": (UseCaseStatus.ACTIVE,),
    "inactive": (UseCaseStatus.INACTIVE,),
    "archived": (UseCaseStatus.INACTIVE,),
    "all": tuple(UseCaseStatus),
}
_FILES = (("file", "sourceId"), ("inputFile", "inputSourceId"))  # of an image in a bundle
_TEXTS = (("base64Image", "sourceId"), ("inputBase64Image", "inputSourceId"))  # of one at /v2/events


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """A request whose sender may do what it wants."""

    workspace: str
    name: str  # in the path
    query: Mapping[str, str]
    content_type: bytes = b""
    body: bytes = b""
    held: Held | None = None  # what is counted for the body

    @property
    def json(self) -> Any:
        """The body. Raises Refused (400)."""
        found = shapes.loads(self.body)
        if not isinstance(found, dict):
            raise Refused(400, "not_json", "the body is no JSON object")
        return found


@dataclass(frozen=True, slots=True)
class VisionAnswer:
    """A status, and JSON or what becomes it."""

    status: int
    body: Any


class VisionAnswers:
    """One method for each endpoint."""

    def __init__(self, intake: VisionIntake, use_cases: UseCases, finding: VisionFinding, clock: Clock) -> None:
        self._intake, self._use_cases, self._finding, self._clock = intake, use_cases, finding, clock
        self._unpacking = asyncio.Semaphore(BUNDLES_AT_ONCE)

    async def create(self, asked: VisionRequest) -> VisionAnswer:
        """One event."""
        return _one(await self._intake.take(asked.workspace, [asked.json]))

    async def batch(self, asked: VisionRequest) -> VisionAnswer:
        """Up to a hundred: one that is refused is named, and fails no other."""
        events = asked.json.get("events")
        if not isinstance(events, list) or not 1 <= len(events) <= EVENTS_MAX:
            raise Refused(400, "out_of_range", f"events: a list of 1 to {EVENTS_MAX}")
        taken = await self._intake.take(asked.workspace, events)
        told: dict[str, Any] = {"created": len(taken.ids), "eventIds": taken.ids}
        told |= {"warnings": taken.warnings} if taken.warnings else {}
        return VisionAnswer(201, told | ({"errors": taken.errors} if taken.errors else {}))

    async def upload(self, asked: VisionRequest) -> VisionAnswer:
        """A picture for an event to come."""
        form, warnings = forms.fields(asked.body, asked.content_type), given.Warnings()
        if "file" not in form:
            raise Refused(400, "missing_field", "file: the picture")
        metadata = {}
        if "metadata" in form:
            metadata = given.custom(shapes.loads(bytes(form["metadata"].value)), "metadata", warnings)
        source_id, stored = await self._intake.keep(asked.workspace, bytes(form["file"].value), metadata)
        url = address(asked.workspace, source_id) if stored is not None else ""
        told: dict[str, Any] = {"success": True, "sourceId": source_id, "url": url}
        odd = [*warnings.told, *picture_warning(stored)]
        return VisionAnswer(201, told | ({"warnings": odd} if odd else {}))

    async def bundle(self, asked: VisionRequest) -> VisionAnswer:
        """An event with its pictures, as a device without a net has written it."""
        async with self._unpacking:
            if asked.held is not None:
                asked.held.take(bundles.UNPACKED_BYTES_MAX)
            bundle = await asyncio.to_thread(bundles.opened, asked.body)
            event, odd = bundle.payload, given.Warnings()
            for image in given.images(event.get("images"), odd):
                for theirs, ours in _FILES:
                    if (name := image.pop(theirs, None)) is not None:
                        raw = bundle.files.get(str(name).removeprefix("./"))
                        await self._attach(asked.workspace, image, ours, raw, odd)
        event.setdefault("eventId", id_from(asked.body))
        if use_case := asked.query.get("useCaseId"):
            event["useCaseId"] = use_case
        return _one(await self._intake.take(asked.workspace, [event]), odd)

    async def local(self, asked: VisionRequest) -> VisionAnswer:
        """An event as devices send it to the store beside them; its use case is made when it is first heard of."""
        body = asked.json
        event = {theirs: body[ours] for ours, theirs in _LOCAL.items() if body.get(ours) is not None}
        odd = given.Warnings()
        images = given.images(body.get("images"), odd)
        for image in images:
            for theirs, ours in _TEXTS:
                if (text := image.pop(theirs, None)) is not None:
                    await self._attach(asked.workspace, image, ours, _from_text(text), odd)
        event |= {"images": images}
        event.setdefault("useCaseId", asked.query.get("useCaseId", DEFAULT_USE_CASE))
        await self._know(asked.workspace, event["useCaseId"])
        taken = await self._intake.take(asked.workspace, [event])
        told = _told(taken, odd)
        return VisionAnswer(201, {"id": taken.ids[0]} | ({"warnings": told} if told else {}))

    async def query(self, asked: VisionRequest) -> VisionAnswer:
        """A page of events."""
        page = asked_of(asked.json, self._clock.now_ms(), self._finding.lookback_days)
        return VisionAnswer(200, await self._finding.page(asked.workspace, page))

    async def delete(self, asked: VisionRequest) -> VisionAnswer:
        """Hides events: they are found no more. What they counted for stays counted."""
        body = asked.json
        use_case, ids = body.get("useCaseId"), body.get("eventIds")
        if not isinstance(ids, list) or len(ids) > DELETED_MAX or not all(isinstance(one, str) for one in ids):
            raise Refused(400, "out_of_range", f"eventIds: a list of at most {DELETED_MAX} texts")
        one = self._use_cases.one(asked.workspace, str(use_case))
        records, missing = await self._finding.to_hide(asked.workspace, one.id, ids)
        await self._intake.send(records)
        return VisionAnswer(200, {"deleted": len(records), "notFound": missing})

    async def use_cases(self, asked: VisionRequest) -> VisionAnswer:
        """The use cases: active ones, unless ?status= asks for others."""
        status = asked.query.get("status", "active")
        if status not in _STATUSES:
            raise Refused(400, "out_of_range", f"status: one of {', '.join(_STATUSES)}")
        counts = await self._finding.counts(asked.workspace)
        listed = [
            {"id": one.id, "name": one.name, "status": one.status.value, "eventCount": counts.get(one.id, 0)}
            for one in sorted(self._use_cases.of(asked.workspace).values(), key=lambda one: one.created_at_ms)
            if one.status in _STATUSES[status]
        ]
        return VisionAnswer(200, {"useCases": listed, "lookbackDays": self._finding.lookback_days})

    async def create_use_case(self, asked: VisionRequest) -> VisionAnswer:
        """A new one; under an id of one's own, where devices have one already."""
        body = asked.json
        use_case_id = body.get("id")
        if use_case_id is not None and not isinstance(use_case_id, str):
            raise Refused(400, "wrong_type", "id: a text")
        made = await self._use_cases.create(asked.workspace, body.get("name"), self._clock.now_ms(), use_case_id)
        return VisionAnswer(201, {"id": made.id, "name": made.name})

    async def rename(self, asked: VisionRequest) -> VisionAnswer:
        """Another name; the id stays."""
        one = self._use_cases.one(asked.workspace, asked.name)
        changed = await self._use_cases.rename(one, asked.json.get("name"))
        return VisionAnswer(200, {"id": changed.id, "name": changed.name})

    async def archive(self, asked: VisionRequest) -> VisionAnswer:
        """Out of use: not listed unless asked for."""
        return await self._set_status(asked, UseCaseStatus.INACTIVE)

    async def unarchive(self, asked: VisionRequest) -> VisionAnswer:
        """In use again."""
        return await self._set_status(asked, UseCaseStatus.ACTIVE)

    async def fields(self, column: str, asked: VisionRequest) -> VisionAnswer:
        """What metadata the events of a use case have."""
        one = self._use_cases.one(asked.workspace, asked.name)
        return VisionAnswer(200, await self._finding.fields(asked.workspace, one.id, column))

    async def _set_status(self, asked: VisionRequest, status: UseCaseStatus) -> VisionAnswer:
        await self._use_cases.set_status(self._use_cases.one(asked.workspace, asked.name), status)
        return VisionAnswer(200, {"success": True})

    async def _know(self, workspace: str, use_case_id: object) -> None:
        if not isinstance(use_case_id, str) or use_case_id in self._use_cases.of(workspace):
            return
        try:
            await self._use_cases.create(workspace, use_case_id, self._clock.now_ms(), use_case_id)
        except Refused as why:
            if why.reason != EXISTS:  # another request was sooner
                raise

    async def _attach(
        self, workspace: str, image: dict[str, Any], field: str, raw: bytes | memoryview | None, odd: given.Warnings
    ) -> None:
        """A picture becomes a source of its event; what is none is left out with a warning."""
        if raw is None:
            odd.add(f"{field}: the picture did not come along")
            return
        try:
            image[field], stored = await self._intake.keep(workspace, bytes(raw))
        except Refused as why:
            if why.status == 503:
                raise
            odd.add(f"{field}: {why.message}")
            return
        for text in picture_warning(stored):
            odd.add(text)


_LOCAL = {
    "id": "eventId", "event_id": "eventId", "inference_timestamp": "timestamp", "solution": "useCaseId",
    "event_schema": "eventType", "event_data": "eventData", "custom_metadata": "customMetadata",
    "device_id": "deviceId", "stream_id": "streamId", "workflow_id": "workflowId",
    "displayImagePosition": "displayImagePosition", "comment": "comment",
}  # fmt: skip


def _from_text(text: object) -> bytes | None:
    """base64, with or without a data: head."""
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _one(taken: TakenEvents, odd: given.Warnings | None = None) -> VisionAnswer:
    told = _told(taken, odd)
    return VisionAnswer(201, {"eventId": taken.ids[0], "created": True} | ({"warnings": told} if told else {}))


def _told(taken: TakenEvents, odd: given.Warnings | None) -> list[str]:
    return [*(odd.told if odd else []), *taken.warnings.get(taken.ids[0], [])]
