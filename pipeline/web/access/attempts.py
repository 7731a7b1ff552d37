"""How fast passwords may be guessed: slowly, and so that nobody locks a person out by guessing.

Who has signed in from a browser before is known by a cookie of it, and has a bucket of their own. All others share one
a name and one an address; what one address may is less than what a name may, so that one address never empties a name.
One process's own count.
"""

import secrets

import msgspec

from pipeline.web.access.limits import Limits
from pipeline.web.access.sessions import Seal
from schemas.access import UserName

DEVICE_MS = 180 * 86_400_000
ADDRESS_BURST, ADDRESS_EVERY_S = 10, 30
NAME_BURST, NAME_EVERY_S = 50, 3


class KnownBrowser(msgspec.Struct, frozen=True):
    """A browser that somebody has signed in with."""

    id: str
    name: UserName
    until_ms: int


class Attempts:
    """Counts those that failed."""

    def __init__(self, secret: str) -> None:
        self._seal = Seal(secret, "device")
        self._by_address = Limits(1 / ADDRESS_EVERY_S, ADDRESS_BURST * ADDRESS_EVERY_S)
        self._by_name = Limits(1 / NAME_EVERY_S, NAME_BURST * NAME_EVERY_S)

    def wait_s(self, name: str, address: str, device: str, now_ms: int) -> float:
        """Counts an attempt; how long to wait where it may not be made."""
        now_s = now_ms / 1000
        if found := self._device(name, device, now_ms):
            return self._by_address.wait_s(f"device {found.id}", 1, now_s)
        wait_s = self._by_address.wait_s(address, 1, now_s)
        return wait_s or self._by_name.wait_s(name, 1, now_s)

    def forgive(self, name: str, address: str, device: str, now_ms: int) -> None:
        """It was the right password."""
        if found := self._device(name, device, now_ms):
            self._by_address.give_back(f"device {found.id}", 1)
        else:
            self._by_address.give_back(address, 1)
            self._by_name.give_back(name, 1)

    def new_device(self, name: str, now_ms: int) -> str:
        """What the cookie of a browser holds from now on."""
        return self._seal.seal(KnownBrowser(secrets.token_urlsafe(9), name, now_ms + DEVICE_MS))

    def _device(self, name: str, text: str, now_ms: int) -> KnownBrowser | None:
        found = self._seal.open(text, KnownBrowser) if text else None
        return found if found is not None and found.name == name and now_ms < found.until_ms else None
