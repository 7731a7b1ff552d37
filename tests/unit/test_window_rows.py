"""Links of the chain, and the rows of windows that they become."""

from typing import Any

import pytest

from pipeline.core.ledger.chain import Verdict
from pipeline.core.ledger.names import Position
from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.windows import record_aggregates
from schemas.rejection import Reason
from tests.builders import CLASS_ROW, MODEL_ROW, START_MS, aggregate, records
from tests.native_reader import read_block

FIRST = aggregate((0, 0, 0, 0), (0, 10, 1, 0))
SECOND = aggregate((0, 10, 1, 0), (0, 20, 2, 0), models=({"device_id": "cam-8"},), classes=({"class": "dog"},))


def tables(recorded: Recorded) -> dict[str, list[dict[str, Any]]]:
    """Rows by table, as ClickHouse reads them."""
    return {rows.table: read_block(rows.body, strings=_text)[1] for rows in recorded.blocks}


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")  # a dead letter may be none


def devices(recorded: Recorded) -> list[str]:
    return [row["device_id"] for row in tables(recorded).get("model_windows_in", [])]


def test_every_column_of_the_topic_has_its_column_in_the_tables() -> None:
    recorded = record_aggregates(records([aggregate()], partition=6, first_offset=40), {})
    seconds = {"window_start": START_MS // 1000, "source": {6: 40}}
    model_row = {name: value for name, value in MODEL_ROW.items() if name != "window_start_s"}
    class_row = {name: value for name, value in CLASS_ROW.items() if name not in ("window_start_s", "class")}
    assert tables(recorded) == {
        "model_windows_in": [model_row | seconds],
        "class_windows_in": [class_row | seconds | {"class": "person"}],
    }


def test_extremes_of_nothing_are_unknown() -> None:
    nothing = {"latency_us_sum": 0, "latency_us_min": 0, "latency_us_max": 0, "latency_histogram": {}}
    no_detection: dict[str, Any] = {f"confidence_ppm_{name}": 0 for name in ("sum", "sum_sq", "min", "max")} | {
        "confidence_histogram": {}
    }
    rows = (
        {"latency_count": 0, **nothing},
        {"detection_count": 0, **no_detection},
        {"latency_us_min": 0, "confidence_ppm_min": 0},
    )
    found = tables(record_aggregates(records([aggregate(models=rows)]), {}))["model_windows_in"]
    assert [(row["latency_us_min"], row["latency_us_max"]) for row in found] == [(None, None), (80, 120), (0, 120)]
    assert [(row["confidence_ppm_min"], row["confidence_ppm_max"]) for row in found] == [
        (400_000, 600_000),
        (None, None),
        (0, 600_000),
    ]
    assert [len(row["latency_histogram"]) for row in found] == [0, 2, 2]
    assert [len(row["confidence_histogram"]) for row in found] == [3, 0, 3]


def test_each_row_has_its_own_histograms() -> None:
    first = ({"latency_histogram": {1: 1}}, {"latency_histogram": {-(2**31): 5, 7: 9}})
    second = ({"latency_histogram": {3: 2**40}},)
    values = [aggregate(models=first), aggregate((0, 10, START_MS, 0), (0, 11, START_MS, 0), models=second)]
    found = tables(record_aggregates(records(values), {}))["model_windows_in"]
    assert [row["latency_histogram"] for row in found] == [{1: 1}, {-(2**31): 5, 7: 9}, {3: 2**40}]


def test_links_are_taken_in_order_and_every_row_says_which_cut_it_came_with() -> None:
    recorded = record_aggregates(records([FIRST, SECOND], partition=1, first_offset=5), {})
    assert devices(recorded) == ["cam-7", "cam-8"]
    assert [row["class"] for row in tables(recorded)["class_windows_in"]] == ["person", "dog"]
    assert {str(row["source"]) for rows in tables(recorded).values() for row in rows} == {"{1: 6}"}
    assert [rows.offsets.tolist() for rows in recorded.blocks] == [[5, 6], [5, 6]]
    assert recorded.verdicts == {Verdict.ACCEPTED: 2}
    assert recorded.chain == {0: Position(0, 20, 2)}


def test_repeats_are_dropped_and_counted() -> None:
    recorded = record_aggregates(records([FIRST, FIRST, SECOND, FIRST, SECOND]), {})
    assert devices(recorded) == ["cam-7", "cam-8"]
    assert recorded.verdicts == {Verdict.ACCEPTED: 2, Verdict.REPEAT: 3}


def test_a_cut_of_repeats_has_no_rows_and_keeps_the_chain() -> None:
    chain = {0: Position(0, 20, 2), 3: Position(1, 1, 1)}
    recorded = record_aggregates(records([FIRST, SECOND]), chain)
    assert recorded.blocks == ()
    assert recorded.chain == chain


def test_what_comes_after_a_gap_is_taken_and_the_gap_counted() -> None:
    recorded = record_aggregates(records([SECOND]), {0: Position(0, 5, 0)})
    assert devices(recorded) == ["cam-8"]
    assert recorded.verdicts == {Verdict.GAP: 1}
    assert recorded.chain == {0: Position(0, 20, 2)}


def test_the_chain_goes_on_where_the_last_cut_left_it() -> None:
    whole = record_aggregates(records([FIRST, SECOND]), {})
    first = record_aggregates(records([FIRST]), {})
    second = record_aggregates(records([FIRST, SECOND]), first.chain)
    assert devices(first) + devices(second) == devices(whole)
    assert second.chain == whole.chain


def test_a_new_epoch_is_taken() -> None:
    anew = aggregate((1, 500, 2, 0), (1, 510, 3, 0))
    recorded = record_aggregates(records([FIRST, anew, FIRST]), {})
    assert recorded.verdicts == {Verdict.ACCEPTED: 2, Verdict.REPEAT: 1}
    assert recorded.chain == {0: Position(1, 510, 3)}


def test_every_source_has_a_chain_of_its_own() -> None:
    other = aggregate((0, 70, 0, 0), (0, 71, 0, 0), source=4)
    recorded = record_aggregates(records([FIRST, other, SECOND, other]), {})
    assert recorded.verdicts == {Verdict.ACCEPTED: 3, Verdict.REPEAT: 1}
    assert recorded.chain == {0: Position(0, 20, 2), 4: Position(0, 71, 0)}


def test_a_link_without_rows_moves_the_chain() -> None:
    recorded = record_aggregates(records([aggregate(models=(), classes=())]), {})
    assert recorded.blocks == ()
    assert recorded.chain == {0: Position(0, 10, START_MS)}


@pytest.mark.parametrize(
    ("value", "reason"),
    [(b"{", Reason.UNKNOWN_SCHEMA), (None, Reason.UNKNOWN_SCHEMA), (FIRST[:-1], Reason.WRONG_TYPE)],
)
def test_a_record_that_is_not_ours_is_a_dead_letter_and_no_link(value: bytes | None, reason: Reason) -> None:
    recorded = record_aggregates(records([FIRST, value, SECOND], topic="inference.aggregates"), {})
    assert devices(recorded) == ["cam-7", "cam-8"]
    (letter,) = tables(recorded)["dead_letters"]
    assert (letter["kafka_topic"], letter["kafka_offset"], letter["reason"]) == (
        "inference.aggregates",
        101,
        reason.value,
    )
    assert recorded.refused == {reason: 1}
    assert recorded.verdicts == {Verdict.ACCEPTED: 2}
