"""Saved views over HTTP: a page with its filter, time and columns under a name, for everybody of a workspace."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler

from pipeline.web.access.principal import May
from pipeline.web.asgi import Refused
from pipeline.web.board.records import Kept
from pipeline.web.query.alerts import author_of
from pipeline.web.query.asked import Asked, delete, get, put
from pipeline.web.query.changes import IfMatch, IfNoneMatch, change, no_mistakes, otherwise, read, seen_by
from pipeline.web.query.moments import told
from schemas import view as view_schema
from schemas.view import View

VIEWS_MAX = 1000  # of a workspace


class ViewTold(msgspec.Struct, frozen=True):
    """A view, and the version to change it by."""

    version: str
    id: str
    name: str
    page: str
    query: dict[str, str]
    columns: list[str]
    author: str
    changed_at: str


class ViewList(msgspec.Struct, frozen=True):
    """All of a workspace, by name."""

    items: list[ViewTold]
    next: None = None


@get(May.QUERY, "/views")
async def list_views(asked: Asked) -> ViewList:
    """Every saved view of the workspace."""
    await read(asked.board.views)
    found = sorted(_mine(asked), key=lambda kept: (kept.value.name, kept.value.id))
    return ViewList([_told(kept) for kept in found])


@get(May.QUERY, "/views/{view_id:str}")
async def read_view(asked: Asked, view_id: str) -> Response[ViewTold]:
    """One saved view."""
    await read(asked.board.views)
    return _answer(_found(asked, view_id))


@put(May.OPERATE, "/views/{view_id:str}")
async def put_view(
    asked: Asked, view_id: str, data: dict[str, Any], if_match: IfMatch = None, if_none_match: IfNoneMatch = None
) -> Response[ViewTold]:
    """Make or replace a saved view: `name`, `page`, `query` (parameters of the page's address), `columns`."""
    given = {name: value for name, value in data.items() if name not in ("author", "changed_at_ms")}
    named = {"id": view_id, "workspace": asked.workspace}
    whole = {**named, **given}
    no_mistakes(view_schema.mistakes(whole) + otherwise(whole, named), "the view")
    await read(asked.board.views)
    key, kept = _key(asked, view_id), asked.board.views.all.get(_key(asked, view_id))
    seen = seen_by(kept, if_match, if_none_match)
    if seen is None and len(_mine(asked)) >= VIEWS_MAX:
        raise Refused(409, "too_many", f"there are {VIEWS_MAX:,} views already")
    view = msgspec.convert({**whole, "author": author_of(asked, None), "changed_at_ms": asked.clock.now_ms()}, View)
    await change(asked.board.views, key, view_schema.encode(view), seen)
    return _answer(_found(asked, view_id))


@delete(May.OPERATE, "/views/{view_id:str}")
async def delete_view(asked: Asked, view_id: str, if_match: IfMatch = None) -> None:
    """Delete a saved view."""
    await read(asked.board.views)
    kept = _found(asked, view_id)
    await change(asked.board.views, _key(asked, view_id), None, seen_by(kept, if_match or "*", None))


def _key(asked: Asked, view_id: str) -> str:
    return f"{asked.workspace}/{view_id}"


def _mine(asked: Asked) -> list[Kept[View]]:
    return [kept for kept in asked.board.views.all.values() if kept.value.workspace == asked.workspace]


def _found(asked: Asked, view_id: str) -> Kept[View]:
    kept = asked.board.views.all.get(_key(asked, view_id))
    if kept is None or kept.value.workspace != asked.workspace:
        raise Refused(404, "no_such_view", "there is no such view in this workspace")
    return kept


def _told(kept: Kept[View]) -> ViewTold:
    view = kept.value
    return ViewTold(
        kept.version, view.id, view.name, view.page, view.query, view.columns, view.author, told(view.changed_at_ms)
    )


def _answer(kept: Kept[View]) -> Response[ViewTold]:
    return Response(_told(kept), headers={"ETag": f'"{kept.version}"'})


ROUTES: Sequence[HTTPRouteHandler] = (list_views, read_view, put_view, delete_view)
