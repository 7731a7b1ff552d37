"""Every field of an alert event, and where it goes."""

import json
from pathlib import Path
from typing import Any

from pipeline.core.rows.alerts import record_alerts
from pipeline.core.rows.tables import Recorded
from schemas.alert import AlertState, encode
from schemas.rejection import Reason
from tests.alerting import START_MS, SUBJECT, event
from tests.builders import START_MS as LOG_MS
from tests.builders import records
from tests.native_reader import read_block


def tables(recorded: Recorded) -> dict[str, list[dict[str, Any]]]:
    return {rows.table: read_block(rows.body)[1] for rows in recorded.blocks}


def test_every_field_has_its_column() -> None:
    of = event(
        state=AlertState.RESOLVED,
        previous_state=AlertState.RECOVERING,
        sequence=7,
        at_ms=START_MS + 5,
        device_id="cam-7",
        class_name="person",
        value=0.25,
        expected=0.0,
        threshold=0.2,
        labels={"team": "vision", "site": "s1"},
        summary="a sentence",
        evidence={"count": 40},
    )
    (row,) = tables(record_alerts(records([encode(of)], topic="inference.alerts", partition=2, first_offset=9)))[
        "alerts"
    ]
    assert json.loads(row.pop("evidence")) == {"count": 40}
    assert row == {
        "fingerprint": SUBJECT.fingerprint,
        "episode": START_MS,
        "sequence": 7,
        "state": "resolved",
        "previous_state": "recovering",
        "at": START_MS + 5,
        "starts_at": START_MS,
        "kind": "rule",
        "rule_id": "r",
        "workspace": "acme",
        "model_id": "helmets/3",
        "device_id": "cam-7",
        "class": "person",
        "metric": "error_rate",
        "value": 0.25,
        "expected": 0.0,
        "threshold": 0.2,
        "severity": "warning",
        "labels": {"team": "vision", "site": "s1"},
        "summary": "a sentence",
        "kafka_partition": 2,
        "kafka_offset": 9,
        "kafka_time": LOG_MS,
    }


def test_what_an_event_does_not_say_is_empty_or_null() -> None:
    (row,) = tables(record_alerts(records([encode(event(rule_id=None, model_id=None))])))["alerts"]
    wanted: dict[str, Any] = dict.fromkeys(
        ("previous_state", "rule_id", "model_id", "device_id", "class", "summary"), ""
    )
    wanted |= dict.fromkeys(("value", "expected", "threshold")) | {"labels": {}, "evidence": "{}"}
    assert {name: row[name] for name in wanted} == wanted


def test_refused_records_are_dead_letters_and_the_others_rows() -> None:
    recorded = record_alerts(records([encode(event()), b"{", None, encode(event(sequence=2))], first_offset=10))
    found = tables(recorded)
    assert [row["kafka_offset"] for row in found["alerts"]] == [10, 13]
    assert [row["kafka_offset"] for row in found["dead_letters"]] == [11, 12]
    assert recorded.refused == {Reason.NOT_JSON: 2}


def test_the_table_has_these_columns_and_no_others() -> None:
    """But for the one that it fills by itself."""
    sql = next(Path(__file__).parents[2].glob("schemas/clickhouse/*_alerts.sql")).read_text()
    body = sql[sql.index("(") : sql.index("INDEX")]
    columns = [line.split()[0] for line in body.splitlines() if line.startswith("    ") and line.strip()]
    (recorded,) = record_alerts(records([encode(event())])).blocks
    assert set(columns) == {*recorded.names, "ingested_at"}
