"""One-time links: who reads what `inferwatch up` prints is its owner, and signs in without a password.

A link is good once, for some minutes, and at the process that was there when it was made: that one remembers which
were used. So it is for one process of the HTTP side; several would each take it once.
"""

import secrets

import msgspec

from pipeline.web.access.sessions import Seal

GOOD_MS = 10 * 60_000
PATH = "/session/once"


class Once(msgspec.Struct, frozen=True):
    """What a link says."""

    id: str
    made_at_ms: int


def link(web: str, secret: str, now_ms: int) -> str:
    """A new one, for the HTTP side at this address."""
    return f"{web}{PATH}?token={_seal(secret).seal(Once(secrets.token_urlsafe(12), now_ms))}"


class OnceLinks:
    """What a process takes."""

    def __init__(self, secret: str, now_ms: int) -> None:
        self._seal, self._began_ms = _seal(secret), now_ms
        self._used: dict[str, int] = {}  # until they would not be good any more

    def take(self, token: str, now_ms: int) -> bool:
        """Is it good? Then it is not a second time."""
        found = self._seal.open(token, Once)
        self._used = {one: until_ms for one, until_ms in self._used.items() if until_ms > now_ms}
        if found is None or found.id in self._used:
            return False
        if not self._began_ms <= found.made_at_ms <= now_ms < found.made_at_ms + GOOD_MS:
            return False
        self._used[found.id] = found.made_at_ms + GOOD_MS
        return True


def _seal(secret: str) -> Seal:
    return Seal(secret, "one-time link")
