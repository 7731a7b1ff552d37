"""A request's body: read against a deadline and a bound, unpacked against a bound, cut into records.

What a stranger can make it cost is bounded before it is spent: bytes on the wire, bytes unpacked, number of records.
"""

import asyncio
import sys
import zlib
from typing import Any

import msgspec

from pipeline.web.asgi import Headers, Receive, Refused
from pipeline.web.ingest.room import Held

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

BODY_BYTES_MAX = 16 << 20  # before and after unpacking
RECORDS_MAX = 10_000  # of one request
_OBJECTS_MAX = 1_000_000
_FRAMES_MAX = 100  # each costs a copy of what follows it
_ZSTD: dict[int, int] = {DecompressionParameter.window_log_max: 24}  # a frame may have its reader hold 16 MiB

_LINES = {b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines"}
_JSON = {b"application/json", b""}


class _AnyObject(msgspec.Struct, gc=False):
    """An object, whatever is in it."""


_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[_AnyObject]).decode


async def read(
    receive: Receive, headers: Headers, held: Held, within_s: float, bytes_max: int = BODY_BYTES_MAX
) -> bytes:
    """The body, unpacked; all of it is held. Raises Refused: 400, 408, 413, 415, 503."""
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"identity", b"gzip", b"zstd"):
        raise Refused(415, "unknown_encoding", "Content-Encoding must be gzip, zstd or identity")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    try:
        async with asyncio.timeout(within_s):
            packed = await _whole(receive, held, bytes_max)
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body did not come within {within_s:g} s") from None
    if coding == b"identity" or not packed:
        return packed
    body = _unpacked(packed, coding, bytes_max)  # here and now: requests are unpacked one after the other
    held.change_to(len(body))
    return body


async def _whole(receive: Receive, held: Held, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "cut_off", "the connection ended before the body")
        chunk = message.get("body", b"")
        if chunk:
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            held.take(len(chunk))
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpacked(packed: bytes, coding: bytes, bytes_max: int) -> bytes:
    """All members or frames of a body. Raises Refused (400, 413) before more than the bound is unpacked."""
    body: bytes = b""
    left = packed
    for _ in range(_FRAMES_MAX):
        unpacker: Any = zlib.decompressobj(wbits=31) if coding == b"gzip" else ZstdDecompressor(options=_ZSTD)
        try:
            piece: bytes = unpacker.decompress(left, bytes_max + 1 - len(body))
        except (zlib.error, ZstdError):
            raise _broken(coding) from None
        body = body + piece if body else piece
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        if not unpacker.eof:
            raise _broken(coding)
        left = unpacker.unused_data
        if not left:
            return body
    raise _broken(coding)


def records(body: bytes, content_type: bytes) -> list[bytes]:
    """The records in a body, each as it was written; b"" for an empty line. Raises Refused: 400, 413, 415."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind in _LINES or (kind == b"" and body.lstrip()[:1] != b"["):
        if body.count(b"\n") > RECORDS_MAX:
            raise _too_many()
        return body.split(b"\n")
    if kind not in _JSON:
        raise Refused(415, "unknown_type", "Content-Type must be application/json or application/x-ndjson")
    if body.lstrip()[:1] == b"[":
        return of_list(body)
    return [body]


def of_list(body: bytes) -> list[bytes]:
    """The elements of a JSON list. Raises Refused: 400, 413."""
    try:
        # Only where there are so many commas may there be too many: they are counted before they are made.
        if body.count(b",") >= RECORDS_MAX and (body.count(b"{") > _OBJECTS_MAX or len(_objects(body)) > RECORDS_MAX):
            raise _too_many()
        return [bytes(raw) for raw in _raws(body)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(400, "not_json", f"the body is no JSON list of objects: {error}") from None


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, "too_large", f"a body may have {bytes_max >> 20} MiB, also when it is unpacked")


def _too_many() -> Refused:
    return Refused(413, "too_many", f"a request may have {RECORDS_MAX:,} records")


def _broken(coding: bytes) -> Refused:
    return Refused(400, "broken_encoding", f"the body is not {coding.decode()}, or not all of it")
