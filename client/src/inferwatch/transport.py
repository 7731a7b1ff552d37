"""Requests to the HTTP side, and what their answers mean."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from inferwatch.options import Options


@dataclass(frozen=True)
class Answer:
    """What became of a batch.

    `again`: positions (from 0) that the server asks for again; `refused`: how many it will never take, and why.
    `whole`: nothing is known to have arrived, all of it may be sent again after `wait_s`.
    """

    whole: bool = False
    wait_s: float = 0.0
    again: tuple[int, ...] = ()
    refused: int = 0
    why: str = ""
    lost: bool = field(default=False)  # the server will never take the batch: key, address, size


class Transport(Protocol):
    """One way to send."""

    def send(self, kind: str, events: list[bytes], key: str, dropped: int) -> Answer:
        """Sends a batch once. `kind`: events or heartbeats. `key`: the same for each attempt."""

    def close(self) -> None:
        """Lets go of what is open."""


class HttpTransport:
    """One connection, kept open. Not for several threads at once."""

    def __init__(self, options: Options) -> None:
        parts = urlsplit(options.url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = f"{parts.path.rstrip('/')}/v1/{quote(options.workspace, safe='')}"
        self._timeout_s = options.timeout_s
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "inferwatch-client/0.1.0"}
        if options.api_key:
            self._headers["Authorization"] = f"Bearer {options.api_key}"
        self._compress, self._headers["Content-Encoding"] = _compression()
        self._connection: http.client.HTTPConnection | None = None

    def send(self, kind: str, events: list[bytes], key: str, dropped: int) -> Answer:
        """Sends a batch once; a broken connection is an answer, too."""
        headers = {**self._headers, "Idempotency-Key": key}
        if dropped:
            headers["X-Inferwatch-Dropped"] = str(dropped)
        try:
            connection = self._connected()
            connection.request("POST", f"{self._path}/{kind}", self._compress(b"\n".join(events)), headers)
            response = connection.getresponse()
            body = response.read(1 << 20)
            if not response.isclosed():
                self.close()
            return _answer(response.status, response.getheader("Retry-After"), body, len(events))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(whole=True, why=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Closes the connection; the next batch opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._secure:
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout_s, context=ssl.create_default_context()
                )
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._connection


def _answer(status: int, retry_after: str | None, body: bytes, count: int) -> Answer:
    wait_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    said = body[:200].decode(errors="replace").strip()
    if status in (408, 425, 429) or status >= 500:
        return Answer(whole=True, wait_s=min(wait_s, 300.0), why=f"HTTP {status} {said}")
    if not 200 <= status < 300:
        return Answer(lost=True, refused=count, why=f"HTTP {status} {said}")
    try:
        results = json.loads(body)["results"]
        again, refused, why = [], 0, ""
        for result in results:
            line = int(result["line"]) - 1
            if not 0 <= line < count:
                continue
            if result["status"] == "retry":
                again.append(line)
            else:
                refused += 1
                why = why or f"{result.get('reason')} {result.get('field')}"
        return Answer(again=tuple(again), refused=refused, why=why)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer(whole=True, why=f"HTTP {status} with an answer that is not inferwatch's: {said}")


def _compression() -> tuple[Callable[[bytes], bytes], str]:
    """zstd where a library for it is there; gzip at its fastest otherwise."""
    try:
        import zstandard

        compressor: Any = zstandard.ZstdCompressor(level=1)
        return compressor.compress, "zstd"
    except ImportError:
        return lambda body: gzip.compress(body, 1), "gzip"
