"""Every query of dashboards and alert rules, as Grafana's plugin would send it, on a real ClickHouse, by the reader.

Numbers against a recount in plain Python, in each class of time range; what is read against what is there.
"""

import re
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from deploy.grafana.panels import POINTS
from pipeline.edge.clock import now_ms
from tests.integration.engines import Engines
from tests.integration.grafana import Value, interval_ms
from tests.integration.grafana.asked import EVERYTHING, QUERIES, Grafana, opened, panel
from tests.integration.grafana.seeded import (
    DAY_S,
    DEVICES,
    HOUR_S,
    MODELS,
    NAMES,
    RANGES_S,
    SINKING,
    WINDOWS_S,
    WORKSPACE,
    Row,
    Seeded,
    by,
    confidences,
    latencies_ms,
    mean,
    rank,
    seed,
)

pytestmark = pytest.mark.integration

SOME: dict[str, Value] = EVERYTHING | {"version": MODELS[:3], "device": DEVICES[:2], "class": NAMES[:2]}
# Alert rules look after every workspace; the rest of these reads no table of windows.
OF_ALL_WORKSPACES = {"alert rules", "Pipeline"}
WINDOW_TABLE = re.compile(r"(model|class)_windows(_1m|_1h|_1d)?$")


@pytest.fixture(scope="module")
def grafana(engines: Engines) -> Iterator[Grafana]:
    """Seeded once; only read."""
    with opened(engines, seed) as grafana:
        yield grafana


@pytest.mark.parametrize("length_s", RANGES_S.values(), ids=RANGES_S.keys())
def test_no_query_fails_none_is_empty_and_none_reads_more_than_it_must(grafana: Grafana, length_s: int) -> None:
    """The large workspace has nearly all rows; a question about the small one reads its granules and little else."""
    windows, beats = grafana.rows_there["model_windows"], grafana.rows_there["device_heartbeats"]
    assert min(windows, beats) > 20 * 8192
    for query in QUERIES:
        rows, read = grafana.ask(query, length_s)
        assert rows, f"{query} is empty"
        if query.kind == "variable":
            assert read < 8192, str(query)
        elif query.dashboard not in OF_ALL_WORKSPACES:
            assert read < (beats if "FROM device_heartbeats" in query.sql else windows) / 4, f"{query}: {read} rows"


def test_a_choice_of_several_values_empties_no_panel(grafana: Grafana) -> None:
    assert [str(query) for query in QUERIES if not grafana.ask(query, 6 * HOUR_S, SOME)[0]] == []


def test_columns_are_of_types_that_grafana_takes_and_series_go_up_in_time(grafana: Grafana) -> None:
    """A time and a number make a series, text beside them is a label; a rule wants one number, with text as labels."""
    for query in QUERIES:
        result = grafana.reader.query(grafana.expanded(query, 6 * HOUR_S))
        kinds = [kind_of(column.name) for column in result.column_types]
        assert "other" not in kinds, f"{query}: {[column.name for column in result.column_types]}"
        if query.is_series:
            assert kinds[0] == "time"
            assert kinds.count("time") == 1
            assert "number" in kinds
            times = list(result.result_columns[0])
            assert times == sorted(times), str(query)
        if query.kind == "alert":
            assert sorted(kinds) == ["number", "text", "text"]
        if query.kind == "annotation":
            assert list(zip(result.column_names, kinds, strict=True)) == [
                ("time", "time"), ("timeEnd", "time"), ("text", "text"), ("tags", "text"),
            ]  # fmt: skip


def kind_of(type_name: str) -> str:
    bare = re.sub(r"^(?:(?:LowCardinality|Nullable|SimpleAggregateFunction)\((?:\w+, )?)+", "", type_name)
    for kind, pattern in (("time", r"DateTime"), ("number", r"U?Int(8|16|32|64)\b|Float"), ("text", r"String")):
        if re.match(pattern, bare):
            return kind
    return "other"


