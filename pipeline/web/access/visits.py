"""From where a request comes, as the browser and the balancers that are trusted say it; and cookies. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from pipeline.web.asgi import Headers, Scope

SESSION, DEVICE, OIDC = "inferwatch", "inferwatch_device", "inferwatch_oidc"
CSRF_HEADER = b"x-inferwatch-csrf"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks, from where. `address`: a network of IPv6, since a subscriber has a whole one."""

    address: str
    secure: bool
    host: str  # as the browser knows us


class Visits:
    """Reads requests."""

    def __init__(self, proxies: Sequence[Network], public_url: str) -> None:
        """`proxies`: whose X-Forwarded-For and -Proto are believed."""
        self._proxies, self._public = proxies, urlsplit(public_url)

    def of(self, scope: Scope, headers: Headers) -> Visit:
        """One request's."""
        peer = str((scope.get("client") or ("",))[0])
        trusted = self._is_trusted(peer)
        said = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",") if trusted else []
        chain = [one.strip() for one in said if one.strip()] + [peer]
        address = next((one for one in reversed(chain) if not self._is_trusted(one)), chain[0])
        scheme = headers.get(b"x-forwarded-proto", b"").decode("latin-1") if trusted else scope.get("scheme")
        return Visit(
            _subscriber(address),
            self._public.scheme == "https" or scheme == "https",
            self._public.netloc or headers.get(b"host", b"").decode("latin-1"),
        )

    def _is_trusted(self, address: str) -> bool:
        found = _parsed(address)
        return found is not None and any(found in network for network in self._proxies)


def is_same_origin(visit: Visit, headers: Headers) -> bool:
    """Does a page of ours ask? Every browser says so where something is changed; who says nothing is none."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None and site != b"same-origin":
        return False
    if origin is None:
        return site is not None
    given = urlsplit(origin.decode("latin-1"))
    return given.netloc.lower() == visit.host.lower() and (given.scheme == "https" or not visit.secure)


def is_foreign(visit: Visit, headers: Headers) -> bool:
    """Does a page of somebody else ask? A program that is no browser says nothing."""
    said = {b"sec-fetch-site", b"origin"} & headers.keys()
    return bool(said) and not is_same_origin(visit, headers)


def cookie_in(visit: Visit, headers: Headers, name: str) -> str:
    """Its value; "" for none."""
    wanted = _cookie_name(visit, name)
    for one in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        found, _, value = one.strip().partition("=")
        if found == wanted:
            return value
    return ""


def cookie(visit: Visit, name: str, value: str, age_s: int | None = None) -> bytes:
    """A Set-Cookie that no script reads and no other site sends along. `age_s`: 0 deletes it, None: session-long."""
    age = "" if age_s is None else f"; Max-Age={age_s}"
    secure = "; Secure" if visit.secure else ""
    return f"{_cookie_name(visit, name)}={value}; Path=/; HttpOnly; SameSite=Lax{age}{secure}".encode()


def _cookie_name(visit: Visit, name: str) -> str:
    """The prefix behind TLS keeps other hosts of the same domain from setting it."""
    return f"__Host-{name}" if visit.secure else name


def networks(text: str) -> list[Network]:
    """CIDR, comma-separated. Raises ValueError."""
    return [ip_network(one.strip()) for one in text.split(",") if one.strip()]


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _subscriber(address: str) -> str:
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return str(found or "unknown")
