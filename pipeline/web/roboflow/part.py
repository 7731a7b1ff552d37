"""The part `roboflow`: what Roboflow's servers, blocks and scripts send and ask, at their paths.

What is sent is answered when this disk has it (courier.py). Keys are ours, where Roboflow's stand: in the address, in
a header or in the body. A body's own secrets are read by the door alone.
"""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
import structlog

from pipeline.config import Settings
from pipeline.core.asking import requests
from pipeline.edge.clock import Clock
from pipeline.edge.forwarding import Forwarder
from pipeline.edge.metrics import FORWARDED, ROBOFLOW_LEFT_OUT
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.questions import NotSetUpError, Questions, TooManyError, TooMuchError
from pipeline.web.access import remembering
from pipeline.web.access.book import key_in
from pipeline.web.access.door import Door
from pipeline.web.access.limits import Limits
from pipeline.web.access.principal import May, Principal
from pipeline.web.asgi import Asgi, Receive, Refused, Scope, Send, answer, headers_of, only
from pipeline.web.ingest import bodies
from pipeline.web.ingest.room import Held, Room
from pipeline.web.roboflow import blocks, pingback, shapes, stats
from pipeline.web.roboflow.beats import INTERVAL_MS_MAX, Beats
from pipeline.web.roboflow.blocks import InvalidRequestError
from pipeline.web.roboflow.courier import Courier
from pipeline.web.roboflow.pingback import NotAPingbackError, Pingback, Server
from pipeline.web.roboflow.seen import Seen
from pipeline.web.roboflow.shapes import Context, Left, Record
from schemas.access import KEY_PREFIX

log = structlog.get_logger()

OK = b'{"status":"ok"}'
TURN_RESULTS = 200  # other requests get a turn after so many inferences
INVALID = b'{"error":"Invalid request"}'  # their words

Query = dict[str, str]
Make = Callable[[Any, Query, Context, "Counter[Left]"], list[Record]]  # of what was sent; may raise InvalidRequestError


_OUR_KEY = re.compile(rf"{KEY_PREFIX}[a-z0-9]{{6,32}}_[A-Za-z0-9_-]{{20}}".encode())


class _Invalid(Refused):
    """A request that Roboflow would call invalid, in its words."""

    @property
    def body(self) -> bytes:
        """The JSON that is answered."""
        return INVALID


