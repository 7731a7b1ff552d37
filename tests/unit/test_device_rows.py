"""Every field of a heartbeat and of a metadata record, and where it goes."""

from typing import Any

import pytest

from pipeline.core.rows.devices import record_heartbeats, record_metadata
from pipeline.core.rows.tables import Recorded
from schemas.rejection import Reason
from tests.builders import START_MS, heartbeat, metadata, records
from tests.native_reader import read_block


def tables(recorded: Recorded) -> dict[str, list[dict[str, Any]]]:
    """Rows by table, as ClickHouse reads them."""
    return {rows.table: read_block(rows.body)[1] for rows in recorded.blocks}


def test_every_field_of_a_heartbeat_has_its_column() -> None:
    beat = heartbeat(
        sent_at_ms=START_MS - 7,
        interval_ms=7 * 86_400_000,
        server_id="s-1",
        version="1.8.3",
        tags=["edge", "roof"],
        boot_id="b-9",
        status="stopping",
        expected_downtime_ms=366 * 86_400_000,
    )
    assert tables(record_heartbeats(records([beat], topic="inference.heartbeats", partition=2, first_offset=9))) == {
        "device_heartbeats": [
            {
                "workspace": "acme",
                "device_id": "cam-7",
                "sent_at": START_MS - 7,
                "interval_ms": 604_800_000,
                "server_id": "s-1",
                "version": "1.8.3",
                "tags": ["edge", "roof"],
                "boot_id": "b-9",
                "status": "stopping",
                "expected_downtime_ms": 31_622_400_000,
                "kafka_partition": 2,
                "kafka_offset": 9,
                "kafka_time": START_MS,
            }
        ]
    }


def test_what_a_heartbeat_does_not_say_is_empty() -> None:
    (row,) = tables(record_heartbeats(records([heartbeat()])))["device_heartbeats"]
    empty = {"server_id": "", "version": "", "tags": [], "boot_id": "", "status": "", "expected_downtime_ms": 0}
    assert {name: row[name] for name in empty} == empty


def test_each_heartbeat_has_its_own_tags() -> None:
    beats = [heartbeat(tags=["a"]), heartbeat(), heartbeat(tags=["b", "c"])]
    rows = tables(record_heartbeats(records(beats)))["device_heartbeats"]
    assert [row["tags"] for row in rows] == [["a"], [], ["b", "c"]]


def test_every_field_of_a_metadata_record_has_its_column() -> None:
    value = metadata(sent_at_ms=START_MS - 7, value="not a helmet")
    assert tables(record_metadata(records([value], topic="inference.metadata", partition=2, first_offset=9))) == {
        "inference_metadata": [
            {
                "workspace": "acme",
                "inference_id": "e",
                "field": "label",
                "value": "not a helmet",
                "sent_at": START_MS - 7,
                "kafka_partition": 2,
                "kafka_offset": 9,
                "kafka_time": START_MS,
            }
        ]
    }


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (12, "12"), (0.5, "0.5"), ("", ""), (2**64 - 1, "18446744073709551615")]
)
def test_a_value_is_kept_as_text(value: Any, text: str) -> None:
    (row,) = tables(record_metadata(records([metadata(value=value)])))["inference_metadata"]
    assert row["value"] == text


@pytest.mark.parametrize(
    ("record", "good", "table"),
    [(record_heartbeats, heartbeat(), "device_heartbeats"), (record_metadata, metadata(), "inference_metadata")],
)
def test_refused_records_are_dead_letters_and_the_others_rows(record: Any, good: bytes, table: str) -> None:
    recorded = record(records([good, b"{", None, good], first_offset=10))
    found = tables(recorded)
    assert [row["kafka_offset"] for row in found[table]] == [10, 13]
    assert [(row["kafka_offset"], row["reason"]) for row in found["dead_letters"]] == [
        (11, "not_json"),
        (12, "not_json"),
    ]
    assert recorded.refused == {Reason.NOT_JSON: 2}


@pytest.mark.parametrize("record", [record_heartbeats, record_metadata])
def test_when_all_are_refused_only_dead_letters_are_written(record: Any) -> None:
    assert tables(record(records([b"[]"]))).keys() == {"dead_letters"}
