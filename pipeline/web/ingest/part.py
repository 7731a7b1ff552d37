"""The part `ingest`: POST /v1/{workspace}/events|heartbeats|metadata|cloudevents.

Answered only when Kafka has acknowledged, with a result for each record that was not taken; one bad record fails nobody
else. 503 when what is held has reached its bound, or when Kafka does not answer in time.
"""

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import unquote

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.batches import Batches
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.edge.metrics import CLIENT_DROPPED, INGEST_SECONDS
from pipeline.web.access.door import Door
from pipeline.web.access.limits import Limits
from pipeline.web.access.principal import May, Principal
from pipeline.web.asgi import Asgi, Headers, Receive, Refused, Scope, Send, answer, headers_of, only
from pipeline.web.ingest import bodies
from pipeline.web.ingest.cloudevents import CLOUDEVENTS, CloudEvents
from pipeline.web.ingest.intake import Intake, Taken
from pipeline.web.ingest.kinds import Kind, kinds
from pipeline.web.ingest.repeats import Repeats
from pipeline.web.ingest.room import Held, Room

DROPPED_MAX = 1_000_000_000  # of one header: what is larger is no count
IDEMPOTENCY_KEY_LENGTH_MAX = 255
AGAIN_S = 2.0  # after which a request that got a 503 may come again

Take = Callable[[Taken], Coroutine[Any, Any, None]]


class Ingest:
    """All of it; one for the process."""

    name = "ingest"

    def __init__(self, settings: Settings, door: Door, batches: Batches, clock: Clock) -> None:
        self._settings, self._door, self._batches, self._clock = settings, door, batches, clock
        self._kinds = kinds(settings.time_limits)
        self._intake = Intake(batches, clock)
        self._room = Room(settings.ingest_buffer_mb << 20)
        self._limits = Limits(settings.ingest_rate)
        self._repeats = Repeats()
        self._cloudevents = CloudEvents(clock)

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        head, _, name = path.rpartition("/")
        if not head.startswith("/v1/") or head.count("/") != 2 or len(head) == 4:
            return None
        if name not in self._kinds and name != CLOUDEVENTS:
            return None
        return partial(self._post, unquote(head[4:]), name)

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""
        return [] if self._batches.reachable else ["Kafka does not answer"]

    async def stop(self) -> None:
        """Lets what is on its way arrive, for a moment."""
        await self._repeats.settle(5.0)
        await self._batches.close()

    async def _post(self, workspace: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        headers = headers_of(scope)
        who = self._door.admit(scope, headers, May.INGEST, workspace)
        held = Held(self._room)
        is_handed_on = False
        try:
            body = await bodies.read(receive, headers, held, self._settings.ingest_body_s)
            key = _repeat_key(who, scope["path"], headers, body)
            if name in self._kinds:
                take = self._native(self._kinds[name], workspace, body, headers, who)
            else:
                take = self._converted(workspace, body, headers, who)
            del body  # its records are what is held now
            began = self._clock.monotonic()

            async def work() -> bytes:
                nonlocal is_handed_on
                is_handed_on = True
                try:
                    return await self._taken(take)
                finally:
                    held.release()

            told = await self._repeats.once(key, work, self._settings.ingest_answer_s)
            INGEST_SECONDS.observe(self._clock.monotonic() - began)
        except TimeoutError:
            raise _unavailable("Kafka has not acknowledged in time; some may have arrived") from None
        except KafkaUnavailable:
            raise _unavailable("Kafka does not answer") from None
        finally:
            if not is_handed_on:
                held.release()
        _count_dropped(headers)
        await answer(send, 200, told)

    async def _taken(self, take: Take) -> bytes:
        outcome = Taken()
        await take(outcome)
        if outcome.nothing_came:
            raise _unavailable("Kafka has not acknowledged")
        return outcome.body

    def _native(self, kind: Kind, workspace: str, body: bytes, headers: Headers, who: Principal) -> Take:
        found = bodies.records(body, headers.get(b"content-type", b""))
        numbered = [(line, raw) for line, raw in enumerate(found, 1) if raw and not raw.isspace()]
        self._limit(who, len(numbered))
        topic = self._settings.topic(kind.topic.name)
        return lambda outcome: self._intake.take(kind, topic, workspace, numbered, outcome)

    def _converted(self, workspace: str, body: bytes, headers: Headers, who: Principal) -> Take:
        sent = self._cloudevents.read(headers, body)
        self._limit(who, len(sent))

        async def take(outcome: Taken) -> None:
            found = await self._cloudevents.records(workspace, sent)
            for line, kind_name, problem in found.problems:
                outcome.refuse(self._kinds[kind_name], line, problem)
            outcome.accepted += found.kept
            await asyncio.gather(
                *(
                    self._intake.take(kind, self._settings.topic(kind.topic.name), workspace, numbered, outcome)
                    for name, numbered in found.records.items()
                    for kind in (self._kinds[name],)
                )
            )

        return take

    def _limit(self, who: Principal, count: int) -> None:
        wait_s = self._limits.wait_s(who.name, count, self._clock.monotonic())
        if wait_s:
            raise Refused(429, "too_fast", "this key has sent as much as it may for now", retry_after_s=wait_s)


def _repeat_key(who: Principal, path: str, headers: Headers, body: bytes) -> str:
    """The same for attempts that are the same: whose, where, by which name, and what."""
    given = headers.get(b"idempotency-key", b"")
    if not given:
        return ""
    if len(given) > IDEMPOTENCY_KEY_LENGTH_MAX:
        raise Refused(400, "bad_header", f"Idempotency-Key may have {IDEMPOTENCY_KEY_LENGTH_MAX} characters")
    return f"{who.name} {path} {given.decode('latin-1')} {zlib.crc32(body):08x}{len(body):x}"


def _count_dropped(headers: Headers) -> None:
    given = headers.get(b"x-inferwatch-dropped", b"")
    if given.isdigit() and len(given) <= 10:
        CLIENT_DROPPED.inc(min(int(given), DROPPED_MAX))


def _unavailable(message: str) -> Refused:
    return Refused(503, "kafka_unavailable", message, retry_after_s=AGAIN_S)