@pytest.mark.parametrize("name", RANGES_S)
def test_each_range_is_read_from_the_rollup_that_fits_it_and_from_no_other(grafana: Grafana, name: str) -> None:
    for query in QUERIES:
        if query.dashboard in ("Fleet", "Classes") and query.kind == "panel" and "_range(" in query.sql:
            read = tables_read(grafana, grafana.expanded(query, RANGES_S[name]))
            suffix = {10: "", 60: "_1m", HOUR_S: "_1h", DAY_S: "_1d"}[WINDOWS_S[name]]
            windows = {table for table in read if WINDOW_TABLE.match(table) and read[table]}
            assert windows == {f"{'class' if 'class_range' in query.sql else 'model'}_windows{suffix}"}, str(query)


def tables_read(grafana: Grafana, sql: str) -> dict[str, dict[str, tuple[str, int]]]:
    """Table -> index -> (condition, granules left) as EXPLAIN says; no index where nothing is read."""
    out: dict[str, dict[str, tuple[str, int]]] = {}
    table = index = condition = ""
    for (line,) in grafana.reader.query(f"EXPLAIN indexes = 1 {sql}").result_rows:
        if match := re.search(r"ReadFromMergeTree \((?:\w+\.)?(\w+)\)", line):
            table = match[1]
            out.setdefault(table, {})
        elif match := re.search(r"\b(Min-Max|Partition|PrimaryKey|Skip)$", line):
            index = match[1]
            condition = ""
        elif match := re.search(r"Condition: (.*)$", line):
            condition = match[1]
        elif (match := re.search(r"Granules: (\d+)/(\d+)$", line)) and index:
            out[table][index] = (condition, int(match[1]))
    return out


@pytest.mark.parametrize("length_s", [900, 90 * DAY_S], ids=["15 min", "90 d"])
def test_the_primary_key_and_the_partitions_are_used(grafana: Grafana, length_s: int) -> None:
    for query in QUERIES:
        if query.dashboard in OF_ALL_WORKSPACES or (query.kind, query.panel) == ("variable", "workspace"):
            continue
        for table, indexes in tables_read(grafana, grafana.expanded(query, length_s, SOME)).items():
            if indexes:
                assert "workspace in" in indexes["PrimaryKey"][0], f"{query}: {table}"
                if WINDOW_TABLE.match(table):
                    assert "(window_start) in [" in indexes["Partition"][0], f"{query}: {table}"


@pytest.mark.parametrize("name", RANGES_S)
def test_the_totals_are_those_of_the_range_and_of_the_one_before(grafana: Grafana, name: str) -> None:
    length_s, now_s = RANGES_S[name], grafana.seeded.now_s
    since_s = now_s - length_s
    window_s = WINDOWS_S[name]
    current = grafana.seeded.within(since_s, now_s, window_s)
    before = grafana.seeded.within(since_s - length_s, since_s - 1, window_s)
    assert len(before) > 10
    expected: dict[str, Callable[[list[Row]], float | None]] = {
        "Requests": len,
        "Average confidence": lambda rows: mean(confidences(rows)),
        "Average inference time": lambda rows: mean(latencies_ms(rows)),
        "Error rate": lambda rows: mean([row["error"] != "" for row in rows]),
        "Active devices": lambda rows: len(by(rows, "device_id")),
    }
    for title, recounted in expected.items():
        rows, _ = grafana.ask(panel("Fleet", title), length_s)
        then, now = recounted(before), recounted(current)
        assert [row["value"] for row in rows] == pytest.approx([then if then and then != now else inf, now]), title
    assert grafana.ask(panel("Fleet", "Open alerts"), length_s)[0] == [{"alerts": 2}]


def confidence(rows: list[Row]) -> float:
    """The mean of rows with detections."""
    found = mean(confidences(rows))
    assert found is not None
    return found


