"""The part `session`: sign in, sign out, who am I.

POST   /v1/session                 {"name", "password"} or {"api_key"}: the answer brings the cookie
GET    /v1/session                 who asks, what they may where, the token for what changes something
DELETE /v1/session[?everywhere=1]  this browser's session; or every one of this person
GET    /session/once?token=        a one-time link of `inferwatch up`
GET    /session/oidc[?next=]       to the provider, and from there to /session/oidc/callback
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec
import orjson
import structlog

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.access import admin, visits
from pipeline.web.access.attempts import DEVICE_MS, Attempts
from pipeline.web.access.book import Evidence, NotKnown
from pipeline.web.access.door import Door
from pipeline.web.access.limits import Limits
from pipeline.web.access.once import PATH as ONCE
from pipeline.web.access.once import OnceLinks
from pipeline.web.access.principal import Principal
from pipeline.web.access.sessions import TEXT_LENGTH_MAX, Session
from pipeline.web.access.visits import DEVICE, OIDC, Visit
from pipeline.web.asgi import (
    COOKIES,
    Asgi,
    Receive,
    Refused,
    Scope,
    Send,
    answer,
    headers_of,
    local_path,
    only,
    read_body,
)
from schemas.access import SignedOut

if TYPE_CHECKING:
    from pipeline.web.session.oidc import Provider

log = structlog.get_logger()

CALLBACK = "/session/oidc/callback"
BODY_BYTES_MAX, BODY_S = 16_384, 10.0
AT_ONCE_MAX, WAITING_MAX = 2, 16  # passwords: each takes 50 ms of a core and 64 MiB on purpose
BEGUN_BURST, BEGUN_EVERY_S = 60, 1  # sign-ins at the provider, by address
PRIVATE = ((b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"))


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/session: a name and a password, or a key."""

    name: str = ""
    password: str = ""
    api_key: str = ""


