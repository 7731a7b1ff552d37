"""A saved view: a page of the console with its filter, time and columns. Topic inference.views (compacted).

Its key is WORKSPACE/ID; an id holds no slash.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.alert import END, TimeMs
from schemas.event import Name
from schemas.mistakes import mistakes as mistakes_of
from schemas.rejection import Reason, Rejected, decode_or_reject

SCHEMA_VERSION = 1
_ID = "^[A-Za-z0-9][A-Za-z0-9._-]*" + END
_PAGE = "^[a-z][a-z0-9-]*" + END
_FORMATS = {
    _ID: "letters, digits, '.', '_' and '-', beginning with a letter or a digit",
    _PAGE: "the name of a page: small letters, digits and '-'",
}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a link to a page holds, under a name. The page itself knows which of it still exists."""

    id: Annotated[str, Meta(pattern=_ID, max_length=128)]
    workspace: Name
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    page: Annotated[str, Meta(pattern=_PAGE, max_length=50)] = "inferences"
    query: Annotated[  # parameters of the page's address: filter, from, to, sort, ...
        dict[Annotated[str, Meta(min_length=1, max_length=100)], Annotated[str, Meta(max_length=4000)]],
        Meta(max_length=50),
    ] = {}
    columns: Annotated[list[Name], Meta(max_length=100)] = []  # in their order; empty: the page's own
    author: Annotated[str, Meta(max_length=256)] = ""
    changed_at_ms: TimeMs = 0
    schema: int = SCHEMA_VERSION


_decode_json = msgspec.json.Decoder(View).decode


def record_key(view: View) -> bytes:
    """The record's key on the topic."""
    return f"{view.workspace}/{view.id}".encode()


def decode(raw: bytes | None) -> View | Rejected:
    """The view in `raw`, or why it is refused. Never raises. A tombstone (None) is the caller's to know."""
    view = decode_or_reject(_decode_json, raw)
    if isinstance(view, View) and view.schema != SCHEMA_VERSION:
        return Rejected(Reason.UNKNOWN_SCHEMA, "schema")
    return view


def encode(view: View) -> bytes:
    """The record of inference.views."""
    return msgspec.json.encode(view)


def mistakes(given: Any) -> list[str]:
    """All that is wrong with a view as a person gave it: "field: what is wrong"; empty if nothing is."""
    return mistakes_of(given, View, _FORMATS)
