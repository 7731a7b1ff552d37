"""What every handler of this part is given, and the only way to make a route: with what its caller must be allowed.

    @get(May.QUERY, "/models")
    async def list_models(asked: Asked) -> ...

The guard has admitted the caller before a handler, its parameters or its body are looked at. Path parameters come
unquoted: a %2F in a name is a slash of the name.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import litestar
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from pipeline.config import Settings
from pipeline.edge.clock import Clock
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store.questions import Questions, WorkspaceQuestions
from pipeline.web.access.door import Door
from pipeline.web.access.principal import May, Principal
from pipeline.web.asgi import Refused, headers_of
from pipeline.web.board.board import Board
from pipeline.web.images.gallery import Gallery
from pipeline.web.query.watching import Watching

Wrap = Callable[[Callable[..., Any]], HTTPRouteHandler]


class Asked:
    """Who asks about which workspace, and what an answer is made from."""

    __slots__ = (
        "again",
        "board",
        "clock",
        "gallery",
        "kafka",
        "questions",
        "settings",
        "store",
        "watching",
        "who",
        "workspace",
    )

    def __init__(
        self,
        workspace: str,
        who: Principal,
        again: Callable[[], Principal],
        *,
        questions: Questions,
        board: Board,
        watching: Watching,
        gallery: Gallery,
        kafka: Kafka,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.workspace, self.who = workspace, who  # admitted for what the route declares
        self.again = again  # is that still so? For an answer that takes long. Raises Refused
        self.watching, self.gallery = watching, gallery
        self.store: WorkspaceQuestions = questions.of(workspace)
        self.questions = questions  # for another workspace, or "*": ask `who` first whether they may
        self.board = board  # of every workspace: what is another's must not be told
        self.kafka, self.clock, self.settings = kafka, clock, settings


def get(may: May, path: str | list[str], **more: Any) -> Wrap:
    """A route below /v1/{workspace} for those who may."""
    return litestar.get(_below(path), opt={"may": may}, **more)


def post(may: May, path: str | list[str], **more: Any) -> Wrap:
    """A route below /v1/{workspace} for those who may."""
    return litestar.post(_below(path), opt={"may": may}, **more)


def put(may: May, path: str | list[str], **more: Any) -> Wrap:
    """A route below /v1/{workspace} for those who may."""
    return litestar.put(_below(path), opt={"may": may}, **more)


def delete(may: May, path: str | list[str], **more: Any) -> Wrap:
    """A route below /v1/{workspace} for those who may."""
    return litestar.delete(_below(path), opt={"may": may}, **more)


def _below(path: str | list[str]) -> list[str]:
    return [f"/v1/{{workspace:str}}{one}" for one in ([path] if isinstance(path, str) else path)]


def may_of(handler: BaseRouteHandler) -> May:
    """What its caller must be allowed. Raises TypeError: there is no route without."""
    if not isinstance(may := handler.opt.get("may"), May):
        raise TypeError(f"the route {handler} does not say what its caller must be allowed: make it by asked.get, ...")
    return may


class Admission:
    """The guard and the dependency of every route."""

    def __init__(self, door: Door, **given: Any) -> None:
        """`given`: what every `Asked` is made of."""
        self._door, self._given = door, given
        self.query_names: dict[str, frozenset[str]] = {}  # what each operation knows in a query string

    async def admit(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Raises Refused for who may not, and for what the route does not know."""
        params = connection.scope["path_params"]
        for name, value in params.items():
            params[name] = unquote(str(value))
        scope: Any = connection.scope

        def again() -> Principal:
            return self._door.admit(scope, headers_of(scope), may_of(handler), params["workspace"])

        scope["state"]["who"], scope["state"]["again"] = again(), again
        known = self.query_names.get(str(handler), frozenset())
        if unknown := sorted(set(connection.query_params) - known - {"api_key"}):
            told = f"it knows {', '.join(sorted(known))}" if known else "it knows none"
            raise Refused(400, "unknown_parameter", f"this address does not know {', '.join(unknown)}; {told}")

    async def provide(self, request: Request[Any, Any, Any]) -> Asked:
        """What a handler is given."""
        state = request.scope["state"]
        return Asked(request.path_params["workspace"], state["who"], state["again"], **self._given)
