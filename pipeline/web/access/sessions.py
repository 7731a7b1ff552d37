"""Sessions of browsers, as signed cookies: any process that has the signing key reads them, none keeps anything.

A session ends when it is idle, when it is old, when what it was begun by changes (a password, a role, a key), and when
its person is signed out on inference.access. Pure.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec
from msgspec.structs import replace

T = TypeVar("T")

TEXT_LENGTH_MAX = 4000  # of a sealed text: browsers keep cookies up to 4096 bytes
RENEWED_SHARE = 0.1  # of the idle time, after which a session that is used gets a new cookie
AHEAD_MS = 60_000  # by which the clock of another process may run ahead


class Seal:
    """Texts that only who has the secret can have made, for one purpose and no other."""

    def __init__(self, secret: str, purpose: str) -> None:
        assert secret
        self._key = hmac.digest(secret.encode(), f"inferwatch {purpose}".encode(), "sha256")

    def seal(self, value: object) -> str:
        """The value, readable by everybody, and its signature."""
        raw = msgspec.json.encode(value)
        return f"{_text(raw)}.{_text(self.sign(raw))}"

    def open(self, text: str, kind: type[T]) -> T | None:
        """What was sealed; None: this is not ours."""
        raw, dot, signature = text.rpartition(".")
        if not dot or len(text) > TEXT_LENGTH_MAX or not text.isascii():
            return None
        try:
            value = _bytes(raw)
            if not hmac.compare_digest(self.sign(value), _bytes(signature)):
                return None
            return msgspec.json.decode(value, type=kind)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            return None

    def sign(self, raw: bytes) -> bytes:
        """The signature alone."""
        return hmac.digest(self._key, raw, hashlib.sha256)


class By(Enum):
    """What somebody signed in with."""

    PASSWORD = "password"  # noqa: S105  a word
    KEY = "key"
    LOCAL = "local"  # the one-time link of `inferwatch up`, or its key
    OIDC = "oidc"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has signed in. `proof` is a digest of what must not have changed since."""

    id: str
    by: By
    who: str  # a person's name, a key's id
    proof: str
    claims: tuple[str, ...] = ()  # OIDC: the values that give a role
    began_at_ms: int
    seen_at_ms: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """Begins, seals and opens them."""

    seal_: Seal
    csrf_: Seal
    idle_ms: int
    age_ms_max: int

    @classmethod
    def of(cls, secret: str, idle_ms: int, age_ms_max: int) -> "Sessions":
        """With a signing key."""
        return cls(Seal(secret, "session"), Seal(secret, "csrf"), idle_ms, age_ms_max)

    def begin(self, by: By, who: str, proof: str, now_ms: int, claims: tuple[str, ...] = ()) -> Session:
        """A new one."""
        return Session(
            id=secrets.token_urlsafe(12),
            by=by,
            who=who,
            proof=proof,
            claims=claims,
            began_at_ms=now_ms,
            seen_at_ms=now_ms,
        )

    def sealed(self, session: Session) -> str:
        """As a cookie holds it."""
        return self.seal_.seal(session)

    def opened(self, text: str, now_ms: int) -> Session | None:
        """The session of a cookie; None: none of ours, or over."""
        session = self.seal_.open(text, Session)
        if session is None or session.seen_at_ms > now_ms + AHEAD_MS:
            return None
        return session if now_ms < self.until_ms(session) else None

    def until_ms(self, session: Session) -> int:
        """When it ends if it is not used."""
        return min(session.seen_at_ms + self.idle_ms, session.began_at_ms + self.age_ms_max)

    def renewed(self, session: Session, now_ms: int) -> Session | None:
        """The same, seen now; None: that can wait."""
        if now_ms - session.seen_at_ms < self.idle_ms * RENEWED_SHARE:
            return None
        return replace(session, seen_at_ms=now_ms)

    def csrf(self, session: Session) -> str:
        """What a page of ours knows, and a page of somebody else cannot: the same for the whole session."""
        return _text(self.csrf_.sign(session.id.encode()))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
