"""History from parquet: the same windows, and the same alerts as the detector would have told live."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.moment import moment_s
from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.history.replay import Replay
from pipeline.core.span import Span
from pipeline.edge.operator.history import HistoryError, Windows
from pipeline.edge.operator.parquet import ParquetHistory
from pipeline.edge.store.queries.history import Only
from schemas import aggregate, alert
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertKind, AlertState
from tests import builders
from tests.alerting import START_S, rule

Row = dict[str, Any]

MODEL_MAPS, CLASS_MAPS = ("latency_histogram", "confidence_histogram"), ("confidence_histogram",)
RULE_FILE = """
- {rule_id: r, workspace: acme, metric: error_rate, operator: ">", threshold: 0.1, window_s: 60, min_count: 1}
- {rule_id: calm, workspace: acme, metric: empty_rate, operator: ">", threshold: 0.9, window_s: 60, min_count: 1}
"""


def windows(count: int, bad: range, seed: int = 1) -> list[tuple[list[Row], list[Row]]]:
    """Rows of so many windows of one model on two devices; in those of `bad` a third of the inferences fail."""
    rng, out = np.random.default_rng(seed), []
    for i in range(count):
        at = START_S + 10 * i
        models = [
            {
                "window_start_s": at,
                "device_id": device,
                "inference_count": 30,
                "error_count": 10 if i in bad else 0,
                "detection_count": 60,
                "latency_count": 30,
                "latency_histogram": {220: int(rng.integers(1, 20)), 231: 5},
                "confidence_ppm_sum": int(rng.integers(47_000_000, 49_000_000)),
            }
            for device in ("cam-1", "cam-2")
        ]
        person = int(rng.integers(60, 80))
        names = (("person", person), ("car", 120 - person))
        classes = [{"window_start_s": at, "class": name, "detection_count": n} for name, n in names]
        out.append((models, classes))
    return out


def write(directory: Path, history: Sequence[tuple[list[Row], list[Row]]]) -> None:
    """As somebody's tool would: in no order, times as timestamps, histograms as maps."""
    models = [builders.MODEL_ROW | row for part in history for row in part[0]]
    classes = [builders.CLASS_ROW | row for part in history for row in part[1]]
    for name, rows, maps in (("model_windows", models, MODEL_MAPS), ("class_windows", classes, CLASS_MAPS)):
        columns: dict[str, Any] = {}
        for column in rows[0]:
            values = [row[column] for row in reversed(rows)]
            if column == "window_start_s":
                columns["window_start"] = pa.array([at * 1000 for at in values], pa.timestamp("ms", "UTC"))
            elif column in maps:
                items = [list(reversed(value.items())) for value in values]
                columns[column] = pa.array(items, pa.map_(pa.int32(), pa.uint64()))
            else:
                columns[column] = values
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")


def read(history: ParquetHistory, span: Span, only: Only) -> list[Windows]:
    async def all_of_it() -> list[Windows]:
        return [part async for part in history.windows(span, only)]

    return asyncio.run(all_of_it())


def live(history: Sequence[tuple[list[Row], list[Row]]]) -> list[AlertEvent]:
    """What the detector tells when the windows come by the chain, one by one."""
    watch = ModelWatch(0, 1, 1, 1.0)
    watch.set_rules({"r": rule()})
    told, before = [], (0, 0, 0, 0)
    for i, (models, classes) in enumerate(history, 1):
        end = (0, i, (START_S + 10 * i) * 1000, 0)
        record = aggregate.decode(builders.aggregate(before, end, models=models, classes=classes))
        assert isinstance(record, AggregateRecord), record
        told += watch.observe(record)[1]
        before = end
    return [event for event in told if event.kind is not AlertKind.PIPELINE]


@pytest.mark.slow
def test_a_backtest_tells_what_the_detector_would_have_told_live(tmp_path: Path) -> None:
    made = windows(900, bad=range(700, 760))
    write(tmp_path, made)
    history = ParquetHistory(tmp_path)
    span = asyncio.run(history.span())
    assert span == Span(START_S, START_S + 9000)
    machine = Replay([rule()], asked_per_model_week=1.0)
    told = [event for part in read(history, span, Only()) for event in machine.observe(*part)]
    assert {event.kind for event in told if event.state is AlertState.FIRING} == {AlertKind.RULE, AlertKind.ANOMALY}
    assert told == live(made)


