"""Which later values of an inference are accepted, and why the others are not."""

from typing import Any

import orjson
import pytest

from schemas.event import TIME_MS_MAX
from schemas.metadata import InferenceMetadata, decode
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted

SMALLEST = {
    "workspace": "w",
    "inference_id": "e",
    "field": "label",
    "value": "cat",
    "sent_at_ms": 1_795_373_683_301,
}


def read(**fields: Any) -> InferenceMetadata | Rejected:
    found = decode(orjson.dumps(SMALLEST | fields))
    assert not isinstance(found, Adjusted)
    return found


def test_metadata_has_five_fields() -> None:
    assert read() == InferenceMetadata("w", "e", "label", "cat", 1_795_373_683_301)


@pytest.mark.parametrize("field", SMALLEST)
def test_each_of_the_five_is_required(field: str) -> None:
    raw = orjson.dumps({name: value for name, value in SMALLEST.items() if name != field})
    assert decode(raw) == Rejected(Reason.MISSING_FIELD, field)


@pytest.mark.parametrize("value", ["", "v" * 1000, 0, -1, 2**63, 0.5, True, False])
def test_a_value_is_a_short_text_a_number_or_a_truth(value: object) -> None:
    accepted = read(value=value)
    assert isinstance(accepted, InferenceMetadata)
    assert (type(accepted.value), accepted.value) == (type(value), value)


@pytest.mark.parametrize(
    "fields",
    [
        {"inference_id": "e" * 128, "workspace": "w" * 256, "field": "f" * 100},
        {"sent_at_ms": 0, "schema": 1},
        {"sent_at_ms": TIME_MS_MAX, "unknown": {}},
    ],
    ids=str,
)
def test_up_to_its_bounds_metadata_is_accepted(fields: dict[str, Any]) -> None:
    assert isinstance(read(**fields), InferenceMetadata)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"workspace": ""}, Reason.OUT_OF_RANGE, "workspace"),
        ({"workspace": "w" * 257}, Reason.OUT_OF_RANGE, "workspace"),
        ({"inference_id": ""}, Reason.OUT_OF_RANGE, "inference_id"),
        ({"inference_id": "e" * 129}, Reason.OUT_OF_RANGE, "inference_id"),
        ({"inference_id": 1}, Reason.WRONG_TYPE, "inference_id"),
        ({"field": ""}, Reason.OUT_OF_RANGE, "field"),
        ({"field": "f" * 101}, Reason.OUT_OF_RANGE, "field"),
        ({"value": "v" * 1001}, Reason.OUT_OF_RANGE, "value"),
        ({"value": None}, Reason.WRONG_TYPE, "value"),
        ({"value": []}, Reason.WRONG_TYPE, "value"),
        ({"sent_at_ms": -1}, Reason.OUT_OF_RANGE, "sent_at_ms"),
        ({"sent_at_ms": TIME_MS_MAX + 1}, Reason.OUT_OF_RANGE, "sent_at_ms"),
        ({"sent_at_ms": 1.5}, Reason.WRONG_TYPE, "sent_at_ms"),
        ({"schema": 2}, Reason.UNKNOWN_SCHEMA, "schema"),
    ],
    ids=str,
)
def test_beyond_them_it_is_refused(fields: dict[str, Any], reason: Reason, field: str) -> None:
    assert read(**fields) == Rejected(reason, field)


def test_a_record_without_a_value_is_refused() -> None:
    assert decode(None) == Rejected(Reason.NOT_JSON, "")