@pytest.mark.parametrize("name", RANGES_S)
def test_the_models_table_has_a_row_for_each_model_with_its_numbers(grafana: Grafana, name: str) -> None:
    length_s, now_s, window_s = RANGES_S[name], grafana.seeded.now_s, WINDOWS_S[name]
    current = by(grafana.seeded.within(now_s - length_s, now_s, window_s), "model_id")
    before = by(grafana.seeded.within(now_s - 2 * length_s, now_s - length_s - 1, window_s), "model_id")
    rows, _ = grafana.ask(panel("Fleet", "Models"), length_s)
    assert {row["Model"] for row in rows} == set(MODELS)
    for row in rows:
        mine, earlier = current[row["Model"]], before[row["Model"]]
        assert row["name"] == row["Model"].rpartition("/")[0] or row["Model"] == row["name"] == "plain"
        assert row["Requests"] == len(mine)
        assert row["Requests change"] == pytest.approx(len(mine) / len(earlier) - 1)
        assert row["Confidence"] == pytest.approx(mean(confidences(mine)))
        assert row["Confidence change"] == pytest.approx(confidence(mine) / confidence(earlier) - 1)
        assert row["Inference time"] == pytest.approx(mean(latencies_ms(mine)))
        assert row["Errors"] == pytest.approx(mean([one["error"] != "" for one in mine]))


