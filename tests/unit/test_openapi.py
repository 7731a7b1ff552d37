"""docs/openapi.json is what the code answers."""

import json
from collections import Counter

import pytest
from litestar import get as unguarded

from pipeline.web.query.openapi import FILE, document
from pipeline.web.query.part import application
from tests.tree import ROOT


def test_the_document_is_the_codes_own() -> None:
    assert (ROOT / FILE).read_bytes() == document(), "make docs writes it anew"


def test_every_operation_has_a_name_of_its_own_a_summary_and_one_form_of_refusal() -> None:
    found = [operation for path in json.loads(document())["paths"].values() for operation in path.values()]
    names = Counter(operation["operationId"] for operation in found)
    assert [name for name, count in names.items() if count > 1] == []
    assert [operation["operationId"] for operation in found if not operation["summary"]] == []
    for operation in found:
        refusals = {status for status in operation["responses"] if not status.startswith("2")}
        assert refusals == {"4XX", "5XX"}, operation["operationId"]


def test_a_route_that_does_not_say_whom_it_is_for_cannot_be_served() -> None:
    @unguarded("/v1/{workspace:str}/secrets")
    async def secrets() -> None: ...

    with pytest.raises(TypeError, match="does not say what its caller must be allowed"):
        application(None, [secrets])  # type: ignore[arg-type]
