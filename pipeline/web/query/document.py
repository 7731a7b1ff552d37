"""The OpenAPI 3.1 document of the query part, as it is served and as `make docs` writes it.

Every refusal has one form (errors.py), whatever the framework believes of it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

_PROBLEM = {
    "type": "object",
    "required": ["reason", "message"],
    "properties": {
        "reason": {"type": "string", "description": "a word for programs"},
        "message": {"type": "string", "description": "a sentence for people"},
    },
}


def described(app: Litestar) -> dict[str, Any]:
    """The document."""
    document = app.openapi_schema.to_schema()
    document["components"]["schemas"]["Problem"] = _PROBLEM
    refusal = {
        "description": "refused",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    times: Counter[str] = Counter()
    for handler, operation in _operations(app, document):
        times[handler.handler_name] += 1
        again = times[handler.handler_name]  # the same at another path
        operation["operationId"] = handler.handler_name + (f"_{again}" if again > 1 else "")
        operation["summary"] = operation.pop("description", "").partition("\n")[0].removesuffix(".")
        good = {status: told for status, told in operation["responses"].items() if status.startswith("2")}
        operation["responses"] = {**good, "4XX": refusal, "5XX": refusal}
    return document


def written(document: dict[str, Any]) -> bytes:
    """JSON, the same for the same routes."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def query_names(app: Litestar, document: dict[str, Any]) -> dict[str, frozenset[str]]:
    """What each handler knows in a query string."""
    return {
        str(handler): frozenset(one["name"] for one in operation.get("parameters", ()) if one["in"] == "query")
        for handler, operation in _operations(app, document)
    }


def _operations(app: Litestar, document: dict[str, Any]) -> Iterator[tuple[HTTPRouteHandler, dict[str, Any]]]:
    for route in sorted(app.routes, key=lambda route: route.path):
        if isinstance(route, HTTPRoute) and route.path_format in document["paths"]:
            for handler in route.route_handlers:
                for method in handler.http_methods:
                    if operation := document["paths"][route.path_format].get(method.lower()):
                        yield handler, operation