@pytest.mark.parametrize("name", RANGES_S)
def test_series_have_each_point_and_percentiles_within_one_percent(grafana: Grafana, name: str) -> None:
    length_s, now_s, window_s = RANGES_S[name], grafana.seeded.now_s, WINDOWS_S[name]
    step_s = interval_ms(0, length_s * 1000, 10_000, POINTS) // 1000
    point_s = -(-step_s // window_s) * window_s
    first_s = (now_s - length_s) // window_s * window_s
    mine = grafana.seeded.within(
        first_s, now_s, window_s, lambda row: row["model_id"] in MODELS[:3] and row["device_id"] in DEVICES[:2]
    )
    points: dict[int, list[Row]] = {}
    for row in mine:
        points.setdefault(int(row["event_time"]) // window_s * window_s // point_s * point_s, []).append(row)
    times, _ = grafana.ask(panel("Model", "Inference time"), length_s, SOME)
    stamps = [int(row["time"].timestamp()) for row in times]
    assert stamps == list(range(first_s // point_s * point_s, stamps[-1] + 1, point_s))
    assert stamps[-1] + point_s > max(points)
    for row in times:
        values = latencies_ms(points.get(int(row["time"].timestamp()), []))
        assert row["mean"] == (pytest.approx(mean(values)) if values else None)
        for percent, level in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            assert row[percent] == (pytest.approx(rank(values, level), rel=0.01) if values else None)
    sure, _ = grafana.ask(panel("Model", "Confidence"), length_s, SOME)
    for row in sure:
        values = confidences(points.get(int(row["time"].timestamp()), []))
        assert row["p50"] == (pytest.approx(rank(values, 0.5), abs=0.0051) if values else None)
    counted, _ = grafana.ask(panel("Model", "Distribution of confidence"), length_s, SOME)
    bins = [0] * 20
    for value in confidences(mine):
        bins[min(int(value * 20 + 1e-9), 19)] += 1
    assert [sum(row[f"{i * 5} %"] for row in counted) for i in range(20)] == bins


def test_a_rate_is_of_the_seconds_that_the_range_covers(grafana: Grafana) -> None:
    now_s = grafana.seeded.now_s
    rows, _ = grafana.ask(panel("Fleet", "Requests by model"), 900)
    requests = sum(row["value"] * 10 for row in rows if row["time"].timestamp() + 10 <= now_s)
    whole = grafana.seeded.within((now_s - 900) // 10 * 10, now_s - 10, 10)
    assert requests == pytest.approx(len(whole))


@pytest.mark.parametrize("name", RANGES_S)
def test_classes_have_their_counts_shares_and_changes(grafana: Grafana, name: str) -> None:
    length_s, now_s, window_s = RANGES_S[name], grafana.seeded.now_s, WINDOWS_S[name]

    def seen(since_s: float, until_s: float) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in NAMES[:2]}
        for row in grafana.seeded.within(since_s, until_s, window_s, lambda row: row["model_id"] in MODELS[:3]):
            for name, ppm in zip(row["detections.class"], row["detections.confidence_ppm"], strict=True):
                if name in found:
                    found[name].append(ppm / 1e6)
        return found

    current, before = seen(now_s - length_s, now_s), seen(now_s - 2 * length_s, now_s - length_s - 1)
    totals = sum(map(len, current.values())), sum(map(len, before.values()))
    rows, _ = grafana.ask(panel("Classes", "Classes"), length_s, SOME)
    assert {row["Class"] for row in rows} == set(NAMES[:2])
    for row in rows:
        now, then = current[row["Class"]], before[row["Class"]]
        assert row["Detections"] == len(now)
        assert row["Detections change"] == pytest.approx(len(now) / len(then) - 1)
        assert row["Share"] == pytest.approx(len(now) / totals[0])
        assert row["Share change"] == pytest.approx(len(now) / totals[0] - len(then) / totals[1])
        assert row["Confidence"] == pytest.approx(mean(now))
    shares: dict[Any, list[Any]] = {}
    for row in grafana.ask(panel("Classes", "Share by class"), length_s, SOME)[0]:
        shares.setdefault(row["time"], []).append(row["share"])
    for of_a_point in shares.values():
        assert of_a_point == [None, None] or sum(of_a_point) == pytest.approx(1)


def test_devices_are_up_silent_or_stopped_by_their_own_word(grafana: Grafana) -> None:
    rows, _ = grafana.ask(panel("Devices", "Devices"), 6 * HOUR_S)
    assert {row["Device"]: row["State"] for row in rows} == {
        DEVICES[0]: "up", DEVICES[1]: "silent", "only beats": "stopped", DEVICES[2]: "no heartbeat",
    }  # fmt: skip
    beats = {row["Device"]: row["Last heartbeat"] for row in rows}
    assert beats[DEVICES[1]].timestamp() == grafana.seeded.now_s - 1800
    assert beats[DEVICES[2]] is None
    counts = {title: grafana.ask(panel("Devices", title), 900)[0] for title in ("Devices up", "Silent devices")}
    assert counts == {"Devices up": [{"devices": 1}], "Silent devices": [{"devices": 1}]}
    heard: dict[str, list[int | None]] = {}
    for row in grafana.ask(panel("Devices", "Heartbeats heard"), 6 * HOUR_S)[0]:
        heard.setdefault(row["device_id"], []).append(row["value"])
    assert 0 not in heard[DEVICES[0]]
    minutes = 6 * 60 // len(heard[DEVICES[1]])
    assert heard[DEVICES[1]].count(0) == pytest.approx(30 / minutes, abs=1)
    assert heard["only beats"].count(2) == pytest.approx(60 / minutes, abs=1)
    assert 0 not in heard["only beats"]


def test_alerts_are_open_or_past_and_are_drawn_on_every_series(grafana: Grafana) -> None:
    rows, _ = grafana.ask(panel("Alerts", "Open alerts"), HOUR_S)
    assert [(row["Severity"], row["Model"], row["to_model"]) for row in rows] == [
        ("critical", "it's", "inferwatch-model?var-model=it%27s&var-version=%24__all"),
        ("info", "it's/1", "inferwatch-model?var-model=it%27s&var-version=it%27s%2F1"),
    ]  # fmt: skip
    history, _ = grafana.ask(panel("Alerts", "History"), HOUR_S)
    assert {row["Severity"]: (row["State"], row["Ended"] is not None) for row in history} == {
        "critical": ("firing", False), "warning": ("resolved", True), "info": ("firing", False),
    }  # fmt: skip
    assert grafana.ask(panel("Alerts", "Time to resolve"), HOUR_S)[0] == [{"value": 240}]
    [on_fleet] = [query for query in QUERIES if (query.dashboard, query.kind) == ("Fleet", "annotation")]
    drawn, _ = grafana.ask(on_fleet, HOUR_S)
    assert [row["timeEnd"] and (row["timeEnd"] - row["time"]).total_seconds() for row in drawn] == [None, 240]
    assert [row["tags"] for row in drawn] == ["critical", "info,warning"]  # the third fired while the second did


def test_the_pipelines_state_is_told(grafana: Grafana) -> None:
    now_s = grafana.seeded.now_s
    assert grafana.ask(panel("Pipeline", "Refused"), 900)[0] == [{"refused": 20}]
    reasons: dict[str, int] = {}
    for row in grafana.ask(panel("Pipeline", "Refused records"), 900)[0]:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["value"]
    assert reasons == {"not_json": 10, "missing_field": 10}
    [age] = grafana.ask(panel("Pipeline", "Age of the newest window"), 900)[0]
    newest_s = max(row["event_time"] for row in grafana.seeded.rows) // 10 * 10 + 10
    assert now_s - newest_s <= age["age"] <= now_ms() // 1000 - newest_s
    tables = {row["Table"]: row["Rows"] for row in grafana.ask(panel("Pipeline", "Tables"), 900)[0]}
    assert tables == grafana.rows_there


def test_where_nothing_is_now_a_total_is_nothing_and_not_what_was_before(grafana: Grafana) -> None:
    later = Grafana(grafana.reader, Seeded([], grafana.seeded.now_s + 900), {})
    rows = {title: later.ask(panel("Fleet", title), 900)[0] for title in ("Requests", "Average confidence")}
    assert [row["value"] for row in rows["Requests"]] == [
        len(grafana.seeded.within(later.seeded.now_s - 1800, 2e9, 10)),
        0,
    ]
    assert [row["value"] for row in rows["Average confidence"]] == [inf, None]


def test_the_model_whose_confidence_sinks_stands_first_in_the_table(grafana: Grafana) -> None:
    first, second = grafana.ask(panel("Fleet", "Models"), HOUR_S, EVERYTHING | {"workspace": SINKING})[0]
    assert (first["Model"], second["Model"]) == ("sinking/1", "steady/1")
    assert first["Latest"] == pytest.approx(0.4)
    assert first["Latest vs range"] == pytest.approx(0.4 / ((55 * 0.8 + 5 * 0.4) / 60) - 1, abs=0.02)
    assert second["Latest vs range"] == pytest.approx(0)


def test_what_sinks_or_slows_down_is_noticed_by_grafanas_own_rules(grafana: Grafana) -> None:
    for title, ratio in (("Confidence sank", 0.5), ("Inference time grew", 2)):
        rows, _ = grafana.ask(panel("alert rules", title), 0)
        ratios = {row["model_id"]: row["ratio"] for row in rows if row["workspace"] == SINKING}
        assert ratios == {"steady/1": pytest.approx(1), "sinking/1": pytest.approx(ratio, rel=0.02)}


def test_silence_is_noticed_by_grafanas_own_rules(grafana: Grafana) -> None:
    rows, _ = grafana.ask(panel("alert rules", "A device fell silent"), 0)
    missed = {row["device_id"]: row["missed"] for row in rows if row["workspace"] == WORKSPACE}
    assert missed.keys() == set(DEVICES[:2])  # the third said that it stops
    assert missed[DEVICES[0]] < 5 < missed[DEVICES[1]]
    rows, _ = grafana.ask(panel("alert rules", "A model fell silent"), 0)
    assert {row["model_id"] for row in rows if row["workspace"] == WORKSPACE} == set(MODELS)
