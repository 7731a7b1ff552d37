"""Where a notification may go: the outside world, and of the inside only what the operator allows.

Who may write a rule may name any address; without this guard they could make us talk to what only we can reach. What
is judged is the address that is connected to, not the name: a name may mean something else at the second asking.
"""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Clouds hand out credentials there: never, whatever is allowed.
_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class TargetRefusedError(OSError):
    """We do not connect there. An OSError, so that clients take it for a connection that failed."""


class Targets:
    """Judges addresses."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        """`allowed`: networks that may be connected to although they are not public."""
        self._allowed = tuple(allowed)

    def check(self, address: str) -> None:
        """Raises TargetRefusedError for an IP address that may not be connected to."""
        try:
            given = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise TargetRefusedError(f"{address} is no address") from None
        plain = _unwrapped(given)
        if plain in _METADATA:
            raise TargetRefusedError(f"{address} is a cloud's metadata service")
        if plain.is_global and not plain.is_multicast:
            return
        if not any(plain in network for network in self._allowed if network.version == plain.version):
            raise TargetRefusedError(f"{address} is not a public address (setting notify_networks allows more)")

    @contextmanager
    def guarding(self) -> Iterator[list[str]]:
        """Inside, every connection of this thread and task is judged as it is made; the list says what was refused.

        For clients that resolve by themselves (apprise): neither a redirect nor a second look-up gets past.
        """
        _install()
        guard = _Guard(self)
        token = _guard.set(guard)
        try:
            yield guard.refused
        finally:
            _guard.reset(token)


# Of an operator that allows whatever can be allowed.
ANYWHERE = Targets([ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver: names to judged addresses, and those are what it connects to."""

    def __init__(self, targets: Targets) -> None:
        """Of a session for addresses that people gave."""
        self._targets = targets

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name; raises if one of them may not be connected to."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        results = []
        for of_family, _, proto, _, address in found:
            self._targets.check(str(address[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=of_family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Holds nothing."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks as a setting gives them: separated by commas. Raises ValueError."""
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


@dataclass(slots=True)
class _Guard:
    targets: Targets
    refused: list[str] = field(default_factory=list)

    def check(self, address: Any) -> None:
        try:
            # A Unix socket's address is a text: it is on this machine.
            self.targets.check(str(address[0]) if isinstance(address, tuple) else "a local socket")
        except TargetRefusedError as error:
            self.refused.append(str(error))
            raise


_guard: ContextVar[_Guard | None] = ContextVar("targets", default=None)
_installed = False


def _install() -> None:
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_audit)  # for good: Python knows no way back. Outside of `guarding` it does nothing


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and (guard := _guard.get()) is not None:
        guard.check(args[1])


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
