"""The subject `models`: which there are."""

from collections.abc import Sequence

import msgspec
from litestar.handlers import HTTPRouteHandler

from pipeline.core.asking import catalogue
from pipeline.web.access.principal import May
from pipeline.web.query.asked import Asked, get
from pipeline.web.query.moments import told


class ModelSummary(msgspec.Struct, frozen=True):
    """One model, or one version of it."""

    model_id: str
    name: str
    version: str
    first_seen: str
    last_seen: str


class ModelList(msgspec.Struct, frozen=True):
    """All models; there are no pages of them."""

    items: list[ModelSummary]
    next: str | None = None


@get(May.QUERY, "/models")
async def list_models(asked: Asked) -> ModelList:
    """The models of a workspace."""
    rows = await asked.store.ask(catalogue.models())
    return ModelList(
        [
            ModelSummary(model_id, name, version, told(first * 1000), told(last * 1000))
            for model_id, name, version, first, last in rows
        ]
    )


ROUTES: Sequence[HTTPRouteHandler] = (list_models,)