class Roboflow:
    """All of it; one for the process."""

    name = "roboflow"

    def __init__(
        self,
        settings: Settings,
        door: Door,
        courier: Courier,
        questions: Questions,
        forwarder: Forwarder | None,
        clock: Clock,
    ) -> None:
        self._settings, self._door, self._courier, self._clock = settings, door, courier, clock
        self._questions, self._forwarder = questions, forwarder
        self._room = Room(settings.ingest_buffer_mb << 20)
        self._limits = Limits(settings.ingest_rate)
        self._beats, self._seen = Beats(), Seen()
        self._keys_file = settings.web_spool_dir / "keys.msgpack"
        remembering.begin(door.book, self._keys_file)  # a server sends once, also while Kafka is away

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        if path == "/":
            return self._whose
        match path[1:].split("/"):
            case ["inference-stats"]:
                return self._pingback
            case [workspace, "inference-stats"] if workspace:
                return partial(self._stats_or_sampled, unquote(workspace))
            case [workspace, "inference-stats", "metadata"] if workspace:
                return partial(self._post, unquote(workspace), _added)
            case ["v1", workspace, "webhook"] if workspace:
                return partial(self._post, unquote(workspace), _webhook)
        return None

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""
        return self._courier.not_ready()

    async def work(self) -> None:
        """Beside requests, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._courier.work())
            group.create_task(remembering.work(self._door.book, self._keys_file))
            if self._forwarder is not None:
                group.create_task(self._forwarder.work())

    async def stop(self) -> None:
        """Lets go of what it holds; what waits on the disk waits on."""
        await self._courier.close()
        await self._questions.close()

    async def _whose(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /?api_key=: blocks ask which workspace a key is of."""
        only(scope, "GET", "HEAD")
        query = _query(scope)
        who = self._door.bearer(key_in(headers_of(scope), scope["query_string"]))
        await answer(send, 200, orjson.dumps({"workspace": self._workspace(who, query)}))

    async def _pingback(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        query, headers = _query(scope), headers_of(scope)
        given = key_in(headers, scope["query_string"])
        who = self._bearer(given) if given else None  # before anything is read, where it can be
        held = Held(self._room)
        try:
            body = await bodies.read(receive, headers, held, self._settings.ingest_body_s)
            try:
                told = pingback.read(body)
                who = who or self._bearer(told.key)
                context = _context(self._workspace(who, query), query, self._clock, self._settings)
                _allow(who, context.workspace)
                results = pingback.results(told)
                self._limit(who, len(results))
            except NotAPingbackError as why:
                raise Refused(400, "no_pingback", str(why)) from None
            await self._take(told.server, results, context, query)
        finally:
            held.release()
        self._forward(told, body)
        await answer(send, 200, OK)

    async def _take(self, server: Server, results: list[bytes], context: Context, query: Query) -> None:
        process = context.workspace, server.device, server.server_id, server.started_s
        learned_ms, started_s = self._beats.observe(process, context.now_ms)
        interval_ms = _interval_ms(query) or learned_ms
        self._seen.keep_for(interval_ms)
        left: Counter[Left] = Counter()
        records = [pingback.heartbeat(server, context, interval_ms, started_s)]
        for number, raw in enumerate(results, 1):
            if number % TURN_RESULTS == 0:
                await asyncio.sleep(0)
            records += pingback.inferences(raw, server, context, left)
        await self._keep(records, context, left)

    async def _keep(self, records: list[Record], context: Context, left: "Counter[Left]") -> None:
        """Returns when what is new of it is on the disk."""
        new = [one for one in records if self._is_new(one, context)]
        left[Left.REPEAT] += len(records) - len(new)
        try:
            await self._courier.take(new)
        except BaseException:
            for one in new:  # it may be sent again, and is new then
                self._seen.forget(context.workspace, one.event_id)
            raise
        for what, count in left.items():
            ROBOFLOW_LEFT_OUT.labels(what.value).inc(count)

    def _is_new(self, record: Record, context: Context) -> bool:
        return not record.event_id or self._seen.is_new(context.workspace, record.event_id, context.now_ms)

    def _forward(self, told: Pingback, body: bytes) -> None:
        """Passes it on with the key that Roboflow knows, which is in it. One of ours goes nowhere."""
        if self._forwarder is None:
            return
        local = self._settings.web_api_key.get_secret_value().encode()
        if not told.key or _OUR_KEY.search(body) or (local and local in body):
            FORWARDED.labels("withheld").inc()
            return
        self._forwarder.offer(body)

    async def _stats_or_sampled(self, workspace: str, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "POST")
        if scope["method"] == "POST":
            await self._post(workspace, _sampled, scope, receive, send)
            return
        self._door.admit(scope, headers_of(scope), May.QUERY, workspace)
        try:
            asked = stats.asked_of(_query(scope), self._clock.now_ms())
        except InvalidRequestError as why:
            raise _Invalid(400, "invalid", str(why)) from None
        store = self._questions.of(workspace)
        try:
            classes, models = await store.ask(requests.by_class(asked)), await store.ask(requests.by_model(asked))
        except TooMuchError as why:
            raise Refused(400, "too_much", f"that is more than may be asked for: {why}") from None
        except NotSetUpError as why:
            raise Refused(503, "not_set_up", str(why)) from None
        except (TooManyError, ClickHouseUnavailable) as why:
            log.warning("stats_not_answered", error=str(why))
            raise Refused(503, "store_unavailable", "ClickHouse does not answer now", retry_after_s=5) from None
        told = stats.told(requests.read_models(models), requests.read_classes(classes))
        await answer(send, 200, orjson.dumps(told))

    async def _post(self, workspace: str, make: Make, scope: Scope, receive: Receive, send: Send) -> None:
        """A request to a workspace: admitted by its key, wherever that stands."""
        only(scope, "POST")
        query, headers = _query(scope), headers_of(scope)
        given = key_in(headers, scope["query_string"])
        who = self._bearer(given) if given else None
        if who is not None:
            _allow(who, workspace)
        held = Held(self._room)
        try:
            raw = await bodies.read(receive, headers, held, self._settings.ingest_body_s)
            if who is None:
                who = self._bearer(_key_of(raw))
                _allow(who, workspace)
            body = shapes.loads(raw) if raw.count(b",") <= pingback.COMMAS_MAX else None
            context = _context(workspace, query, self._clock, self._settings)
            left: Counter[Left] = Counter()
            try:
                records = make(body, query, context, left)
            except InvalidRequestError as why:
                raise _Invalid(400, "invalid", str(why)) from None
            self._limit(who, len(records))
            await self._keep(records, context, left)
        finally:
            held.release()
        await answer(send, 200, OK)

    def _limit(self, who: Principal, count: int) -> None:
        if wait_s := self._limits.wait_s(who.name, count, self._clock.monotonic()):
            raise Refused(429, "too_fast", "this key has sent as much as it may for now", retry_after_s=wait_s)

    def _bearer(self, key: str) -> Principal:
        """Who sends. Raises Refused."""
        return self._door.bearer(key, remembered=True)

    def _workspace(self, who: Principal, query: Query) -> str:
        """A key's own; of a key for all of them the one in the address, or the usual one."""
        return who.workspace or query.get("workspace") or self._settings.workspace


def _allow(who: Principal, workspace: str) -> None:
    if not who.may(May.INGEST, workspace):
        raise Refused(403, "not_allowed", f"this key may not send to the workspace {workspace}")


def _key_of(body: bytes) -> str:
    """The key in a body, of which nothing else is unpacked."""
    try:
        return pingback.read(body).key
    except NotAPingbackError:
        return ""


def _context(workspace: str, query: Query, clock: Clock, settings: Settings) -> Context:
    return Context(workspace, clock.now_ms(), settings.time_limits, query.get("deployment", "edge")[:256])


def _query(scope: Scope) -> Query:
    found = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=100)
    return {name: values[-1] for name, values in found.items()}


def _interval_ms(query: Query) -> int:
    """What the address says of METRICS_INTERVAL; 0: nothing."""
    text = query.get("interval", "")
    return min(INTERVAL_MS_MAX, int(text) * 1000) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _sampled(body: Any, query: Query, context: Context, left: "Counter[Left]") -> list[Record]:
    return blocks.sampled(body, context, left)


def _added(body: Any, query: Query, context: Context, left: "Counter[Left]") -> list[Record]:
    return blocks.added(body, context)


def _webhook(body: Any, query: Query, context: Context, left: "Counter[Left]") -> list[Record]:
    sent = body if isinstance(body, list) else [body]
    if len(sent) > bodies.RECORDS_MAX:
        raise InvalidRequestError("too many")
    return [blocks.webhook(one, query, secrets.token_hex(16), context, left) for one in sent]
