"""One HTTP POST, tried once: what its answer means. Redirects are not followed, bodies are not read to the end."""

import aiohttp

from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from pipeline.edge.notification.targets import GuardedResolver, TargetRefusedError, Targets

TIMEOUT_S = 15.0
_ANSWER_BYTES_MAX = 300
_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx


def guarded_session(targets: Targets) -> aiohttp.ClientSession:
    """For addresses that people gave."""
    connector = aiohttp.TCPConnector(resolver=GuardedResolver(targets), use_dns_cache=False, limit=100)
    return aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, auto_decompress=False)


def own_session() -> aiohttp.ClientSession:
    """For addresses of the operator's settings."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)


async def post(session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
    """Posts JSON."""
    headers = {"Content-Type": "application/json", "User-Agent": "inferwatch"} | headers
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status < 300:
                return Sent()
            if 300 <= response.status < 400:
                return Failed(False, f"HTTP {response.status}: redirects are not followed")
            answer = await response.content.read(_ANSWER_BYTES_MAX)
            text = answer.decode("utf-8", "replace").strip()
            recoverable = response.status >= 500 or response.status in _AGAIN
            return Failed(recoverable, f"HTTP {response.status} {' '.join(text.split())}".rstrip())
    except (aiohttp.InvalidURL, ValueError):
        return Failed(False, "the address is no URL")  # its text would name it, with what is secret in it
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, TargetRefusedError)
        return Failed(not refused, f"no connection: {error.os_error}")
    except TimeoutError:
        return Failed(True, "no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return Failed(True, f"the connection broke: {type(error).__name__}")


_TIMEOUT = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=5)
