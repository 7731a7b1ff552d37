"""Every part asks here, before anything else, whether a request may do what it wants."""

from pipeline.edge.clock import Clock
from pipeline.web.access.book import AccessBook, NotKnown, key_in
from pipeline.web.access.principal import May, Principal
from pipeline.web.asgi import Headers, Refused, Scope


class Door:
    """Nobody passes without a key that allows it."""

    def __init__(self, book: AccessBook, clock: Clock) -> None:
        self._book, self._clock = book, clock

    def know(self, scope: Scope, headers: Headers) -> Principal:
        """Who asks, whatever they may. Raises Refused: 401 without a good key, 503 at the very start."""
        return self.bearer(key_in(headers, scope["query_string"]))

    def bearer(self, text: str) -> Principal:
        """Whose key this is, whatever they may. Raises Refused as `know`."""
        who = self._book.bearer(text, self._clock.now_ms())
        if who is NotKnown.NOT_READY:
            raise Refused(503, "not_ready", who.value, retry_after_s=1)
        if isinstance(who, NotKnown):
            raise Refused(401, who.name.lower(), who.value)
        return who

    def admit(self, scope: Scope, headers: Headers, what: May, workspace: str) -> Principal:
        """Who asks. Raises Refused: 401 and 503 as above, 403 where their key does not allow this."""
        who = self.know(scope, headers)
        if not who.may(what, workspace):
            where = "every workspace" if workspace == "*" else f"the workspace {workspace}"
            raise Refused(403, "not_allowed", f"this key may not {what.value} in {where}")
        return who
