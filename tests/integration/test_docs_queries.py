"""Every query in README.md and docs/queries.md, asked as the reader over a small week that plain Python has made."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.edge.clock import now_ms
from tests.documents import Documented, all_documented, documented
from tests.integration.engines import Engines, world_settings
from tests.integration.outside import connect, ensure_users, migrate
from tests.integration.seeding import class_windows, insert, model_windows

pytestmark = pytest.mark.integration

HOUR_S, DAY_S = 3600, 86_400
NOW_S = now_ms() // 1000
HOURS_AGO = [0.2, 0.4, 2, 3, 5, 23, 26, 30, 47, 60, 100, 160]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def reader(engines: Engines) -> Iterator[Client]:
    """The reader of a database that holds the week."""
    engines.revive()
    settings = world_settings(engines)
    migrate(settings)
    if engines.users_by_sql:
        ensure_users(settings)
    with closing(connect(settings, "admin")) as client:
        fill(client)
        with closing(connect(settings, "reader")) as reading:
            yield reading
        client.command(f"DROP DATABASE {settings.clickhouse_database}")


def inferences() -> list[Row]:
    """Two workspaces; helmets/2 saw two persons and a vest each time, less surely in the last day, on two devices."""
    rows: list[Row] = []
    for workspace in ("acme", "default"):
        for i, hours in enumerate(HOURS_AGO):
            for model_id, device_id in (("helmets/2", "cam-003"), ("helmets/2", "cam-004"), ("helmets/1", "cam-004")):
                at_s = NOW_S - round(hours * HOUR_S)
                named = f"{workspace}-{model_id}-{device_id}-{i}"
                rows.append({
                    "event_id": "first-1" if named == "acme-helmets/2-cam-003-0" else named,
                    "event_time": at_s,
                    "workspace": workspace,
                    "model_id": model_id,
                    "device_id": device_id,
                    "latency_us": 20_000 + 1000 * i,
                    "detections.class": ["person", "person", "vest"],
                    "detections.confidence_ppm": [500_000 if hours < 24 else 800_000, 900_000, 700_000],
                    **{f"detections.{side}": [0.0] * 3 for side in ("x", "y", "width", "height")},
                    "error": "",
                    "metadata": {"order": "order-4711"} if i == 7 else {},
                    "kafka_partition": 0,
                    "kafka_offset": len(rows),
                    "kafka_time": at_s,
                })  # fmt: skip
    return rows


def alert(sequence: int, state: str, episode_s: int, at_s: int) -> Row:
    return {
        "fingerprint": "f", "episode": episode_s, "sequence": sequence, "state": state, "at": at_s,
        "severity": "critical", "starts_at": episode_s, "kind": "anomaly", "workspace": "acme", "model_id": "helmets/2",
        "metric": "confidence_mean", "summary": "helmets/2 is less sure than usual", "kafka_time": at_s,
    }  # fmt: skip


def fill(client: Client) -> None:
    rows = inferences()
    insert(client, "inferences", rows)
    insert(client, "model_windows_in", list(model_windows(rows)))
    insert(client, "class_windows_in", list(class_windows(rows)))
    for event_id, label in (("first-1", "wrong"), ("acme-helmets/2-cam-004-1", "right")):
        label_row = {"workspace": "acme", "inference_id": event_id, "field": "label", "value": label}
        insert(client, "inference_metadata", [{**label_row, "sent_at": NOW_S, "kafka_time": NOW_S}])
    beats = [("cam-003", NOW_S - HOUR_S), ("cam-004", NOW_S - 5)]
    insert(client, "device_heartbeats", [
        {"workspace": "acme", "device_id": device, "sent_at": at_s, "kafka_time": at_s, "interval_ms": 30_000}
        for device, at_s in beats
    ])  # fmt: skip
    then = NOW_S - 2 * DAY_S
    steps = [alert(1, "firing", then, then + 20), alert(2, "acknowledged", then, then + 60)]
    steps += [alert(3, "resolved", then, then + 600), alert(1, "firing", NOW_S - 60, NOW_S - 50)]
    insert(client, "alerts", steps)
    insert(client, "dead_letters", [{"reason": "not_json", "value": "{", "kafka_time": NOW_S - 60}])


def titled(start: str) -> Documented:
    (query,) = (q for q in documented("docs/queries.md") if q.title.startswith(start))
    return query


def answer(reader: Client, start: str) -> list[Row]:
    return list(reader.query(titled(start).as_of(NOW_S)).named_results())


@pytest.mark.parametrize("query", all_documented(), ids=str)
def test_the_query_runs_as_the_reader_and_finds_something(reader: Client, query: Documented) -> None:
    sql = query.sql  # by the server's clock, as a person would
    assert len(reader.raw_query(sql if "FORMAT" in sql else f"{sql}\nFORMAT JSONEachRow")) > 10


def test_headline_numbers_and_their_change_are_those_of_the_two_days(reader: Client) -> None:
    until_s = NOW_S // HOUR_S * HOUR_S
    days: list[list[Row]] = [[], []]
    for row in inferences():
        ago = (until_s - 1 - row["event_time"] // HOUR_S * HOUR_S) // DAY_S
        if row["workspace"] == "acme" and ago in (0, 1):
            days[ago].append(row)

    def mean(rows: list[Row]) -> float:
        return float(sum(row["latency_us"] for row in rows) / len(rows) / 1000)

    (row,) = answer(reader, "headline numbers")
    recent, before = days
    assert (row["inferences"], len(before) > 0) == (len(recent), True)
    assert row["inferences_change"] == pytest.approx(100 * (len(recent) / len(before) - 1), abs=0.051)
    assert row["latency_ms"] == pytest.approx(mean(recent))
    assert row["latency_change"] == pytest.approx(100 * (mean(recent) / mean(before) - 1), abs=0.051)
    assert row["confidence"] == pytest.approx(0.7, abs=0.02)
    assert row["confidence_change"] < -8


def test_percentiles_of_merged_histograms_are_within_one_percent(reader: Client) -> None:
    rows = {row["model_id"]: row["p50_p95_p99_ms"] for row in answer(reader, "latency percentiles")}
    assert rows["helmets/1"] == pytest.approx([25, 31, 31], rel=0.0101, abs=0.05)
    rows = {row["model_id"]: row["p5_p50_p95"] for row in answer(reader, "confidence percentiles")}
    assert rows["helmets/2"] == pytest.approx([0.5, 0.7, 0.9], abs=0.0051)


def test_shares_of_classes_add_up_and_have_not_moved(reader: Client) -> None:
    rows = {row["class"]: row for row in answer(reader, "share of each class")}
    assert {name: row["share"] for name, row in rows.items()} == {"person": 0.6667, "vest": 0.3333}
    assert {row["moved"] for row in rows.values()} == {0}


def test_only_the_silent_device_is_named(reader: Client) -> None:
    assert [row["device_id"] for row in answer(reader, "devices that missed")] == ["cam-003"]


def test_only_detections_below_the_limit_are_found(reader: Client) -> None:
    rows = answer(reader, "the newest that saw a class")
    assert {row["confidence"] for row in rows} == {0.5}
    assert Counter(row["device_id"] for row in rows) == {"cam-003": 6, "cam-004": 6}


def test_labels_that_came_later_are_counted(reader: Client) -> None:
    assert answer(reader, "how often each version was found wrong") == [
        {"model_id": "helmets/2", "labelled": 2, "wrong": 1}
    ]


def test_the_history_of_alerts_tells_how_long_they_took(reader: Client) -> None:
    (row,) = answer(reader, "what was wrong in the last 30 days")
    assert (row["episodes"], row["to_acknowledge_s"], row["to_resolve_s"]) == (2, 60, 600)
    (now,) = answer(reader, "what is wrong now")
    assert now["state"] == "firing"