class SignIns:
    """All of it; one for the process."""

    name = "session"

    def __init__(self, settings: Settings, door: Door, clock: Clock) -> None:
        secret = settings.web_session_key.get_secret_value()
        self._settings, self._door, self._clock = settings, door, clock
        self._attempts = Attempts(secret)
        self._at_once, self._waiting = asyncio.Semaphore(AT_ONCE_MAX), 0
        self._begun = Limits(1 / BEGUN_EVERY_S, BEGUN_BURST * BEGUN_EVERY_S)
        has_links = settings.web_once_links and settings.web_api_key.get_secret_value()
        self._links = OnceLinks(secret, clock.now_ms()) if has_links else None
        self._provider = _provider(settings) if settings.oidc_issuer else None
        self._pages: dict[str, Asgi] = {"/v1/session": self._session}
        if self._links is not None:
            self._pages[ONCE] = self._once
        if self._provider is not None:
            self._pages |= {"/session/oidc": self._to_provider, CALLBACK: self._from_provider}

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        return self._pages.get(path)

    def not_ready(self) -> list[str]:
        """It needs nothing that the process does not."""
        return []

    async def stop(self) -> None:
        """Nothing is held."""

    async def _session(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "POST", "DELETE")
        match scope["method"]:
            case "GET":
                who = self._door.know(scope, headers_of(scope))
                session = self._door.session(scope, headers_of(scope))
                await answer(send, 200, self._told(who, session), PRIVATE)
            case "POST":
                await self._sign_in(scope, receive, send)
            case _:
                await self._sign_out(scope, send)

    # -- in

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        visit = self._door.visit(scope, headers)
        if visits.is_foreign(visit, headers):  # nobody is signed in as somebody else by a page of somebody else
            raise Refused(403, "foreign_origin", f"a page of {visit.host} must ask for this")
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            raise Refused(415, "unknown_type", "send application/json")
        try:
            given = msgspec.json.decode(await read_body(receive, BODY_BYTES_MAX, BODY_S), type=SignIn)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise Refused(400, "bad_body", 'send {"name": ..., "password": ...} or {"api_key": ...}') from None
        if given.api_key:
            shown = self._door.book.key_holder(given.api_key, self._clock.now_ms())
        else:
            shown = await self._by_password(given, visit, visits.cookie_in(visit, headers, DEVICE))
        evidence = _sure(shown)
        if not given.api_key:
            device = self._attempts.new_device(given.name, self._clock.now_ms())
            scope[COOKIES].append(visits.cookie(visit, DEVICE, device, DEVICE_MS // 1000))
        session, who = self._begin(scope, visit, evidence)
        await answer(send, 200, self._told(who, session), PRIVATE)

    async def _by_password(self, given: SignIn, visit: Visit, device: str) -> Evidence | NotKnown:
        now_ms, name = self._clock.now_ms(), given.name[:128]  # no name is longer
        wait_s = self._attempts.wait_s(name, visit.address, device, now_ms)
        if wait_s:
            raise Refused(429, "too_many_attempts", "too many attempts; wait", retry_after_s=wait_s)
        if self._waiting >= WAITING_MAX:
            raise Refused(503, "busy", "others are signing in; come again", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._at_once:
                shown = await self._door.book.person(name, given.password)
        finally:
            self._waiting -= 1
        if isinstance(shown, Evidence):
            self._attempts.forgive(name, visit.address, device, now_ms)
        else:
            log.info("sign_in_refused", name=name, address=visit.address, reason=shown.name.lower())
        return shown

    async def _once(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET")
        assert self._links is not None
        self._check_ready()
        if not self._links.take(_asked(scope, "token"), self._clock.now_ms()):
            raise Refused(401, "link_used", "the link is used or too old; inferwatch users link makes another")
        visit = self._door.visit(scope, headers_of(scope))
        self._begin(scope, visit, self._door.book.local_holder())
        await _go(send, local_path(_asked(scope, "next")))

    async def _to_provider(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET")
        assert self._provider is not None
        visit = self._door.visit(scope, headers_of(scope))
        wait_s = self._begun.wait_s(visit.address, 1, self._clock.monotonic())
        if wait_s:
            raise Refused(429, "too_many_attempts", "too many attempts; wait", retry_after_s=wait_s)
        url, kept = await self._provider.begin(local_path(_asked(scope, "next")), self._clock.now_ms())
        scope[COOKIES].append(visits.cookie(visit, OIDC, kept))
        await _go(send, url)

    async def _from_provider(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET")
        assert self._provider is not None
        self._check_ready()
        headers, now_ms = headers_of(scope), self._clock.now_ms()
        visit = self._door.visit(scope, headers)
        flow = self._provider.flow(visits.cookie_in(visit, headers, OIDC), _asked(scope, "state"), now_ms)
        if flow is None:
            raise Refused(401, "no_sign_in", "this browser has not begun to sign in, or too long ago; begin again")
        scope[COOKIES].append(visits.cookie(visit, OIDC, "", 0))
        if not (code := _asked(scope, "code")):
            raise Refused(401, "provider_refused", f"the provider says: {_asked(scope, 'error')[:100] or 'nothing'}")
        vouched = await self._provider.finish(flow, code, now_ms)
        evidence = self._door.book.claimant(vouched.name, vouched.claims)
        if not evidence.claims:
            raise Refused(403, "no_role", f"{vouched.name} has no role here; INFERWATCH_OIDC_ROLES gives them")
        self._begin(scope, visit, evidence)
        await _go(send, flow.go_to)

    def _check_ready(self) -> None:
        if not self._door.book.ready:  # what is good once is not used up for nothing
            raise Refused(503, "not_ready", NotKnown.NOT_READY.value, retry_after_s=1)

    def _begin(self, scope: Scope, visit: Visit, shown: Evidence) -> tuple[Session, Principal]:
        now_ms = self._clock.now_ms()
        session = self._door.sessions.begin(shown.by, shown.who, shown.proof, now_ms, shown.claims)
        who = self._door.book.session(session, now_ms)
        if isinstance(who, NotKnown):  # signed out at this very moment, or keys are not read yet
            raise Refused(503, "not_ready", who.value, retry_after_s=1)
        if len(self._door.sessions.sealed(session)) > TEXT_LENGTH_MAX:
            raise Refused(403, "too_many_roles", "too many values give this person a role: a cookie cannot hold them")
        self._door.set_session(scope, visit, session)
        log.info("signed_in", who=who.name, address=visit.address)
        return session, who

    # -- out

    async def _sign_out(self, scope: Scope, send: Send) -> None:
        headers = headers_of(scope)
        who = self._door.know(scope, headers)
        if self._door.session(scope, headers) is None:
            raise Refused(400, "no_session", "a key has no session; inferwatch keys revoke takes it back")
        if _asked(scope, "everywhere") in ("1", "true"):
            try:
                await admin.put(self._settings, SignedOut(who=who.name, until_ms=self._clock.now_ms()))
            except KafkaUnavailable:
                raise Refused(503, "kafka_unavailable", "Kafka does not answer", retry_after_s=2) from None
        scope[COOKIES].clear()  # nothing is renewed on the way out
        self._door.set_session(scope, self._door.visit(scope, headers), None)
        await answer(send, 200, b'{"signed_out":true}', PRIVATE)

    def _told(self, who: Principal, session: Session | None) -> bytes:
        told: dict[str, object] = {
            "name": who.name.partition("/")[2] or who.name,
            "by": "key" if session is None else session.by.value,
            "may": {workspace: sorted(may.value for may in allowed) for workspace, allowed in who.grants.items()},
        }
        if session is not None:
            until = datetime.fromtimestamp(self._door.sessions.until_ms(session) / 1000, UTC)
            told |= {"csrf": self._door.sessions.csrf(session), "until": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
        return orjson.dumps(told)


def _provider(settings: Settings) -> "Provider":
    from pipeline.web.session.oidc import Provider  # authlib and an HTTP client, for who wants them

    return Provider(settings, CALLBACK)


def _sure(shown: Evidence | NotKnown) -> Evidence:
    if shown is NotKnown.NOT_READY:
        raise Refused(503, "not_ready", shown.value, retry_after_s=1)
    if isinstance(shown, NotKnown):
        raise Refused(401, shown.name.lower(), shown.value)
    return shown


def _asked(scope: Scope, name: str) -> str:
    with suppress(ValueError):  # more fields than any page of ours has
        return str(parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get(name, [""])[-1])
    return ""


async def _go(send: Send, url: str) -> None:
    await answer(send, 303, b"", ((b"location", url.encode("latin-1", "replace")), *PRIVATE))
