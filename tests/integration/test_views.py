"""The views against plain Python over the same rows, and what they and the tables cost to ask.

The recount of tests/integration/seeding.py stands in for the aggregator.
"""

import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.core.rows.native import Column, Lists, Maps, NullableNumbers, Numbers, Strings, block
from pipeline.edge.clock import now_ms
from tests.integration.engines import Engines, world_settings
from tests.integration.outside import connect, migrate
from tests.integration.seeding import ZERO, class_windows, insert, model_windows

pytestmark = pytest.mark.integration

DAY_S = 86_400
SIZES_S = {"": 10, "_1m": 60, "_1h": 3600, "_1d": DAY_S}
YESTERDAY_S = now_ms() // 1000 // DAY_S * DAY_S - DAY_S  # well inside every retention
Row = dict[str, Any]


@pytest.fixture
def client(engines: Engines) -> Iterator[Client]:
    """An admin in a migrated database of the test's own."""
    with migrated(engines) as client:
        yield client


@pytest.fixture(scope="module")
def filled(engines: Engines) -> Iterator[Client]:
    """An admin in a database of several granules a table, which is only read."""
    with migrated(engines) as client:
        fill_windows(client)
        fill_inferences(client)
        yield client


@contextmanager
def migrated(engines: Engines) -> Iterator[Client]:
    engines.revive()
    settings = world_settings(engines)
    migrate(settings)
    with closing(connect(settings, "admin")) as client:
        yield client
        client.command(f"DROP DATABASE {settings.clickhouse_database}")


def inference(at_s: float, *, latency_us: int | None = None, ppm: tuple[int, ...] = (), **more: Any) -> Row:
    """A row of `inferences`: acme's helmets/3 on cam-1 saw a person for each confidence."""
    return {
        "event_id": f"event-{at_s}",
        "event_time": at_s,
        "workspace": "acme",
        "model_id": "helmets/3",
        "device_id": "cam-1",
        "latency_us": latency_us,
        "detections.class": ["person"] * len(ppm),
        "detections.confidence_ppm": list(ppm),
        **{f"detections.{side}": [0.0] * len(ppm) for side in ("x", "y", "width", "height")},
        "error": "",
        "kafka_partition": 0,
        "kafka_offset": 0,
        "kafka_time": at_s,
        **more,
    }


