"""API keys and passwords: made, hashed, compared in constant time. A key is shown once, when it is made."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec.structs import replace

from schemas.access import KEY_PREFIX, ApiKey, Scope

_KEY = re.compile(rf"{KEY_PREFIX}([a-z0-9]{{6,32}})_([A-Za-z0-9_-]{{20,128}})")
_NO_DIGEST = "0" * 64
_hasher = PasswordHasher()  # argon2id, with RFC 9106's parameters for little memory


@dataclass(frozen=True, slots=True, repr=False)
class MadeKey:
    """A new key: what is stored, and the text that only its owner has."""

    key: ApiKey
    text: str


def digest(text: str) -> str:
    """What is stored of a secret. Fast on purpose: nobody guesses 192 random bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Are two digests the same? Says nothing by the time it takes."""
    return hmac.compare_digest(one, other)


def make_key(name: str, workspace: str, scopes: list[Scope], now_ms: int, expires_at_ms: int | None = None) -> MadeKey:
    """A key that is on no topic yet."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(24)
    text = f"{KEY_PREFIX}{key_id}_{secret}"
    key = ApiKey(
        id=key_id,
        name=name,
        digest=digest(text),
        workspace=workspace,
        scopes=scopes,
        created_at_ms=now_ms,
        expires_at_ms=expires_at_ms,
    )
    return MadeKey(key, text)


def rotate_key(key: ApiKey, now_ms: int, grace_ms: int) -> MadeKey:
    """The same key with another secret; the present one is good for a while yet, so that nothing stops."""
    text = f"{KEY_PREFIX}{key.id}_{secrets.token_urlsafe(24)}"
    kept = (key.digest, now_ms + grace_ms) if grace_ms else (None, None)
    changed = replace(key, digest=digest(text), previous_digest=kept[0], previous_until_ms=kept[1])
    return MadeKey(changed, text)


def id_in(text: str) -> str | None:
    """The id in a key's text; None: that is no key."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def fits(text: str, key: ApiKey | None, now_ms: int) -> bool:
    """Is this the key's text? As long for a key that is not there as for one that is."""
    given = digest(text)
    is_current = same(given, _NO_DIGEST if key is None else key.digest)
    is_previous = same(given, _NO_DIGEST if key is None else key.previous_digest or _NO_DIGEST)
    if key is None:
        return False
    return is_current or (is_previous and now_ms < (key.previous_until_ms or 0))


def hash_password(password: str) -> str:
    """argon2id with a salt; takes some 50 ms on purpose."""
    return _hasher.hash(password)


def password_fits(password: str, password_hash: str | None) -> bool:
    """Is this the password? As long for a person that has none. Runs for some 50 ms: in a thread."""
    try:
        return _hasher.verify(password_hash or _nobodys_hash(), password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return hash_password(secrets.token_urlsafe(24))
