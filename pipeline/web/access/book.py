"""All keys and people, as they stand on inference.access now: who is the bearer of what was sent along?

The topic is followed, so a key that was revoked is refused within a second everywhere. Nothing is answered before the
topic has been read once: a process that knows no key yet must not say that a key is wrong.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qs

import structlog

from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.web.access import credentials, principal
from pipeline.web.access.principal import EVERYTHING, Grants, Principal
from pipeline.web.access.sessions import By, Session
from schemas.access import KEY_RECORD, ApiKey, KeyUse, SignedOut, User, decode, encode, record_key
from schemas.rejection import Rejected

log = structlog.get_logger()

LOCAL = "local"
USED_EVERY_MS = 3_600_000  # how often a key's last use is written, at most

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who has just shown who they are: what a session is begun with."""

    by: By
    who: str
    proof: str
    claims: tuple[str, ...] = ()


class NotKnown(Enum):
    """Why nobody is known by what was sent along."""

    NO_KEY = "send an API key: Authorization: Bearer, X-Api-Key or ?api_key="
    WRONG_KEY = "the API key is unknown, revoked or expired"
    WRONG_PASSWORD = "the name or the password is wrong"  # noqa: S105  a sentence
    SESSION_OVER = "the session is over; sign in again"
    NOT_READY = "keys are not read yet"


def key_in(headers: Headers, query: bytes) -> str:
    """The key that a request carries; "" for none. A key in the address is for programs that can send no header."""
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip().decode("latin-1")
    if b"x-api-key" in headers:
        return headers[b"x-api-key"].strip().decode("latin-1")
    if b"api_key=" in query:
        with suppress(ValueError):  # more fields than anybody has
            return parse_qs(query.decode("latin-1"), max_num_fields=100).get("api_key", [""])[-1]
    return ""


