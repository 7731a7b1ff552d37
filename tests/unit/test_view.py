"""A saved view: what is read, and what a person is told of one that is wrong."""

from typing import Any

import msgspec
import pytest

from schemas.rejection import Reason, Rejected
from schemas.view import View, decode, encode, mistakes, record_key

VIEW = View(
    id="low", workspace="acme/west", name="Low confidence", query={"filter": "confidence:<0.5"}, columns=["class"]
)


def test_a_view_is_read_as_it_was_written_under_its_workspace_and_id() -> None:
    assert decode(encode(VIEW)) == VIEW
    assert record_key(VIEW) == b"acme/west/low"


def test_a_view_of_a_later_schema_is_refused() -> None:
    assert decode(msgspec.json.encode({**msgspec.to_builtins(VIEW), "schema": 2})) == Rejected(
        Reason.UNKNOWN_SCHEMA, "schema"
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"id": "a/b"}, "id: expected letters, digits"),
        ({"page": "A page"}, "page: expected the name of a page"),
        ({"name": ""}, "name: must not be empty"),
        ({"query": {"filter": 3}}, "query.filter: expected text"),
        ({"colums": []}, "colums: there is no such field; columns?"),
    ],
)
def test_a_person_is_told_what_is_wrong_with_a_view(fields: dict[str, Any], told: str) -> None:
    [mistake] = mistakes({**msgspec.to_builtins(VIEW), **fields})
    assert mistake.startswith(told)
