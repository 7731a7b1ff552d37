"""A form with a file in it (multipart/form-data), cut into its fields. Pure: the body is in memory, and bounded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.web.asgi import Refused

FIELDS_MAX = 20
_HEAD_MAX = 4096  # bytes of a field's own headers
_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([!-~]{1,70}?)(?:;|\s|$))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="([^"]*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormField:
    """One field; `value` lies in the body, uncopied."""

    value: memoryview

    @property
    def text(self) -> str:
        """As a text. Raises Refused (400)."""
        try:
            return bytes(self.value).decode()
        except UnicodeDecodeError:
            raise Refused(400, "not_a_form", "a text of the form is not UTF-8") from None


def fields(body: bytes, content_type: bytes) -> Mapping[str, FormField]:
    """The fields by name; of a repeated one the last. Raises Refused: 400, 413, 415."""
    if not content_type.lower().lstrip().startswith(b"multipart/form-data"):
        raise Refused(415, "unknown_type", "Content-Type must be multipart/form-data")
    if (found := _BOUNDARY.search(content_type)) is None:
        raise _broken("it names no boundary")
    fence = b"--" + (found[1] or found[2])
    if not body.startswith(fence):
        raise _broken("it does not begin with its boundary")
    view, made = memoryview(body), dict[str, FormField]()
    at = len(fence)
    while body[at : at + 2] != b"--":
        head_end = body.find(b"\r\n\r\n", at, at + _HEAD_MAX)
        if body[at : at + 2] != b"\r\n" or head_end < 0:
            raise _broken("a field has no head")
        name = _NAME.search(body, at, head_end)
        end = body.find(b"\r\n" + fence, head_end + 2)
        if end < 0 or name is None:
            raise _broken("it ends too soon, or a field has no name")
        if len(made) == FIELDS_MAX:
            raise Refused(413, "too_many", f"a form may have {FIELDS_MAX} fields")
        made[name[1].decode("utf-8", "replace")] = FormField(view[min(head_end + 4, end) : end])
        at = end + 2 + len(fence)
    return made


def _broken(why: str) -> Refused:
    return Refused(400, "not_a_form", f"the body is no form: {why}")