class AccessBook:
    """Everybody who is known here."""

    def __init__(
        self, topic: FollowedTopic, local_key: str = "", grants: Grants = principal.NO_GRANTS, issuer: str = ""
    ) -> None:
        """`local_key`: one more that may everything, of `inferwatch up`; it is on no topic.

        `grants`: what a claim of the provider `issuer` allows.
        """
        self._topic, self._grants = topic, grants
        self._issuer = credentials.digest(issuer)
        self._local = credentials.digest(local_key) if local_key else ""
        self._seen: Mapping[bytes, bytes] = {}
        self._version = -1
        self._keys: dict[str, ApiKey] = {}
        self._principals: dict[str, Principal] = {}
        self._users: dict[str, User] = {}
        self._written_ms: dict[str, int] = {}  # when a key was used, as the topic says
        self._used_ms: dict[str, int] = {}  # and as we have seen since
        self._signed_out_ms: dict[str, int] = {}

    @property
    def ready(self) -> bool:
        """Has the topic been read?"""
        return self._topic.ready.is_set()

    def remember(self, keys: Mapping[bytes, bytes]) -> None:
        """Keys as they stood when a process before this one ended. The topic replaces them when it is read."""
        for key, raw in keys.items():
            self._learn(key, raw)
        self._seen = keys

    def to_remember(self) -> tuple[int, Mapping[bytes, bytes]]:
        """The keys (their hashes), and a number that grows when something changes; 0: not read yet."""
        if not self.ready:
            return 0, {}
        self._read()
        return self._version, {key: raw for key, raw in self._seen.items() if key.startswith(KEY_RECORD.encode())}

    def bearer(self, text: str, now_ms: int, *, remembered: bool = False) -> Principal | NotKnown:
        """Who has this key. `remembered`: as long as the topic is not read, what is remembered is good enough."""
        if not text:
            return NotKnown.NO_KEY
        if self._local and credentials.same(credentials.digest(text), self._local):
            return Principal(LOCAL, EVERYTHING)
        if self.ready:
            self._read()
        elif not remembered or credentials.id_in(text) not in self._keys:
            return NotKnown.NOT_READY
        key_id = credentials.id_in(text)
        key = self._keys.get(key_id or "")
        if not credentials.fits(text, key, now_ms) or key is None:
            return NotKnown.WRONG_KEY
        if _is_expired(key, now_ms):
            return NotKnown.WRONG_KEY
        self._used_ms[key.id] = now_ms
        return self._principals[key.id]

    async def person(self, name: str, password: str) -> Evidence | NotKnown:
        """Who logs in by a password."""
        if not self.ready:
            return NotKnown.NOT_READY
        self._read()
        user = self._users.get(name)
        hashed = user.password_hash if user is not None else None
        fits = await asyncio.to_thread(credentials.password_fits, password, hashed)
        return Evidence(By.PASSWORD, name, proof_of(user)) if fits and user is not None else NotKnown.WRONG_PASSWORD

    def key_holder(self, text: str, now_ms: int) -> Evidence | NotKnown:
        """Who signs in by an API key."""
        known = self.bearer(text, now_ms)
        if isinstance(known, NotKnown):
            return known
        if known.name == LOCAL:
            return self.local_holder()
        return Evidence(By.KEY, credentials.id_in(text) or "", credentials.digest(credentials.digest(text)))

    def local_holder(self) -> Evidence:
        """Who came by the one-time link. Only where there is a key of `inferwatch up`."""
        assert self._local
        return Evidence(By.LOCAL, LOCAL, credentials.digest(self._local))

    def claimant(self, name: str, claims: Sequence[str]) -> Evidence:
        """Whom the provider vouches for; of the claims only those that allow something."""
        return Evidence(By.OIDC, name, self._issuer, tuple(one for one in claims if one in self._grants))

    def session(self, session: Session, now_ms: int) -> Principal | NotKnown:
        """Who has begun this session, with what is allowed now. What it was begun by must be as it was."""
        if not self.ready:
            return NotKnown.NOT_READY
        self._read()
        who, proof = self._standing(session, now_ms)
        if who is None or not credentials.same(session.proof, proof):
            return NotKnown.SESSION_OVER
        if session.began_at_ms <= self._signed_out_ms.get(who.name, -1):
            return NotKnown.SESSION_OVER
        return who

    def _standing(self, session: Session, now_ms: int) -> tuple[Principal | None, str]:
        match session.by:
            case By.PASSWORD:
                user = self._users.get(session.who)
                return (None, "") if user is None else (principal.of_user(user), proof_of(user))
            case By.KEY:
                key = self._keys.get(session.who)
                if key is None or _is_expired(key, now_ms):
                    return None, ""
                current, previous = credentials.digest(key.digest), credentials.digest(key.previous_digest or "")
                is_previous = credentials.same(session.proof, previous) and now_ms < (key.previous_until_ms or 0)
                return self._principals[key.id], previous if is_previous else current
            case By.LOCAL:
                return (Principal(LOCAL, EVERYTHING), credentials.digest(self._local)) if self._local else (None, "")
            case By.OIDC:
                return principal.of_claims(session.who, session.claims, self._grants), self._issuer

    def take_uses(self) -> dict[bytes, bytes]:
        """The records of the uses that are to be written now."""
        due = {
            key_id: at_ms
            for key_id, at_ms in self._used_ms.items()
            if key_id in self._keys and at_ms - self._written_ms.get(key_id, 0) >= USED_EVERY_MS
        }
        self._written_ms |= due
        self._used_ms.clear()
        uses = [KeyUse(id=key_id, used_at_ms=at_ms) for key_id, at_ms in due.items()]
        return {record_key(use): encode(use) for use in uses}

    def _read(self) -> None:
        """Takes in what has changed since the last time."""
        if self._version == self._topic.version:
            return
        self._version, values = self._topic.version, self._topic.values
        for gone in self._seen.keys() - values.keys():
            self._forget(gone)
        for key, raw in values.items():
            if self._seen.get(key) != raw:
                self._forget(key)
                self._learn(key, raw)
        self._seen = values

    def _learn(self, key: bytes, raw: bytes) -> None:
        match decode(key, raw):
            case ApiKey() as found:
                self._keys[found.id] = found
                self._principals[found.id] = principal.of_key(found)
            case User() as found:
                self._users[found.name] = found
            case KeyUse() as found:
                self._written_ms[found.id] = found.used_at_ms
            case SignedOut() as found:
                self._signed_out_ms[found.who] = found.until_ms
            case Rejected() as why:
                log.warning("access_refused", key=key.decode(errors="replace"), reason=why.reason.value)

    def _forget(self, key: bytes) -> None:
        kind, _, name = key.decode(errors="replace").partition("/")
        if kind == "key":
            self._keys.pop(name, None)
            self._principals.pop(name, None)
        elif kind == "user":
            self._users.pop(name, None)
        elif kind == "signed-out":
            self._signed_out_ms.pop(name, None)


def _is_expired(key: ApiKey, now_ms: int) -> bool:
    return key.expires_at_ms is not None and now_ms >= key.expires_at_ms


def proof_of(user: User) -> str:
    """What a session of this person is begun by: another one when the password or a role is, or the person."""
    roles = sorted((workspace, role.value) for workspace, role in user.roles.items())
    return credentials.digest(f"{user.created_at_ms} {user.password_hash} {roles}")
