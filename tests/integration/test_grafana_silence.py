"""What Grafana is given where there is little: a silence, a first hour, an alert without a model."""

from collections.abc import Iterator
from math import isnan
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tests.integration.engines import Engines
from tests.integration.grafana import All, Query, Value, interval_ms
from tests.integration.grafana.asked import QUERIES, Grafana, opened, panel
from tests.integration.grafana.seeded import HOUR_S, Row, Seeded
from tests.integration.seeding import insert

pytestmark = pytest.mark.integration

# "gap/1" is silent for half an hour, "blind/1" detects nothing; nothing of this is older than an hour.
SILENT = range(-2400, -600, 10)
CHOSEN: dict[str, Value] = {
    "workspace": "young", "model": "gap", "version": All(("gap/1", "blind/1")), "device": All(("cam",)),
    "class": All(("cat",)), "severity": All(("critical", "warning", "info")),
}  # fmt: skip
BY_TIME = [
    query
    for query in QUERIES
    if query.kind == "panel" and query.panel_type in ("timeseries", "heatmap") and "_range(" in query.sql
]
COMPARED = [query for query in QUERIES if query.panel_type == "stat" and "$__fromTime - (" in query.sql]
EACH_BY_TIME = pytest.mark.parametrize("query", BY_TIME, ids=str)


@pytest.fixture(scope="module")
def grafana(engines: Engines) -> Iterator[Grafana]:
    """Seeded once; only read."""
    with opened(engines, seed) as grafana:
        yield grafana


def seed(client: Client, now_s: int) -> Seeded:
    now_s -= now_s % 60
    times = [at_s for at_s in range(-3000, -60, 10) if at_s not in SILENT]
    common: Row = {"workspace": "young", "inference_count": 10}
    seen = {"detection_count": 10, "confidence_ppm_sum": 8_000_000}
    timed = {"latency_count": 10, "latency_us_sum": 90_000, "latency_histogram": {400: 10}}
    insert(client, "model_windows_in", [
        {**common, **timed, **what, "model_id": model_id, "device_id": "cam", "window_start": now_s + at_s}
        for at_s in times
        for model_id, what in (("gap/1", {**seen, "confidence_histogram": {80: 10}}), ("blind/1", {"empty_count": 10}))
    ])  # fmt: skip
    insert(client, "class_windows_in", [
        {**common, **seen, "model_id": "gap/1", "class": "cat", "window_start": now_s + at_s} for at_s in times
    ])  # fmt: skip
    insert(client, "device_heartbeats", [*beats(now_s, "cam", [*range(-3000, -1800, 30), *range(-600, 1, 30)], -1830),
                                         *beats(now_s, "gone", list(range(-3000, -2400, 30)))])  # fmt: skip
    insert(client, "alerts", list(alerts(now_s)))
    return Seeded([], now_s)


def beats(now_s: int, device_id: str, times: list[int], stops_at: int | None = None) -> list[Row]:
    return [
        {
            "workspace": "young", "device_id": device_id, "sent_at": now_s + at_s, "interval_ms": 30_000,
            "status": "stopping" if at_s == stops_at else "up", "kafka_time": now_s + at_s,
        }
        for at_s in times
    ]  # fmt: skip


