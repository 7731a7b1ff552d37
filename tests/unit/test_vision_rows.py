"""inference.vision-events -> vision_events."""

from typing import Any

import pytest

from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.vision_events import record_vision_events
from schemas import use_case, vision_event
from schemas.rejection import Reason, Rejected
from schemas.use_case import UseCase, UseCaseStatus
from tests.builders import START_MS, records, vision_record
from tests.native_reader import read_block


def tables(recorded: Recorded) -> dict[str, list[dict[str, Any]]]:
    return {rows.table: read_block(rows.body)[1] for rows in recorded.blocks}


def test_a_version_of_an_event_is_a_row() -> None:
    raw = vision_record(custom_metadata={"line": '"A1"', "count": "3"}, warnings=["w"], deleted=True)
    (row,) = tables(record_vision_events(records([raw], first_offset=7)))["vision_events"]
    assert row["event_id"] == "v"
    assert row["event_time"] == START_MS
    assert row["classes"] == ["bolt"]
    assert row["confidences_ppm"] == [910_000]
    assert row["event_data"] == {"result": '"fail"'}
    assert row["custom_metadata"] == {"line": '"A1"', "count": "3"}
    assert (row["warnings"], row["deleted"], row["body"]) == (["w"], 1, '{"eventId":"v"}')
    assert row["kafka_offset"] == 7


@pytest.mark.parametrize(
    ("raw", "reason", "field"),
    [
        (b"{", Reason.NOT_JSON, ""),
        (vision_record(schema=2), Reason.UNKNOWN_SCHEMA, "schema"),
        (vision_record(event_id=""), Reason.OUT_OF_RANGE, "event_id"),
        (vision_record(classes=[]), Reason.OUT_OF_RANGE, "confidences"),
        (vision_record(confidences=[2.0]), Reason.OUT_OF_RANGE, "confidences[0]"),
        (None, Reason.NOT_JSON, ""),
    ],
)
def test_what_is_no_version_of_an_event_is_a_dead_letter(raw: bytes | None, reason: Reason, field: str) -> None:
    assert vision_event.decode(raw) == Rejected(reason, field)
    found = tables(record_vision_events(records([raw, vision_record()])))
    assert [row["reason"] for row in found["dead_letters"]] == [reason.value]
    assert len(found["vision_events"]) == 1


def test_a_use_case_reads_back_under_its_own_key_only() -> None:
    one = UseCase(workspace="a/b", id="c", name="Bolts", created_at_ms=1, status=UseCaseStatus.INACTIVE)
    key = use_case.record_key("a/b", "c")
    assert use_case.decode(key, use_case.encode(one)) == one
    assert use_case.decode(use_case.record_key("a", "b/c"), use_case.encode(one)) == Rejected(
        Reason.OUT_OF_RANGE, "key"
    )
