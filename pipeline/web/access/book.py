"""All keys and people, as they stand on inference.access now: who is the bearer of what was sent along?

The topic is followed, so a key that was revoked is refused within a second everywhere. Nothing is answered before the
topic has been read once: a process that knows no key yet must not say that a key is wrong.
"""

import asyncio
from collections.abc import Mapping
from enum import Enum
from urllib.parse import parse_qs

import structlog

from pipeline.edge.kafka.compacted import FollowedTopic
from pipeline.web.access import credentials, principal
from pipeline.web.access.principal import EVERYTHING, Principal
from schemas.access import ApiKey, KeyUse, User, decode, encode, record_key
from schemas.rejection import Rejected

log = structlog.get_logger()

USED_EVERY_MS = 3_600_000  # how often a key's last use is written, at most

Headers = Mapping[bytes, bytes]


class NotKnown(Enum):
    """Why nobody is known by what was sent along."""

    NO_KEY = "send an API key: Authorization: Bearer, X-Api-Key or ?api_key="
    WRONG_KEY = "the API key is unknown, revoked or expired"
    NOT_READY = "keys are not read yet"


def key_in(headers: Headers, query: bytes) -> str:
    """The key that a request carries; "" for none. A key in the address is for programs that can send no header."""
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip().decode("latin-1")
    if b"x-api-key" in headers:
        return headers[b"x-api-key"].strip().decode("latin-1")
    if b"api_key=" in query:
        return parse_qs(query.decode("latin-1"), max_num_fields=100).get("api_key", [""])[-1]
    return ""


class AccessBook:
    """Everybody who is known here."""

    def __init__(self, topic: FollowedTopic, local_key: str = "") -> None:
        """`local_key`: one more that may everything, of `inferwatch up`; it is on no topic."""
        self._topic = topic
        self._local = credentials.digest(local_key) if local_key else ""
        self._seen: Mapping[bytes, bytes] = {}
        self._version = -1
        self._keys: dict[str, ApiKey] = {}
        self._principals: dict[str, Principal] = {}
        self._users: dict[str, User] = {}
        self._written_ms: dict[str, int] = {}  # when a key was used, as the topic says
        self._used_ms: dict[str, int] = {}  # and as we have seen since

    @property
    def ready(self) -> bool:
        """Has the topic been read?"""
        return self._topic.ready.is_set()

    def bearer(self, text: str, now_ms: int) -> Principal | NotKnown:
        """Who has this key."""
        if not text:
            return NotKnown.NO_KEY
        if self._local and credentials.same(credentials.digest(text), self._local):
            return Principal("local", EVERYTHING)
        if not self.ready:
            return NotKnown.NOT_READY
        self._read()
        key_id = credentials.id_in(text)
        key = self._keys.get(key_id or "")
        if not credentials.fits(text, key, now_ms) or key is None:
            return NotKnown.WRONG_KEY
        if key.expires_at_ms is not None and now_ms >= key.expires_at_ms:
            return NotKnown.WRONG_KEY
        self._used_ms[key.id] = now_ms
        return self._principals[key.id]

    async def person(self, name: str, password: str) -> Principal | NotKnown:
        """Who logs in by a password."""
        if not self.ready:
            return NotKnown.NOT_READY
        self._read()
        user = self._users.get(name)
        hashed = user.password_hash if user is not None else None
        fits = await asyncio.to_thread(credentials.password_fits, password, hashed)
        return principal.of_user(user) if fits and user is not None else NotKnown.WRONG_KEY

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
            case Rejected() as why:
                log.warning("access_refused", key=key.decode(errors="replace"), reason=why.reason.value)

    def _forget(self, key: bytes) -> None:
        kind, _, name = key.decode(errors="replace").partition("/")
        if kind == "key":
            self._keys.pop(name, None)
            self._principals.pop(name, None)
        elif kind == "user":
            self._users.pop(name, None)
