"""A bundle, one event with its pictures in a tar or tar.gz, as devices without a net write them. Pure.

Nothing is written anywhere: files are looked up by the names that payload.json says, and lie where they lie in the
archive. What is unpacked is bounded before it is; links, devices and odd names are refused.
"""

import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.web.asgi import Refused
from pipeline.web.roboflow import shapes

BUNDLE_BYTES_MAX = 25 << 20  # packed, as their block writes it
UNPACKED_BYTES_MAX = 40 << 20  # pictures are packed already
MEMBERS_MAX = 1000
PAYLOAD = "payload.json"
FORMAT = 1
_GZIP = b"\x1f\x8b"
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The event, and its files by the names in it."""

    payload: dict[str, Any]
    files: Mapping[str, memoryview]


def opened(raw: bytes) -> Bundle:
    """What is in a bundle. Raises Refused: 400, 413."""
    files = _members(_plain(raw))
    payload = shapes.loads(bytes(files.pop(PAYLOAD))) if PAYLOAD in files else None
    if not isinstance(payload, dict):
        raise _broken(f"there is no {PAYLOAD} with an event in it")
    if payload.pop("bundleFormatVersion", FORMAT) != FORMAT:
        raise Refused(400, "unknown_schema", f"bundleFormatVersion {FORMAT} is known here")
    return Bundle(payload, files)


def _plain(raw: bytes) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(raw, UNPACKED_BYTES_MAX + 1)
    except zlib.error:
        raise _broken("it is cut short, or no gzip") from None
    if len(plain) > UNPACKED_BYTES_MAX or unpacker.unconsumed_tail:
        raise Refused(413, "too_large", f"a bundle may have {UNPACKED_BYTES_MAX >> 20} MiB when it is unpacked")
    if not unpacker.eof:
        raise _broken("it is cut short")
    return plain


def _members(plain: bytes) -> dict[str, memoryview]:
    view, files = memoryview(plain), dict[str, memoryview]()
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count == MEMBERS_MAX:
                    raise Refused(413, "too_many", f"a bundle may have {MEMBERS_MAX} members")
                name = _safe(member)
                if member.isdir():
                    continue
                if name in files:
                    raise _broken(f"{name[:100]!r} is there twice")
                files[name] = view[member.offset_data : member.offset_data + member.size]
                if len(files[name]) != member.size:
                    raise _broken("it is cut short")
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError):
        raise _broken("it is no tar") from None
    return files


def _safe(member: tarfile.TarInfo) -> str:
    """Its name, if it is a plain file or a folder below the top: somebody may unpack by hand what we have taken."""
    name = posixpath.normpath(member.name)
    below = not name.startswith(("/", "..")) and "\\" not in name and "\0" not in name and not _DRIVE.match(name)
    if not below or not (member.isreg() or member.isdir()) or member.issparse():
        raise _broken(f"{member.name[:100]!r} is no plain file below the top")
    return name


def _broken(why: str) -> Refused:
    return Refused(400, "not_a_bundle", f"the body is no bundle: {why}")
