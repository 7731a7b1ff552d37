"""One HTTP POST, tried once: what its answer means. Redirects are not followed, bodies are not read to the end."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp

from pipeline.edge import clock
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
            said = f"HTTP {response.status} {' '.join(text.split())}".rstrip()
            return Failed(may_work_later(response.status), said, asked_wait_s(response.headers, text))
    except (aiohttp.InvalidURL, ValueError):
        return Failed(False, "the address is no URL")  # its text would name it, with what is secret in it
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, TargetRefusedError)
        return Failed(not refused, f"no connection: {error.os_error}")
    except TimeoutError:
        return Failed(True, "no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        return Failed(True, f"the connection broke: {type(error).__name__}")


def may_work_later(status: int) -> bool:
    """Whether an answer that is no success says nothing about the next attempt."""
    return status >= 500 or status in _AGAIN


def asked_wait_s(headers: Mapping[str, str], answer: str = "") -> float:
    """How long the other side wants to hear nothing: Retry-After, or where Discord and Telegram say it; 0: no word."""
    asked = headers.get("Retry-After", "")
    if not asked and (found := _RETRY_AFTER.search(answer)):
        asked = found[1]
    try:
        return float(asked) if _SECONDS.fullmatch(asked) else _until_s(asked)
    except (ValueError, OverflowError):
        return 0.0


def _until_s(date: str) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - clock.now_ms() / 1000)


_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_RETRY_AFTER = re.compile(r'"retry_after"\s*:\s*(\d[\d.]*)', re.ASCII)
_TIMEOUT = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=5)
