"""Every part asks here, before anything else, whether a request may do what it wants.

By a key, or else by the cookie of a session. A cookie comes with whatever a browser sends, also on behalf of a page of
somebody else: what changes something must come from a page of ours, and say the session's token.
"""

import hmac
import secrets

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.web.access import visits
from pipeline.web.access.book import AccessBook, NotKnown, key_in
from pipeline.web.access.principal import May, Principal
from pipeline.web.access.sessions import Session, Sessions
from pipeline.web.access.visits import SESSION, Visit, Visits, networks
from pipeline.web.asgi import COOKIES, Headers, Refused, Scope

SAFE = ("GET", "HEAD", "OPTIONS")


class Door:
    """Nobody passes without a key or a session that allows it."""

    def __init__(
        self, book: AccessBook, clock: Clock, sessions: Sessions | None = None, visits: Visits | None = None
    ) -> None:
        """Without `sessions`: none that another process has begun."""
        self.book, self._clock = book, clock
        self.sessions = sessions or Sessions.of(secrets.token_urlsafe(32), 3_600_000, 3_600_000)
        self._visits = visits or Visits([], "")

    def admit(self, scope: Scope, headers: Headers, what: May, workspace: str) -> Principal:
        """Who asks. Raises Refused: 401 for nobody we know, 403 where it is not allowed, 503 at the very start."""
        who = self.know(scope, headers)
        if not who.may(what, workspace):
            where = "every workspace" if workspace == "*" else f"the workspace {workspace}"
            asker = "this key" if key_in(headers, scope["query_string"]) else who.name.partition("/")[2] or who.name
            raise Refused(403, "not_allowed", f"{asker} may not {what.value} in {where}")
        return who

    def know(self, scope: Scope, headers: Headers) -> Principal:
        """Who asks, whatever they may. Raises Refused as `admit`."""
        text, now_ms = key_in(headers, scope["query_string"]), self._clock.now_ms()
        if text or b"cookie" not in headers:
            return self.bearer(text)
        visit = self.visit(scope, headers)
        sealed = visits.cookie_in(visit, headers, SESSION)
        if not sealed:
            return _sure(NotKnown.NO_KEY)
        session = self.sessions.opened(sealed, now_ms)
        who = _sure(NotKnown.SESSION_OVER if session is None else self.book.session(session, now_ms))
        assert session is not None
        if scope["method"] not in SAFE:
            self._check_source(visit, headers, session)
        if renewed := self.sessions.renewed(session, now_ms):
            self.set_session(scope, visit, renewed)
        return who

    def bearer(self, text: str, *, remembered: bool = False) -> Principal:
        """Whose key this is, whatever they may. Raises Refused as `know`. `remembered`: as of the book's `bearer`."""
        return _sure(self.book.bearer(text, self._clock.now_ms(), remembered=remembered))

    def session(self, scope: Scope, headers: Headers) -> Session | None:
        """The session that a request comes with, and no key; whether it is good is for `know` to say."""
        if key_in(headers, scope["query_string"]):
            return None
        text = visits.cookie_in(self.visit(scope, headers), headers, SESSION)
        return self.sessions.opened(text, self._clock.now_ms()) if text else None

    def visit(self, scope: Scope, headers: Headers) -> Visit:
        """From where a request comes."""
        return self._visits.of(scope, headers)

    def set_session(self, scope: Scope, visit: Visit, session: Session | None) -> None:
        """The answer brings this session's cookie; None: deletes it."""
        value, age_s = ("", 0) if session is None else (self.sessions.sealed(session), None)
        scope.setdefault(COOKIES, []).append(visits.cookie(visit, SESSION, value, age_s))

    def _check_source(self, visit: Visit, headers: Headers, session: Session) -> None:
        if not visits.is_same_origin(visit, headers):
            raise Refused(
                403,
                "foreign_origin",
                f"a page of {visit.host} must ask for this; behind a balancer set INFERWATCH_PUBLIC_URL",
            )
        token = headers.get(visits.CSRF_HEADER, b"")
        if not hmac.compare_digest(token, self.sessions.csrf(session).encode()):
            raise Refused(403, "no_csrf_token", "send X-Inferwatch-Csrf: the csrf that GET /v1/session tells")


def door_of(settings: Settings, topic: FollowedTopic, clock: Clock) -> Door:
    """As the settings say; `topic` is inference.access."""
    provider = f"{settings.oidc_issuer} {settings.oidc_client_id}"
    book = AccessBook(topic, settings.web_api_key.get_secret_value(), settings.oidc_grants, provider)
    sessions = Sessions.of(
        settings.web_session_key.get_secret_value(),
        settings.web_session_idle_minutes * 60_000,
        settings.web_session_hours_max * 3_600_000,
    )
    return Door(book, clock, sessions, Visits(networks(settings.web_proxies), settings.public_url))


def _sure(who: Principal | NotKnown) -> Principal:
    if who is NotKnown.NOT_READY:
        raise Refused(503, "not_ready", who.value, retry_after_s=1)
    if isinstance(who, NotKnown):
        raise Refused(401, who.name.lower(), who.value)
    return who
