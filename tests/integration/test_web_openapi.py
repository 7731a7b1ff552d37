"""The OpenAPI document is kept to: whatever is sent within it or just beside it, nothing is ever an error of ours."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from pipeline.config import Settings
from tests.integration.http_side import LOCAL_KEY, HttpSide, http_side

pytestmark = pytest.mark.integration

BUDGET_S = 60.0  # of all operations together
EXAMPLES = 15  # of each, within the document and beside it
# An audit waits for what is on its way, and a stream ends when its client goes away.
NEVER_TRIED = {"audit_pipeline", "stream"}

load_all_checks()
HOLD = [CHECKS.get_one(name) for name in ("not_a_server_error", "response_schema_conformance")]


def operations(web: HttpSide) -> Iterator[Any]:
    """All that the document says can be asked."""
    document = web.ask("GET", "/v1/openapi.json").json
    found: Any  # an operation, or why it is none
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] not in NEVER_TRIED:
            yield operation


def test_no_request_that_the_document_allows_or_nearly_allows_is_a_mistake_of_ours(
    world: Settings, tmp_path: Path
) -> None:
    with http_side(world, tmp_path) as web:
        found = list(operations(web))
        assert len(found) >= 20
        answered: Counter[int] = Counter()
        for operation in found:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _try(web, operation, mode, BUDGET_S / len(found) / 2, answered)
        assert web.alive
        assert answered[200] > 20, answered
        assert sum(answered.values()) > 10 * len(found), answered


def _try(web: HttpSide, operation: Any, mode: GenerationMode, within_s: float, answered: "Counter[int]") -> None:
    deadline = time.monotonic() + within_s

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        if time.monotonic() > deadline:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            response = case.call(base_url=web.url, headers={"Authorization": f"Bearer {LOCAL_KEY}"}, timeout=30)
            answered[response.status_code] += 1
            case.validate_response(response, checks=HOLD)

    holds()