def alerts(now_s: int) -> Iterator[Row]:
    """Fourteen of models at once, two over each other that are over, one of a device, one of a site."""
    steps: list[tuple[str, str, str, str, int]] = [
        *((f"open {n}", f"gap/{n}", "", "firing", -300 + n // 3) for n in range(14)),
        ("first", "gap", "", "firing", -1500), ("second", "gap/1", "", "firing", -1400),
        ("first", "gap", "", "resolved", -1300), ("second", "gap/1", "", "resolved", -1200),
        ("device", "", "cam & 1", "firing", -3000), ("site", "", "site:/3", "firing", -2000),
    ]  # fmt: skip
    for sequence, (name, model_id, device_id, state, at_s) in enumerate(steps):
        yield {
            "fingerprint": name, "episode": 1, "sequence": sequence, "state": state, "at": now_s + at_s,
            "starts_at": now_s + at_s, "kind": "rule", "workspace": "young", "model_id": model_id,
            "device_id": device_id, "metric": "confidence_mean", "value": 0.4, "severity": "critical", "summary": name,
            "kafka_time": now_s + at_s,
        }  # fmt: skip


def series(rows: list[Row]) -> dict[tuple[str, ...], dict[int, list[Any]]]:
    """As Grafana divides them: labels -> time, in seconds before now -> numbers."""
    found: dict[tuple[str, ...], dict[int, list[Any]]] = {}
    for row in rows:
        labels = tuple(value for value in row.values() if isinstance(value, str))
        numbers = [value for name, value in row.items() if name != "time" and not isinstance(value, str)]
        found.setdefault(labels, {})[int(row["time"].timestamp())] = numbers
    return found


@EACH_BY_TIME
def test_a_silence_is_no_line_but_zero_or_nothing_at_each_point(grafana: Grafana, query: Query) -> None:
    now_s = grafana.seeded.now_s
    step_s = interval_ms(0, HOUR_S * 1000, query.min_interval_ms, query.max_data_points) // 1000
    first_s = (now_s - HOUR_S) // step_s * step_s
    found = series(grafana.ask(query, HOUR_S, CHOSEN)[0])
    assert found
    nothing: float | None = 0 if query.panel.startswith(("Requests", "Detections", "Distribution")) else None
    for points in found.values():
        assert set(range(first_s, now_s - 120, step_s)) <= points.keys()
        of_silence = [numbers for at_s, numbers in points.items() if now_s - 2400 <= at_s <= now_s - 600 - step_s]
        assert len(of_silence) > 80
        assert {number for numbers in of_silence for number in numbers} == {nothing}
        assert {number for numbers in points.values() for number in numbers} != {nothing}, "a series without any value"


@EACH_BY_TIME
def test_where_there_is_no_series_there_is_no_row(grafana: Grafana, query: Query) -> None:
    """Then Grafana says so."""
    assert grafana.ask(query, HOUR_S, CHOSEN | {"workspace": "nobody"})[0] == []


@pytest.mark.parametrize("length_s", [1, 45, 900, HOUR_S])
def test_no_number_is_a_nan(grafana: Grafana, length_s: int) -> None:
    """What is new has nothing to compare with."""
    for query in QUERIES:
        rows, _ = grafana.ask(query, length_s, CHOSEN)
        for row in rows:
            assert not [name for name, value in row.items() if isinstance(value, float) and isnan(value)], str(query)


def change_shown(rows: list[Row]) -> float | None:
    """The change in % that a single number shows (Grafana 11.6: `diffperc`, `BigValue`), None where none is shown."""
    values = [row["value"] for row in rows if row["value"] is not None]
    diff = values[-1] - values[0]
    if isnan(diff) or (diff, values[0]) == (0, 0):
        return None
    change = float("inf") if values[0] == 0 else diff / values[0] * 100
    return None if isnan(change) else change


@pytest.mark.parametrize("query", COMPARED, ids=str)
def test_against_nothing_there_is_no_change_and_none_is_no_change_either(grafana: Grafana, query: Query) -> None:
    """Grafana would show ∞ % or, in red, 0 %."""
    earlier = Grafana(grafana.reader, Seeded([], grafana.seeded.now_s - 300), {})
    for rows, _ in (grafana.ask(query, HOUR_S, CHOSEN), earlier.ask(query, 300, CHOSEN)):  # before these was silence
        assert len(rows) == 2
        assert rows[1]["value"] is not None
        assert change_shown(rows) is None
    assert change_shown(grafana.ask(query, 250, CHOSEN)[0]) != 0
    assert change_shown([{"value": 2}, {"value": 3}]) == 50
    assert change_shown([{"value": 2}]) == 0


def test_a_device_is_silent_only_between_its_first_beat_and_its_word_that_it_stops(grafana: Grafana) -> None:
    now_s = grafana.seeded.now_s
    found = series(grafana.ask(panel("Devices", "Heartbeats heard"), HOUR_S, CHOSEN)[0])
    said = {name: {at_s - now_s: value for at_s, (value,) in points.items()} for (name,), points in found.items()}
    cam = {None: range(-3600, -3000, 60), 1: [*range(-3000, -1800, 60), *range(-600, 0, 60)], 2: range(-1800, -600, 60)}
    assert said["cam"] == {at_s: value for value, times in cam.items() for at_s in times}
    gone = {None: range(-3600, -3000, 60), 1: range(-3000, -2400, 60), 0: range(-2400, 0, 60)}
    assert said["gone"] == {at_s: value for value, times in gone.items() for at_s in times}
    later = Grafana(grafana.reader, Seeded([], now_s + 2 * HOUR_S), {})  # both beat before the range
    found = series(later.ask(panel("Devices", "Heartbeats heard"), HOUR_S, CHOSEN)[0])
    assert {numbers[0] for points in found.values() for numbers in points.values()} == {0}


def test_regions_of_alerts_do_not_lie_over_each_other_and_an_open_one_is_a_line(grafana: Grafana) -> None:
    [query] = [query for query in QUERIES if (query.dashboard, query.kind) == ("Fleet", "annotation")]
    rows, _ = grafana.ask(query, HOUR_S, CHOSEN)
    ends = [row["timeEnd"] or row["time"] for row in rows]
    assert all(end < row["time"] for end, row in zip(ends, rows[1:], strict=False))
    now_s = grafana.seeded.now_s
    spans = [(row["time"].timestamp() - now_s, end.timestamp() - now_s) for row, end in zip(rows, ends, strict=True)]
    assert spans == [
        (-3000, -3000), (-2000, -2000), (-1500, -1200), (-300, -296),
    ]  # fmt: skip
    assert rows[2]["text"] == "first; second"
    assert rows[3]["text"].endswith("; and 9 more")


def test_an_alert_leads_only_to_what_it_names(grafana: Grafana) -> None:
    rows, _ = grafana.ask(panel("Alerts", "Open alerts"), HOUR_S, CHOSEN)
    found = {row["Summary"]: row for row in rows}
    assert [found["device"][name] for name in ("Model", "Device", "Class")] == [None, "cam & 1", None]
    assert [found["device"][name] for name in ("to_model", "to_device")] == [
        "inferwatch-fleet?", "inferwatch-devices?var-device=cam%20%26%201",
    ]  # fmt: skip
    assert (found["site"]["Device"], found["site"]["to_device"]) == ("site:/3", "inferwatch-devices?")
    assert found["open 1"]["to_device"] == "inferwatch-devices?"
