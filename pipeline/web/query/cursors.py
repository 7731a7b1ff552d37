"""Where a list goes on: what the last page ended with, sealed against use with another question by a checksum."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from zlib import crc32

import msgspec

from pipeline.web.asgi import Refused


def cursor(question: str, *place: int) -> str:
    """The text for the next page of `question`."""
    return urlsafe_b64encode(msgspec.json.encode([crc32(question.encode()), *place])).decode().rstrip("=")


def place_in(text: str, question: str, length: int) -> tuple[int, ...]:
    """The numbers in it. Raises Refused for a cursor of another question, and for what is none."""
    try:
        mark, *place = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=list[int])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        mark, place = -1, []
    if mark != crc32(question.encode()) or len(place) != length:
        raise Refused(400, "bad_cursor", "`cursor` is the `next` of an answer to the same question, as it came")
    return tuple(place)