def test_windows_come_in_order_and_time_goes_on_where_there_are_none(tmp_path: Path) -> None:
    made = windows(1000, bad=range(0))
    write(tmp_path, made[:2] + made[-1:])
    history = ParquetHistory(tmp_path)
    found = read(history, Span(START_S, START_S + 10_020), Only("acme"))
    assert [(end_ms // 1000 - START_S, len(models)) for end_ms, models, _ in found] == [
        (10, 2),
        (20, 2),
        (3620, 0),
        (7220, 0),
        (10_000, 2),
        (10_020, 0),
    ]
    assert found[0][1].texts["device_id"] == ["cam-2", "cam-1"]
    assert list(found[0][1].histograms["latency_histogram"][1]) == [220, 231, 220, 231]
    assert found[0][2].texts["class"] == ["car", "person"]
    assert [len(m) for _, m, _ in read(history, Span(START_S, START_S + 20), Only("other"))] == [0]


def test_bins_of_confidence_are_left_out_where_nobody_looks_at_them(tmp_path: Path) -> None:
    write(tmp_path, windows(2, bad=range(0)))
    only = Only("acme", confidence_bins=False)
    (_, models, classes), *_ = read(ParquetHistory(tmp_path), Span(START_S, START_S + 20), only)
    sizes, keys, _ = models.histograms["latency_histogram"]
    assert sizes.sum() == len(keys) > 0
    for rows in (models, classes):
        sizes, keys, counts = rows.histograms["confidence_histogram"]
        assert sizes.tolist() == [0] * len(rows)
        assert len(keys) == len(counts) == 0


@pytest.mark.slow
def test_the_commands_say_what_would_have_fired_and_draw_it(tmp_path: Path) -> None:
    write(tmp_path, windows(300, bad=range(100, 130)))
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE_FILE)
    of = ["--input", str(tmp_path)]
    result = CliRunner().invoke(app, ["rules", "test", str(rules), *of])
    assert result.exit_code == 0, result.output
    assert "r: would have fired once" in result.output
    assert "calm: would not have fired" in result.output
    plots = tmp_path / "plots"
    result = CliRunner().invoke(
        app, ["detect", "backtest", *of, "--rules", str(rules), "--json", "--plots", str(plots)]
    )
    assert result.exit_code == 0, result.output
    decoded = [alert.decode(line.encode()) for line in result.stdout.splitlines()]
    events = [event for event in decoded if isinstance(event, AlertEvent)]
    assert len(events) == len(decoded)
    assert {event.rule_id for event in events if event.kind is AlertKind.RULE} == {"r"}
    assert "'rule': 1" in result.stderr
    fired = {(e.fingerprint, e.episode) for e in events if e.state is AlertState.FIRING}
    pictures = list(plots.iterdir())
    assert len(pictures) == len(fired)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="there is no such file"):
        ParquetHistory(tmp_path)
    write(tmp_path, windows(3, bad=range(0)))
    path = tmp_path / "model_windows.parquet"
    whole = pq.read_table(path)

    def read_all() -> None:
        history = ParquetHistory(tmp_path)
        read(history, asyncio.run(history.span()), Only())

    def mistake(table: pa.Table) -> str:
        pq.write_table(table, path)
        with pytest.raises(HistoryError) as caught:
            read_all()
        return str(caught.value)

    def changed(column: str, values: Any) -> pa.Table:
        return whole.set_column(whole.schema.get_field_index(column), column, pa.array(*values))

    assert "lacks error_count" in mistake(whole.drop_columns(["error_count"]))
    assert "error_count is negative" in mistake(changed("error_count", ([-1] * 6,)))
    assert "model_id is null in 6 rows" in mistake(changed("model_id", ([None] * 6, pa.string())))
    maps = pa.map_(pa.int32(), pa.uint64())
    assert "which is no bucket" in mistake(changed("confidence_histogram", ([[(101, 1)]] * 6, maps)))
    assert "a key twice" in mistake(changed("confidence_histogram", ([[(1, 1), (1, 2)]] * 6, maps)))
    assert "no map" in mistake(changed("confidence_histogram", ([1] * 6,)))
    assert "no time" in mistake(changed("window_start", (["today"] * 6,)))
    path.write_text("hello")
    with pytest.raises(HistoryError, match="not a parquet file"):
        ParquetHistory(tmp_path)


def test_moments_are_times_or_ages() -> None:
    assert moment_s("2026-07-01", 0) == moment_s("2026-07-01T02:00+02:00", 0) == 1_782_864_000
    assert moment_s("2h", 10_000_000_000) == 10_000_000 - 7200
