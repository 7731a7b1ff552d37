"""The part `console`: pages of HTML. Each names its whole state in its address; any process can make any page.

GET  /                       the workspace, or the workspaces, of who is signed in; with a key it is Roboflow's question
GET  /sign-in[?next=], POST  a name and a password, or a key;   POST /sign-out
GET  /w/{workspace}/[page]   pages and fragments; who is nobody gets the sign-in page in its place (401)
GET  /static/{version}/...   never changes
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import orjson
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.web.access.book import key_in
from pipeline.web.access.door import Door
from pipeline.web.access.principal import May
from pipeline.web.access.visits import CSRF_HEADER
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
    query_of,
    read_body,
)
from pipeline.web.console.address import RANGES, Address
from pipeline.web.console.asking import Asking, Find
from pipeline.web.console.assets import CHARTS, FRAGMENTS, Assets
from pipeline.web.console.pages import alerts, overview, pipeline
from pipeline.web.console.shown import FILTERS
from pipeline.web.console.visit import Looking, Page, Visitor
from schemas.access import EVERY_WORKSPACE

log = structlog.get_logger()

Show = Callable[[Looking], Awaitable[Page]]
PAGES: Mapping[str, Show] = {
    "": overview.show,
    "alerts": alerts.show,
    "pipeline": pipeline.show,
    "badge": pipeline.badge,
}
TEMPLATES = Path(__file__).with_name("templates")
FORM_BYTES_MAX, FORM_S = 16_384, 10.0
PACKED_BYTES_MIN = 1000
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)
HTML = b"text/html; charset=utf-8"


class Pages:
    """All of it; one for the process."""

    name = "console"

    def __init__(self, settings: Settings, door: Door, clock: Clock) -> None:
        self._settings, self._door, self._clock = settings, door, clock
        self._assets = Assets()
        self._find: Find = lambda path: None
        self._jinja = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters |= FILTERS
        self._jinja.globals |= {
            "asset": self._assets.address,
            "has_charts": CHARTS in self._assets,
            "has_fragments": FRAGMENTS in self._assets,
            "ranges": RANGES,
            "has_oidc": bool(settings.oidc_issuer),
        }

    def meet(self, find: Find) -> None:
        """Who answers at a path that is not ours."""
        self._find = find

    def find(self, path: str) -> Asgi | None:
        """Who answers at this path."""
        match path[1:].split("/"):
            case [""]:
                return self._front
            case ["sign-in"]:
                return self._sign_in
            case ["sign-out"]:
                return self._sign_out
            case ["static", *_]:
                return self._static
            case ["w", workspace, *page] if workspace:
                return partial(self._page, unquote(workspace), "/".join(page))
        return None

    def not_ready(self) -> list[str]:
        """It needs nothing that the process does not."""
        return []

    async def stop(self) -> None:
        """Nothing is held."""

    # -- where people come in

    async def _front(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        if key_in(headers, scope["query_string"]) and (other := self._find("/")):
            return await other(scope, receive, send)
        only(scope, "GET", "HEAD")
        try:
            who = self._door.know(scope, headers)
        except Refused:
            return await _go(send, "/sign-in")
        known = sorted(name for name in who.grants if name != EVERY_WORKSPACE)
        if EVERY_WORKSPACE in who.grants:
            known = sorted({self._settings.workspace, *known})
        if len(known) == 1:
            return await _go(send, f"/w/{quote(known[0], safe='')}/")
        page = Page("workspaces.html", "Workspaces", {"workspaces": known})
        return await self._say(scope, send, page, {"visitor": self._visitor(scope)})

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD", "POST")
        if scope["method"] != "POST":
            return await self._ask_who(scope, send, local_path(query_of(scope).get("next", "")))
        given = await _form(receive)
        go_to = local_path(given.get("next", ""))
        wanted = ("api_key",) if given.get("api_key") else ("name", "password")
        body = orjson.dumps({name: given.get(name, "") for name in wanted})
        try:
            await self._asking(scope, "").send(
                "POST", "/v1/session", body, headers=((b"content-type", b"application/json"),)
            )
        except Refused as why:
            return await self._ask_who(scope, send, go_to, why)
        await _go(send, go_to)

    async def _sign_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "POST")
        given = await _form(receive)
        with suppress(Refused):  # whose session is over is out already; a page of somebody else does not get this far
            token = given.get("csrf", "").encode("ascii", "replace")
            await self._asking(scope, "").send("DELETE", "/v1/session", headers=((CSRF_HEADER, token),))
        await _go(send, "/sign-in")

    async def _ask_who(self, scope: Scope, send: Send, go_to: str, why: Refused | None = None) -> None:
        page = Page("sign_in.html", "Sign in", {"next": go_to, "why": why}, why.status if why else 200)
        await self._say(scope, send, page, {"visitor": None}, why.headers if why else ())

    # -- pages

    async def _page(self, workspace: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """One page; its work ends when who asked is gone."""
        work = asyncio.ensure_future(self._make(workspace, name, scope, send))
        watch = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _make(self, workspace: str, name: str, scope: Scope, send: Send) -> None:
        only(scope, "GET", "HEAD")
        raw_path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        here = f"{raw_path}?{scope['query_string'].decode('latin-1')}"
        frame: dict[str, object] = {"visitor": None}
        try:
            self._door.admit(scope, headers_of(scope), May.QUERY, workspace)
            frame["visitor"] = visitor = self._visitor(scope)
            query = query_of(scope)
            at = Address(workspace, name, {key: value for key, value in query.items() if key != "api_key"})
            show = PAGES.get(name)
            if show is None:
                raise Refused(404, "not_found", "there is no such page")
            visit = self._door.visit(scope, headers_of(scope))
            web = f"{'https' if visit.secure else 'http'}://{visit.host}"
            looking = Looking(at, visitor, self._asking(scope, workspace), self._clock.now_ms(), web)
            frame |= {"at": at, "now_ms": looking.now_ms, "web": web}
            await self._say(scope, send, await show(looking), frame)
        except Refused as why:
            if why.status == 401:
                return await self._ask_who(scope, send, local_path(here), why)
            page = Page("error.html", "This did not work", {"why": why, "workspace": workspace}, why.status)
            await self._say(scope, send, page, frame, why.headers)

    def _asking(self, scope: Scope, workspace: str) -> Asking:
        return Asking(self._find, scope, workspace)

    def _visitor(self, scope: Scope) -> Visitor:
        headers = headers_of(scope)
        session = self._door.session(scope, headers)
        csrf = self._door.sessions.csrf(session) if session else ""
        return Visitor(self._door.know({**scope, COOKIES: []}, headers), csrf)

    async def _say(
        self,
        scope: Scope,
        send: Send,
        page: Page,
        frame: Mapping[str, object],
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        text = self._jinja.get_template(page.template).render(title=page.title, **{"at": None, **frame, **page.given})
        raw, more = text.encode("utf-8", "replace"), [*SAFE, (b"cache-control", b"no-store"), *headers]
        if len(raw) >= PACKED_BYTES_MIN and _takes_gzip(scope):
            raw = gzip.compress(raw, 1)
            more += [(b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]
        await answer(send, page.status, b"" if scope["method"] == "HEAD" else raw, more, HTML)

    async def _static(self, scope: Scope, receive: Receive, send: Send) -> None:
        only(scope, "GET", "HEAD")
        found = self._assets.find(scope["path"].removeprefix("/static/"))
        if found is None:
            raise Refused(404, "not_found", "there is no such file; reload the page")
        raw, more = found.raw, [*SAFE, (b"cache-control", b"public, max-age=31536000, immutable")]
        if _takes_gzip(scope):
            raw = found.packed
            more += [(b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]
        await answer(send, 200, b"" if scope["method"] == "HEAD" else raw, more, found.kind)


async def _form(receive: Receive) -> dict[str, str]:
    raw = await read_body(receive, FORM_BYTES_MAX, FORM_S)
    try:
        found = parse_qs(raw.decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:
        raise Refused(400, "bad_body", "that is no form of ours") from None
    return {name: values[-1] for name, values in found.items()}


def _takes_gzip(scope: Scope) -> bool:
    return b"gzip" in headers_of(scope).get(b"accept-encoding", b"")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _go(send: Send, url: str) -> None:
    await answer(send, 303, b"", ((b"location", url.encode("ascii")), (b"cache-control", b"no-store"), *SAFE), HTML)
