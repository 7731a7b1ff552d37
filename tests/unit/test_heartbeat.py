"""Which heartbeats are accepted, and why the others are not."""

from typing import Any

import orjson
import pytest

from schemas.event import TIME_MS_MAX
from schemas.heartbeat import Heartbeat, decode
from schemas.rejection import Reason, Rejected
from schemas.tolerance import Adjusted

WEEK_MS = 7 * 86_400_000
SMALLEST: dict[str, Any] = {
    "device_id": "cam-7",
    "workspace": "w",
    "sent_at_ms": 1_795_373_683_301,
    "interval_ms": 30_000,
}


def read(**fields: Any) -> Heartbeat | Rejected:
    found = decode(orjson.dumps(SMALLEST | fields))
    assert not isinstance(found, Adjusted)
    return found


def test_the_smallest_heartbeat_has_four_fields() -> None:
    assert read() == Heartbeat("cam-7", "w", 1_795_373_683_301, 30_000)


@pytest.mark.parametrize("field", SMALLEST)
def test_each_of_the_four_is_required(field: str) -> None:
    raw = orjson.dumps({name: value for name, value in SMALLEST.items() if name != field})
    assert decode(raw) == Rejected(Reason.MISSING_FIELD, field)


def test_a_full_heartbeat_is_read_as_it_was_sent() -> None:
    rest: dict[str, Any] = {
        "schema": 1,
        "server_id": "s1",
        "version": "1.8.3",
        "tags": ["edge"],
        "boot_id": "b1",
        "status": "stopping",
        "expected_downtime_ms": 60_000,
    }
    assert read(**rest) == Heartbeat(**SMALLEST, **rest)


@pytest.mark.parametrize(
    "fields",
    [
        {"sent_at_ms": 0, "interval_ms": 1, "expected_downtime_ms": 0},
        {"sent_at_ms": TIME_MS_MAX, "interval_ms": WEEK_MS, "expected_downtime_ms": 366 * 86_400_000},
        {"device_id": "d" * 256, "workspace": "w" * 256, "server_id": "s" * 256, "boot_id": "b" * 256},
        {"status": "up", "tags": ["t" * 100] * 100, "version": ""},
        {"status": None, "tags": None, "unknown": [1]},
    ],
    ids=str,
)
def test_up_to_its_bounds_a_heartbeat_is_accepted(fields: dict[str, Any]) -> None:
    assert isinstance(read(**fields), Heartbeat)


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"device_id": ""}, Reason.OUT_OF_RANGE, "device_id"),
        ({"device_id": "d" * 257}, Reason.OUT_OF_RANGE, "device_id"),
        ({"device_id": 7}, Reason.WRONG_TYPE, "device_id"),
        ({"workspace": ""}, Reason.OUT_OF_RANGE, "workspace"),
        ({"workspace": "w" * 257}, Reason.OUT_OF_RANGE, "workspace"),
        ({"sent_at_ms": -1}, Reason.OUT_OF_RANGE, "sent_at_ms"),
        ({"sent_at_ms": TIME_MS_MAX + 1}, Reason.OUT_OF_RANGE, "sent_at_ms"),
        ({"sent_at_ms": "now"}, Reason.WRONG_TYPE, "sent_at_ms"),
        ({"interval_ms": 0}, Reason.OUT_OF_RANGE, "interval_ms"),
        ({"interval_ms": WEEK_MS + 1}, Reason.OUT_OF_RANGE, "interval_ms"),
        ({"interval_ms": 0.5}, Reason.WRONG_TYPE, "interval_ms"),
        ({"server_id": "s" * 257}, Reason.OUT_OF_RANGE, "server_id"),
        ({"version": "v" * 257}, Reason.OUT_OF_RANGE, "version"),
        ({"boot_id": "b" * 257}, Reason.OUT_OF_RANGE, "boot_id"),
        ({"tags": ["t"] * 101}, Reason.OUT_OF_RANGE, "tags"),
        ({"tags": ["t" * 101]}, Reason.OUT_OF_RANGE, "tags[0]"),
        ({"status": "sleeping"}, Reason.OUT_OF_RANGE, "status"),
        ({"status": True}, Reason.WRONG_TYPE, "status"),
        ({"expected_downtime_ms": -1}, Reason.OUT_OF_RANGE, "expected_downtime_ms"),
        ({"expected_downtime_ms": 366 * 86_400_000 + 1}, Reason.OUT_OF_RANGE, "expected_downtime_ms"),
        ({"schema": 2}, Reason.UNKNOWN_SCHEMA, "schema"),
    ],
    ids=str,
)
def test_beyond_them_it_is_refused(fields: dict[str, Any], reason: Reason, field: str) -> None:
    assert read(**fields) == Rejected(reason, field)


def test_a_record_without_a_value_is_refused() -> None:
    assert decode(None) == Rejected(Reason.NOT_JSON, "")
