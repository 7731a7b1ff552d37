"""The part `vision`: /vision-events... and /v2/events, as Roboflow's clients, workflow blocks and devices speak.

The workspace comes from the key; with a key for every one it is said: ?workspace=NAME.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.batches import Batches
from pipeline.web.access.door import Door
from pipeline.web.access.principal import May
from pipeline.web.asgi import Asgi, Headers, Receive, Refused, Scope, Send, answer, headers_of, only, query_of
from pipeline.web.images.gallery import Gallery
from pipeline.web.ingest import bodies
from pipeline.web.ingest.room import Held
from pipeline.web.roboflow.vision.bundles import BUNDLE_BYTES_MAX
from pipeline.web.roboflow.vision.finding import VisionFinding
from pipeline.web.roboflow.vision.intake import VisionIntake, unavailable
from pipeline.web.roboflow.vision.requests import BUSY_STATUS, VisionAnswer, VisionAnswers, VisionRequest
from pipeline.web.roboflow.vision.use_cases import UseCases
from schemas.access import EVERY_WORKSPACE

BASE = "/vision-events"

Answering = Callable[[VisionRequest], Awaitable[VisionAnswer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one method at one path does, and for whom."""

    may: May
    answer: Answering
    body_bytes_max: int = 0  # 0: it has none
    busy_status: int = 503


class Vision:
    """All of it; one for the process."""

    name = "vision"

    def __init__(
        self,
        settings: Settings,
        door: Door,
        batches: Batches,
        clock: Clock,
        gallery: Gallery,
        use_cases: UseCases,
        finding: VisionFinding,
    ) -> None:
        self._settings, self._door, self._batches, self._clock = settings, door, batches, clock
        self._gallery, self._use_cases, self._finding = gallery, use_cases, finding
        intake = VisionIntake(settings, batches, clock, gallery, use_cases)
        self._paths = _paths(VisionAnswers(intake, use_cases, finding, clock))
        self._running: set[asyncio.Task[VisionAnswer]] = set()

    async def work(self) -> None:
        """Follows the use cases."""
        await self._use_cases.work()

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        if path in self._paths:
            return partial(self._answer, self._paths[path], "")
        if not path.startswith(f"{BASE}/"):
            return None
        head, _, tail = path.removeprefix(f"{BASE}/").partition("/")
        name, _, verb = tail.partition("/")
        pattern = f"{BASE}/{head}/ID" + (f"/{verb}" if verb else "")
        return partial(self._answer, self._paths[pattern], unquote(name)) if name and pattern in self._paths else None

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""
        return self._use_cases.not_ready()

    async def stop(self) -> None:
        """Lets what is on its way arrive, for a moment."""
        if self._running:
            await asyncio.wait(self._running, timeout=5.0)
        await self._finding.close()
        await self._gallery.stop()
        await self._batches.close()

    async def _answer(
        self, methods: Mapping[str, Endpoint], name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        only(scope, *methods)
        endpoint, headers = methods[scope["method"]], headers_of(scope)
        query = query_of(scope)
        workspace = self._workspace(scope, query, endpoint.may)
        try:
            told = await self._told(endpoint, VisionRequest(workspace, name, query), receive, headers)
        except Refused as why:
            if why.status != 503:
                raise
            raise Refused(endpoint.busy_status, why.reason, why.message, retry_after_s=why.retry_after_s) from None
        await answer(send, told.status, orjson.dumps(told.body) if not isinstance(told.body, bytes) else told.body)

    async def _told(self, endpoint: Endpoint, asked: VisionRequest, receive: Receive, headers: Headers) -> VisionAnswer:
        held = Held(self._gallery.room)
        is_handed_on = False
        try:
            if endpoint.body_bytes_max:
                within_s = self._settings.ingest_body_s
                body = await bodies.read(receive, headers, held, within_s, endpoint.body_bytes_max)
                asked = replace(asked, content_type=headers.get(b"content-type", b""), body=body, held=held)
            is_handed_on = True
            return await self._within(self._held(held, endpoint.answer(asked)))
        finally:
            if not is_handed_on:
                held.release()

    async def _held(self, held: Held, work: Awaitable[VisionAnswer]) -> VisionAnswer:
        """What is on its way to Kafka stays counted until it has arrived, also when nobody waits any more."""
        try:
            return await work
        finally:
            held.release()

    async def _within(self, work: Coroutine[Any, Any, VisionAnswer]) -> VisionAnswer:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        done, _ = await asyncio.wait({task}, timeout=self._settings.ingest_answer_s)
        if not done:
            raise unavailable("not done in time; some may have arrived")
        return task.result()

    def _done(self, task: "asyncio.Task[VisionAnswer]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # who still waited has heard of it

    def _workspace(self, scope: Scope, query: Mapping[str, str], may: May) -> str:
        """The key's own, or the one that is named. Raises Refused: 400, 401, 403, 503."""
        headers = headers_of(scope)
        workspace = query.get("workspace") or self._door.know(scope, headers).workspace
        if not workspace or workspace == EVERY_WORKSPACE:
            raise Refused(400, "which_workspace", "this key is for more than one workspace: add ?workspace=NAME")
        self._door.admit(scope, headers, may, workspace)
        return workspace


def _paths(answers: VisionAnswers) -> Mapping[str, Mapping[str, Endpoint]]:
    """By path (ID stands for a name) and method."""
    large = bodies.BODY_BYTES_MAX

    def sends(answer: Answering, may: May = May.INGEST) -> Mapping[str, Endpoint]:
        return {"POST": Endpoint(may, answer, large)}

    def schema(column: str) -> Mapping[str, Endpoint]:
        return {"GET": Endpoint(May.QUERY, partial(answers.fields, column))}

    return {
        BASE: sends(answers.create),
        f"{BASE}/batch": sends(answers.batch),
        f"{BASE}/upload": sends(answers.upload),
        f"{BASE}/bundle": {"POST": Endpoint(May.INGEST, answers.bundle, BUNDLE_BYTES_MAX)},
        f"{BASE}/query": sends(answers.query, May.QUERY),
        f"{BASE}/delete": sends(answers.delete, May.OPERATE),
        f"{BASE}/use-cases": {
            "GET": Endpoint(May.QUERY, answers.use_cases),
            "POST": Endpoint(May.INGEST, answers.create_use_case, large),
        },
        f"{BASE}/use-cases/ID": {"PUT": Endpoint(May.OPERATE, answers.rename, large)},
        f"{BASE}/use-cases/ID/archive": {"POST": Endpoint(May.OPERATE, answers.archive)},
        f"{BASE}/use-cases/ID/unarchive": {"POST": Endpoint(May.OPERATE, answers.unarchive)},
        f"{BASE}/custom-metadata-schema/ID": schema("custom_metadata"),
        f"{BASE}/image-metadata-schema/ID": schema("image_metadata"),
        "/v2/events": {"POST": Endpoint(May.INGEST, answers.local, large, BUSY_STATUS)},
    }