def random_inferences(seed: int, count: int) -> list[Row]:
    """Two models on three devices over two hours: skewed latencies, some unknown, some 0; up to five detections."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        ppm = [draw.choice((0, 1_000_000, draw.randint(0, 1_000_000))) for _ in range(draw.randint(0, 5))]
        rows.append(
            inference(
                YESTERDAY_S + draw.randrange(7200),
                latency_us=draw.choice((None, 0, *(round(draw.lognormvariate(10, 1.5)) for _ in range(8)))),
                ppm=tuple(ppm),
                model_id=draw.choice(("helmets/3", "vests/1")),
                device_id=draw.choice(("cam-1", "cam-2", "")),
                error=draw.choice(("", "", "", "out of memory")),
                kafka_offset=i,
                **{"detections.class": [draw.choice(("person", "helmet", "vest")) for _ in ppm]},
            )
        )
    return rows


def insert_windows(client: Client, rows: list[Row]) -> None:
    insert(client, "model_windows_in", list(model_windows(rows)))
    insert(client, "class_windows_in", list(class_windows(rows)))


def ask(client: Client, query: str) -> list[Row]:
    return list(client.query(query).named_results())


def grouped(rows: list[Row], size_s: int, *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[*(row[key] for key in keys), int(row["event_time"]) // size_s * size_s].append(row)
    return groups


def exact(values: list[int], percent: int) -> int:
    """The value of rank ceil(percent * n / 100)."""
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def check_latencies(row: Row, values: list[int]) -> None:
    assert row["latency_count"] == len(values)
    if not values:
        assert {row[f"latency_{name}_ms"] for name in ("mean", "p50", "p95", "p99", "min", "max")} == {None}
        return
    assert row["latency_mean_ms"] == pytest.approx(sum(values) / len(values) / 1000)
    assert (row["latency_min_ms"], row["latency_max_ms"]) == (min(values) / 1000, max(values) / 1000)
    for percent in (50, 95, 99):
        assert row[f"latency_p{percent}_ms"] == pytest.approx(exact(values, percent) / 1000, rel=0.0100001, abs=0)


def check_confidences(row: Row, values: list[int]) -> None:
    assert row["detection_count"] == len(values)
    if not values:
        assert {row[f"confidence_{name}"] for name in ("mean", "stddev", "p5", "p50", "p95", "min", "max")} == {None}
        return
    of_squares = len(values) * sum(v * v for v in values) - sum(values) ** 2  # exact, as the tables have it
    assert row["confidence_stddev"] == pytest.approx(math.sqrt(of_squares) / len(values) / 1e6, rel=1e-15)
    assert row["confidence_mean"] == pytest.approx(sum(values) / len(values) / 1e6)
    assert (row["confidence_min"], row["confidence_max"]) == (min(values) / 1e6, max(values) / 1e6)
    for percent in (5, 50, 95):
        assert row[f"confidence_p{percent}"] == pytest.approx(exact(values, percent) / 1e6, abs=0.005_000_001)


def check_model_row(row: Row, group: list[Row]) -> None:
    assert row["inference_count"] == len(group)
    assert row["error_count"] == sum(r["error"] != "" for r in group)
    assert row["empty_count"] == sum(not r["detections.class"] for r in group)
    assert row["error_rate"] == row["error_count"] / len(group)
    assert row["empty_rate"] == row["empty_count"] / len(group)
    check_latencies(row, [r["latency_us"] for r in group if r["latency_us"] is not None])
    check_confidences(row, [ppm for r in group for ppm in r["detections.confidence_ppm"]])


@pytest.mark.parametrize("window", SIZES_S)
def test_every_number_of_model_and_device_stats_is_that_of_the_inferences(client: Client, window: str) -> None:
    rows = random_inferences(seed=1, count=1000)
    insert_windows(client, rows)
    for view, keys in (("model_stats", ("model_id",)), ("device_stats", ("model_id", "device_id"))):
        groups = grouped(rows, SIZES_S[window], *keys)
        found = ask(client, f"SELECT *, toUnixTimestamp(window_start) AS start_s FROM {view}{window}")
        assert len(found) == len(groups)
        for row in found:
            check_model_row(row, groups[*(row[key] for key in keys), row["start_s"]])


@pytest.mark.parametrize("window", SIZES_S)
def test_every_number_of_class_stats_is_that_of_the_inferences(client: Client, window: str) -> None:
    rows = random_inferences(seed=2, count=1000)
    insert_windows(client, rows)
    groups = grouped(rows, SIZES_S[window], "model_id")
    found = ask(client, f"SELECT *, toUnixTimestamp(window_start) AS start_s FROM class_stats{window}")
    shares: dict[tuple[Any, ...], float] = defaultdict(float)
    for row in found:
        group = groups[row["model_id"], row["start_s"]]
        seen = [list(zip(r["detections.class"], r["detections.confidence_ppm"], strict=True)) for r in group]
        of_class = [[ppm for name, ppm in pairs if name == row["class"]] for pairs in seen]
        check_confidences(row, list(chain.from_iterable(of_class)))
        assert row["inference_count"] == sum(bool(ppm) for ppm in of_class)
        assert row["class_share"] == row["detection_count"] / sum(map(len, seen))
        shares[row["model_id"], row["start_s"]] += row["class_share"]
    assert set(shares) == {key for key, group in groups.items() if any(r["detections.class"] for r in group)}
    assert list(shares.values()) == pytest.approx([1.0] * len(shares))


def test_a_share_is_of_all_classes_even_when_one_is_asked_for(client: Client) -> None:
    insert_windows(client, [inference(YESTERDAY_S, ppm=(1, 2, 3, 4)) | {"detections.class": ["a", "b", "b", "b"]}])
    assert ask(client, "SELECT class_share FROM class_stats_1h WHERE class = 'b'") == [{"class_share": 0.75}]


@pytest.mark.parametrize(
    ("story", "rows"),
    [
        ("no latency, no detection", [inference(YESTERDAY_S)]),
        ("all latencies are zero", [inference(YESTERDAY_S + i, latency_us=0) for i in range(5)]),
        ("one value", [inference(YESTERDAY_S, latency_us=43_200, ppm=(910_000,))]),
        ("the least values", [inference(YESTERDAY_S, latency_us=1, ppm=(0,))]),
        ("the greatest values", [inference(YESTERDAY_S, latency_us=86_400_000_000, ppm=(1_000_000,))]),
        ("every percentile is a whole rank, the last of its bucket", [
            inference(YESTERDAY_S, latency_us=1000 * 2**(i // 70), ppm=(i * 1400,)) for i in range(700)
        ]),
    ],
)  # fmt: skip
def test_percentiles_at_the_edges(client: Client, story: str, rows: list[Row]) -> None:
    insert_windows(client, rows)
    (row,) = ask(client, "SELECT * FROM model_stats")
    check_model_row(row, rows)
    if story.startswith("all latencies"):
        assert (row["latency_p50_ms"], row["latency_p99_ms"]) == (0, 0)
    if story.startswith("the greatest"):
        assert row["confidence_p50"] == 1


def test_window_start_keeps_its_type_and_what_cannot_be_known_is_null(client: Client) -> None:
    for view in ("model_stats_1h", "device_stats", "class_stats_1d"):
        types = {r["name"]: r["type"] for r in ask(client, f"DESCRIBE {view}")}
        assert types["window_start"] == "DateTime('UTC')"
        assert types["confidence_p50"] == "Nullable(Float64)"


def test_a_correction_adds_to_its_window_and_to_every_rollup(client: Client) -> None:
    rows = random_inferences(seed=3, count=600)
    insert_windows(client, rows[:580])
    for late in (rows[580:590], rows[590:]):
        insert_windows(client, late)
    for window, size_s in SIZES_S.items():
        found = ask(client, f"SELECT *, toUnixTimestamp(window_start) AS start_s FROM model_stats{window}")
        groups = grouped(rows, size_s, "model_id")
        assert len(found) == len(groups)
        for row in found:
            check_model_row(row, groups[row["model_id"], row["start_s"]])


def test_rollups_hold_the_same_sums_and_histograms_as_the_windows_before_and_after_a_merge(client: Client) -> None:
    insert_windows(client, random_inferences(seed=4, count=600))
    insert_windows(client, random_inferences(seed=5, count=30))
    sums = {
        "model_windows": "inference_count error_count empty_count detection_count latency_count latency_us_sum "
        "confidence_ppm_sum confidence_ppm_sum_sq",
        "class_windows": "detection_count inference_count confidence_ppm_sum confidence_ppm_sum_sq",
    }
    for _ in range(2):
        for table, columns in sums.items():
            totals = ", ".join(f"sum({column})" for column in columns.split())
            if table == "model_windows":
                totals += ", min(latency_us_min), max(latency_us_max), sumMap(latency_histogram)"
            totals += ", min(confidence_ppm_min), max(confidence_ppm_max), sumMap(confidence_histogram), maxMap(source)"
            answers = [client.query(f"SELECT {totals} FROM {table}{w}").result_rows for w in SIZES_S]
            assert answers[0][0][0] > 0
            assert answers == [answers[0]] * 4
            for window in SIZES_S:
                client.command(f"OPTIMIZE TABLE {table}{window} FINAL")


@pytest.mark.parametrize("table", ["model_windows", "class_windows"])
def test_an_insert_that_is_repeated_under_its_token_counts_once_in_every_target(client: Client, table: str) -> None:
    rows = random_inferences(seed=6, count=300)
    body = "\n".join(map(json.dumps, model_windows(rows) if table == "model_windows" else class_windows(rows)))
    once = None
    for token in ("a:0", "a:0", "a:1"):
        client.raw_insert(
            f"{table}_in",
            insert_block=body,
            fmt="JSONEachRow",
            settings={
                "insert_deduplication_token": token,
                "insert_deduplicate": 1,
                "deduplicate_blocks_in_dependent_materialized_views": 1,
                "async_insert": 0,
            },
        )
        sums = [ask(client, f"SELECT sum(inference_count) AS n FROM {table}{w}")[0]["n"] for w in SIZES_S]
        once = once or sums[0]
        assert sums == [once * (2 if token == "a:1" else 1)] * 4


def test_the_source_of_a_window_keeps_its_offsets_even_offset_0(client: Client) -> None:
    (row,) = model_windows([inference(YESTERDAY_S)])
    insert(client, "model_windows_in", [{**row, "source": {0: 0, 1: 5}}])
    insert(client, "model_windows_in", [{**row, "source": {1: 9, 2: 0}}])
    for window in SIZES_S:
        assert ask(client, f"SELECT maxMap(source) AS s FROM model_windows{window}") == [{"s": {0: 0, 1: 9, 2: 0}}]
        client.command(f"OPTIMIZE TABLE model_windows{window} FINAL")
        assert ask(client, f"SELECT source AS s FROM model_windows{window}") == [{"s": {0: 0, 1: 9, 2: 0}}]


def test_native_blocks_with_plain_types_are_taken(client: Client) -> None:
    two = np.array([2, 0])
    texts = {name: Strings(["a", "b"]) for name in ("workspace", "model_id", "device_id")}
    inferences: dict[str, Column] = {
        **texts,
        "event_id": Strings(["x", "y"]),
        "event_time": Numbers("DateTime64(3)", np.array([YESTERDAY_S * 1000 + 7] * 2)),
        "latency_us": NullableNumbers(Numbers("UInt64", np.array([43_200, 0])), np.array([True, False])),
        "detections.class": Lists(two, Strings(["person", "dog"])),
        "detections.confidence_ppm": Lists(two, Numbers("UInt32", np.array([500_000, 1]))),
        **{
            f"detections.{side}": Lists(two, Numbers("Float32", np.array([1.5, np.nan])))
            for side in ("x", "y", "width", "height")
        },
        "metadata": Maps(two, Strings(["site", "line"]), Strings(["s1", "4"])),
    }
    windows: dict[str, Column] = {
        **texts,
        "window_start": Numbers("DateTime", np.array([YESTERDAY_S] * 2)),
        "latency_us_min": NullableNumbers(Numbers("UInt64", np.array([7, 0])), np.array([True, False])),
        "latency_histogram": Maps(two, Numbers("Int32", np.array([ZERO, 5])), Numbers("UInt64", np.array([1, 2]))),
        "confidence_ppm_min": NullableNumbers(Numbers("UInt32", np.array([7, 0])), np.array([True, False])),
        "source": Maps(two, Numbers("UInt16", np.array([0, 7])), Numbers("UInt64", np.array([0, 2**40]))),
    }
    for table, columns in (("inferences", inferences), ("model_windows_in", windows)):
        client.raw_insert(table, list(columns), insert_block=block(columns, 2), fmt="Native")
    first, second = ask(client, "SELECT *, latency_ms, detections_confidence FROM inferences ORDER BY event_id")
    assert (first["latency_ms"], second["latency_ms"]) == (43.2, None)
    assert (first["detections.class"], first["detections_confidence"]) == (["person", "dog"], [0.5, 0.000001])
    assert (second["detections.class"], second["metadata"]) == ([], {})
    assert first["metadata"] == {"site": "s1", "line": "4"}
    first, second = ask(client, "SELECT * FROM model_windows ORDER BY workspace")
    assert (first["latency_us_min"], second["latency_us_min"]) == (7, None)
    assert (first["latency_histogram"], first["source"]) == ({ZERO: 1, 5: 2}, {0: 0, 7: 2**40})


def test_arrays_of_one_detection_list_must_have_one_length(client: Client) -> None:
    with pytest.raises(ClickHouseError, match="SIZES_OF_ARRAYS_DONT_MATCH"):
        insert(client, "inferences", [inference(YESTERDAY_S, ppm=(1, 2)) | {"detections.class": ["person"]}])


# What it costs: parts and granules that are read, of how many.


def reads(client: Client, query: str) -> dict[str, dict[str, tuple[int, int]]]:
    """Table -> index -> (granules left, of how many) as EXPLAIN says."""
    out: dict[str, dict[str, tuple[int, int]]] = {}
    table = index = ""
    for (line,) in client.query(f"EXPLAIN indexes = 1 {query}").result_rows:
        if match := re.search(r"ReadFromMergeTree \((?:\w+\.)?(\w+)\)", line):
            table = match[1]
            out[table] = {}
        elif match := re.search(r"\b(Min-Max|Partition|PrimaryKey|Skip)$|\bName: (\w+)$", line):
            index = match[1] or match[2]
        elif match := re.search(r"Granules: (\d+)/(\d+)$", line):
            out[table][index] = int(match[1]), int(match[2])
    return out


def fill_windows(client: Client) -> None:
    """Four days, 100 models, one row for each 10 minutes: several granules a day."""
    start_s = YESTERDAY_S - 3 * DAY_S
    client.command(f"""
        INSERT INTO model_windows_in (workspace, model_id, device_id, window_start, inference_count)
        SELECT 'acme', 'model-' || toString(number % 100), 'cam', {start_s} + intDiv(number, 100) * 600, 1
        FROM numbers(4 * 144 * 100)""")
    client.command(f"""
        INSERT INTO class_windows_in (workspace, model_id, class, window_start, detection_count)
        SELECT 'acme', 'model-' || toString(number % 100), 'person', {start_s} + intDiv(number, 100) * 600, 1
        FROM numbers(4 * 144 * 100)""")


@pytest.mark.parametrize(("view", "table"), [
    ("model_stats", "model_windows"), ("model_stats_1m", "model_windows_1m"),
    ("device_stats", "model_windows"), ("device_stats_1m", "model_windows_1m"),
    ("class_stats", "class_windows"), ("class_stats_1m", "class_windows_1m"),
])  # fmt: skip
def test_filters_on_a_view_reach_the_primary_key_and_the_partitions(filled: Client, view: str, table: str) -> None:
    an_hour = f"toDateTime({YESTERDAY_S}, 'UTC') AND toDateTime({YESTERDAY_S + 3599}, 'UTC')"
    where = f"workspace = 'acme' AND model_id = 'model-7' AND window_start BETWEEN {an_hour}"
    indexes = reads(filled, f"SELECT * FROM {view} WHERE {where}")[table]
    a_day, all_days = indexes["Min-Max"]
    assert a_day * 3 < all_days
    assert indexes["Partition"] == (a_day, a_day)
    granules, of = indexes["PrimaryKey"]
    assert (granules, of) == (1, a_day)
    assert of > 1


def fill_inferences(client: Client) -> None:
    """Two days, 20 models, a site each, 50 devices; one inference a day is `rare`; all got metadata later."""
    for day in (0, 1):
        start = f"toDateTime64({YESTERDAY_S - day * DAY_S}, 3, 'UTC')"
        client.command(f"""
            INSERT INTO inferences (event_id, event_time, workspace, model_id, device_id, `detections.class`, metadata,
                                    kafka_partition, kafka_offset, kafka_time)
            SELECT toString(cityHash64(number, {day})), {start} + number / 2,
                   'acme', 'model-' || toString(number % 20), 'cam-' || toString(number % 50),
                   [if(number = 777, 'rare', 'person')], map('site', 'site-' || toString(number % 20)),
                   number % 8, intDiv(number, 8) + {day * 1_000_000}, now64(3)
            FROM numbers(60000)""")
        client.command(f"""
            INSERT INTO inference_metadata (workspace, inference_id, field, value, sent_at, kafka_time)
            SELECT 'acme', toString(cityHash64(number, {day})), 'label', toString(number), now64(3), now64(3)
            FROM numbers(60000)""")


def test_a_single_inference_is_found_by_its_id_without_a_scan_in_table_and_view(filled: Client) -> None:
    (wanted,) = ask(filled, "SELECT toString(cityHash64(4242, 1)) AS id")
    for source in ("inferences", "inference_details"):
        query = f"SELECT * FROM {source} WHERE event_id = '{wanted['id']}'"
        assert len(ask(filled, query)) == 1
        read = reads(filled, query)
        left, of = read["inferences"]["event_id"]
        assert left == 1
        assert of > 10
    left, of = read["inference_metadata"]["inference_id"]
    assert left == 1
    assert read["inference_metadata"]["PrimaryKey"][1] > 10


@pytest.mark.parametrize(("where", "index", "granules_max"), [
    ("has(`detections.class`, 'rare')", "class", 2),
    ("metadata['site'] = 'site-7'", "metadata_values", 4),
    ("metadata['no such key'] = 'site-7'", "metadata_keys", 0),
    ("device_id = 'no such device'", "device_id", 0),
    ("kafka_offset BETWEEN 1000000 AND 1007499", "kafka_offset", 8),
])  # fmt: skip
def test_an_index_narrows_a_search(filled: Client, where: str, index: str, granules_max: int) -> None:
    left, of = reads(filled, f"SELECT * FROM inferences WHERE {where}")["inferences"][index]
    assert left <= granules_max
    assert left < of or of == 0


def test_a_narrow_time_of_inference_details_reads_few_inferences_and_aggregates_only_their_metadata(
    filled: Client,
) -> None:
    query = (
        "SELECT {columns} FROM inference_details WHERE workspace = 'acme' AND model_id = 'model-3' AND event_time "
        f">= toDateTime64({YESTERDAY_S}, 3, 'UTC') AND event_time < toDateTime64({YESTERDAY_S + 600}, 3, 'UTC')"
    )
    found = ask(filled, query.format(columns="*"))
    assert len(found) == 60
    assert {row["metadata"]["label"] for row in found} == {str(n) for n in range(3, 1200, 20)}
    plan = "\n".join(line for (line,) in filled.query(f"EXPLAIN {query.format(columns='*')}").result_rows)
    assert re.search(r"\.inference_metadata\)(?:\n(?!.*ReadFrom).*)*Runtime filters: .*inference_id", plan)
    read = reads(filled, query.format(columns="*"))["inferences"]
    assert read["Min-Max"][0] < read["Min-Max"][1]
    assert read["PrimaryKey"][0] < read["PrimaryKey"][1]


def test_later_metadata_wins_over_the_events_own_and_the_last_sent_over_the_last_to_come(client: Client) -> None:
    insert(client, "inferences", [
        inference(YESTERDAY_S, event_id="a", metadata={"site": "s1", "label": "?"}, latency_us=1500, ppm=(250_000,)),
        inference(YESTERDAY_S, event_id="b", metadata={"site": "s2"}),
    ])  # fmt: skip
    for value, sent_at in (("dog", 10), ("cat", 20), ("cow", 15)):
        later = {"workspace": "acme", "inference_id": "a", "field": "label", "value": value}
        insert(client, "inference_metadata", [{**later, "sent_at": YESTERDAY_S + sent_at, "kafka_time": YESTERDAY_S}])
    insert(client, "inference_metadata", [
        {"workspace": "other", "inference_id": "b", "field": "site", "value": "elsewhere", "kafka_time": YESTERDAY_S}
    ])  # fmt: skip
    first, second = ask(client, "SELECT * FROM inference_details ORDER BY event_id")
    assert first["metadata"] == {"site": "s1", "label": "cat"}
    assert second["metadata"] == {"site": "s2"}
    assert (first["latency_ms"], first["class"], first["confidence"]) == (1.5, ["person"], [0.25])
    assert second["latency_ms"] is None


def test_pipeline_lag_tells_each_partitions_end_and_the_delays_of_fresh_rows(client: Client) -> None:
    assert ask(client, "SELECT * FROM pipeline_lag") == []
    now_s = now_ms() / 1000
    rows = [
        inference(now_s - 3, kafka_time=now_s - 2, ingested_at=now_s, kafka_partition=1, kafka_offset=n)
        for n in range(100)
    ]
    rows[0]["event_time"] -= 5
    old = inference(YESTERDAY_S - DAY_S, ingested_at=YESTERDAY_S - DAY_S, kafka_partition=2, kafka_offset=77)
    insert(client, "inferences", [*rows, old])
    fresh, quiet = ask(client, "SELECT * FROM pipeline_lag ORDER BY kafka_partition")
    assert (fresh["last_offset"], fresh["row_count"]) == (99, 100)
    assert fresh["event_to_row_p50_ms"] == pytest.approx(3000, abs=2)
    assert 3000 < fresh["event_to_row_p99_ms"] < 8001
    assert fresh["kafka_to_row_p50_ms"] == pytest.approx(2000, abs=2)
    assert (quiet["last_offset"], quiet["row_count"], quiet["event_to_row_p50_ms"]) == (77, 0, None)


def test_the_end_of_each_partition_is_known_without_reading_the_inferences(filled: Client) -> None:
    query = "SELECT max(kafka_offset) AS last FROM inferences WHERE kafka_partition = 3"
    assert ask(filled, query) == [{"last": 1_007_499}]
    assert list(reads(filled, query)) == ["recorded"]


def test_an_alerts_state_is_its_last_step_and_the_open_ones_are_not_resolved(client: Client) -> None:
    def step(fingerprint: str, episode: int, sequence: int, state: str, value: float | None) -> Row:
        at = YESTERDAY_S + episode * 100 + sequence
        return {
            "fingerprint": fingerprint, "episode": YESTERDAY_S + episode, "sequence": sequence, "state": state,
            "at": at, "workspace": "acme", "value": value, "kafka_time": at,
        }  # fmt: skip

    insert(client, "alerts", [step("a", 1, 3, "resolved", 0.9), step("a", 1, 2, "firing", 0.1)])
    insert(client, "alerts", [step("b", 1, 1, "pending", 0.5), step("b", 1, 2, "firing", None)])
    insert(client, "alerts", [step("a", 2, 1, "firing", 0.2), step("c", 5, 9, "resolved", 0.2)])
    state = ask(client, "SELECT fingerprint, sequence, state, value FROM alert_state ORDER BY fingerprint")
    assert [tuple(row.values()) for row in state] == [
        ("a", 1, "firing", 0.2), ("b", 2, "firing", None), ("c", 9, "resolved", 0.2),
    ]  # fmt: skip
    assert [r["fingerprint"] for r in ask(client, "SELECT * FROM open_alerts ORDER BY fingerprint")] == ["a", "b"]
    assert ask(client, "SELECT * FROM open_alerts WHERE workspace = 'other'") == []
