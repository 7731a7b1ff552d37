"""Every field of an event, and where it goes in `inferences`; what is refused, and what `dead_letters` keeps of it."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.core.rows.blocks import Block
from pipeline.core.rows.inferences import _TOGETHER, record_events, text_of
from pipeline.core.rows.tables import DEAD_LETTER_BYTES_MAX, Recorded
from schemas.rejection import Reason
from tests.builders import LIMITS, START_MS, event, prediction, records
from tests.native_reader import read_block

FULL = event(
    event_id="0b3c",
    event_time_ms=START_MS - 5,
    latency_ms=43.2,
    predictions=[
        prediction("person", 0.91, x=100.0, y=90.5, width=60, height=61),
        prediction("Ж", 0.123456789),
        prediction("person", 1),
    ],
    error="half of it",
    image={"width": 640, "height": 480, "url": "file:///a.png"},
    metadata={"site": "s1", "line": 4},
    tags=["edge", "night"],
    source="roboflow",
    deployment="edge",
    server_version="1.8.3",
)
FLOAT32_MAX = 3.4028234663852886e38


def table(recorded: Recorded, name: str) -> list[dict[str, Any]]:
    """The rows of one table, as ClickHouse reads them."""
    return [row for rows in recorded.blocks if rows.table == name for row in read_block(rows.body)[1]]


def row_of(**fields: Any) -> dict[str, Any]:
    """The only row of an event with these fields."""
    recorded = record_events(records([event(**fields)]), LIMITS)
    (row,) = table(recorded, "inferences")
    return row


def not_given(value: float) -> bool:
    return math.isnan(value)


def test_every_field_has_its_column() -> None:
    recorded = record_events(records([FULL], partition=5, first_offset=77), LIMITS)
    (row,) = table(recorded, "inferences")
    boxes = [row.pop(f"detections.{name}") for name in ("x", "y", "width", "height")]
    assert [box[0] for box in boxes] == [100, 90.5, 60, 61]
    assert all(not_given(value) for box in boxes for value in box[1:])
    assert row == {
        "event_id": "0b3c",
        "event_time": START_MS - 5,
        "workspace": "acme",
        "model_id": "helmets/3",
        "device_id": "cam-7",
        "latency_us": 43_200,
        "detections.class": ["person", "Ж", "person"],
        "detections.confidence_ppm": [910_000, 123_457, 1_000_000],
        "detections_extra": "",
        "error": "half of it",
        "image_width": 640,
        "image_height": 480,
        "image_url": "file:///a.png",
        "metadata": {"site": "s1", "line": "4"},
        "tags": ["edge", "night"],
        "source": "roboflow",
        "deployment": "edge",
        "server_version": "1.8.3",
        "kafka_partition": 5,
        "kafka_offset": 77,
        "kafka_time": START_MS,
    }
    assert recorded.refused == Counter()


def test_what_is_not_given_is_empty() -> None:
    row = row_of(device_id=None, latency_ms=None, predictions=None)
    assert row["latency_us"] is None
    lists = [name for name, value in row.items() if value == []]
    assert lists == ["detections.class", "detections.confidence_ppm"] + [
        f"detections.{name}" for name in ("x", "y", "width", "height")
    ] + ["tags"]
    assert [name for name, value in row.items() if value == ""] == [
        "device_id", "detections_extra", "error", "image_url", "source", "deployment", "server_version",
    ]  # fmt: skip
    assert row["metadata"] == {}
    assert (row["image_width"], row["image_height"]) == (0, 0)


def test_an_image_may_be_given_in_part() -> None:
    row = row_of(image={"width": 640})
    assert (row["image_width"], row["image_height"], row["image_url"]) == (640, 0, "")


@pytest.mark.parametrize(
    ("latency_ms", "latency_us"),
    [(0, 0), (0.0004, 0), (0.0005, 0), (0.0006, 1), (0.0015, 2), (43.2, 43_200), (86_400_000, 86_400_000_000)],
)
def test_latency_is_rounded_to_whole_microseconds(latency_ms: float, latency_us: int) -> None:
    assert row_of(latency_ms=latency_ms)["latency_us"] == latency_us == round(latency_ms * 1000)


def test_confidence_is_rounded_to_parts_per_million() -> None:
    given = [0, 1, 0.5, 0.0000005, 0.0000015, 0.9999996, 1 / 3]
    row = row_of(predictions=[prediction(confidence=c) for c in given])
    assert row["detections.confidence_ppm"] == [0, 1_000_000, 500_000, 0, 2, 1_000_000, 333_333]


def test_each_row_has_its_own_detections() -> None:
    values = [event(predictions=[prediction(name) for name in names]) for names in ("ab", "", "c")]
    rows = table(record_events(records(values), LIMITS), "inferences")
    assert [row["detections.class"] for row in rows] == [["a", "b"], [], ["c"]]
    assert [len(row["detections.x"]) for row in rows] == [2, 0, 1]


def test_a_box_beyond_single_precision_is_infinite_and_one_not_given_is_not_a_number() -> None:
    row = row_of(predictions=[prediction(x=1e300, y=-1e300, width=FLOAT32_MAX)])
    assert row["detections.x"] == [math.inf]
    assert row["detections.y"] == [-math.inf]
    assert row["detections.width"] == [FLOAT32_MAX]
    assert not_given(row["detections.height"][0])


def mixed(number: int) -> bytes | None:
    """An event that differs from its neighbours in every field; every seventh is refused."""
    predictions = [
        prediction(f"c{n}", x=n, **({"class_id": number} if number % 11 == 0 else {})) for n in range(number % 4)
    ]
    return (
        None
        if number % 7 == 6
        else event(
            event_id=str(number),
            event_time_ms=START_MS + number,
            model_id=f"m/{number % 3}",
            device_id=(None, "a", "b")[number % 3],
            latency_ms=number if number % 5 else None,
            predictions=predictions,
            error="no" if number % 13 == 0 else None,
            image={"width": number} if number % 2 else None,
            metadata={f"k{n}": number for n in range(number % 3)},
            tags=[f"t{n}" for n in range(number % 5)],
        )
    )


@pytest.mark.parametrize("count", [1, _TOGETHER - 1, _TOGETHER, _TOGETHER + 1, 3 * _TOGETHER])
def test_rows_of_many_records_are_those_of_each(count: int) -> None:
    values = [mixed(number) for number in range(count)]
    together = record_events(records(values), LIMITS)
    alone = [record_events(records([value], first_offset=100 + n), LIMITS) for n, value in enumerate(values)]
    rows = [row | {"kafka_time": None} for row in table(together, "inferences")]
    assert repr(rows) == repr([row | {"kafka_time": None} for one in alone for row in table(one, "inferences")])
    assert [row["kafka_offset"] for row in table(together, "dead_letters")] == list(range(106, 100 + count, 7))


# -- what else the detections had


def test_what_else_detections_had_is_kept_as_it_was_given() -> None:
    points = b'"points": [ {"x":1.50, "y":2} ]'
    plain = b'{"class":"a","confidence":0.5}'
    odd = b'{"class":"b","confidence":0.5,"class_id":7,"tracker_id":null,"detection_id":"\\u00e9",' + points + b"}"
    raw = event(predictions=[]).replace(b"[]", b"[" + plain + b"," + odd + b"]")
    (row,) = table(record_events(records([raw]), LIMITS), "inferences")
    assert row["detections_extra"] == (
        '[{},{"class_id":7,"detection_id":"\\u00e9","tracker_id":null,"points":[ {"x":1.50, "y":2} ]}]'
    )


@pytest.mark.parametrize("field", ["class_id", "detection_id", "tracker_id", "points", "keypoints"])
def test_each_of_the_other_fields_is_kept(field: str) -> None:
    given: dict[str, Any] = {field: [1]}
    row = row_of(predictions=[prediction(**given)])
    assert row["detections_extra"] == f'[{{"{field}":[1]}}]'


def test_one_events_extras_are_not_its_neighbours() -> None:
    plain, odd = event(), event(predictions=[prediction(class_id=1)])
    rows = table(record_events(records([plain, odd, plain]), LIMITS), "inferences")
    assert [row["detections_extra"] for row in rows] == ["", '[{"class_id":1}]', ""]


# -- metadata


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"), ("", ""), ("1", "1"), ("é\n", "é\n"), (True, "true"), (False, "false"), (4, "4"), (-4, "-4"),
        (0.5, "0.5"), (4.0, "4.0"), (1e300, "1e+300"), (2**53 + 1, "9007199254740993"),
        (2**64 - 1, "18446744073709551615"), (-(2**63), "-9223372036854775808"),
        (2**64, "18446744073709551616"), (-(2**63) - 1, "-9223372036854775809"),
    ],
)  # fmt: skip
def test_a_metadata_value_is_kept_as_text(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_metadata_of_every_kind_is_a_map_of_texts() -> None:
    given = {"b": True, "n": 2**63, "f": 0.25, "t": "x", "": ""}
    assert row_of(metadata=given)["metadata"] == {"b": "true", "n": str(2**63), "f": "0.25", "t": "x", "": ""}


def test_each_row_has_its_own_metadata_and_tags() -> None:
    values = [event(metadata={"a": 1, "b": 2}, tags=["x"]), event(), event(metadata={"c": 3}, tags=["y", "z"])]
    rows = table(record_events(records(values), LIMITS), "inferences")
    assert [row["metadata"] for row in rows] == [{"a": "1", "b": "2"}, {}, {"c": "3"}]
    assert [row["tags"] for row in rows] == [["x"], [], ["y", "z"]]


# -- what is refused


def test_refused_records_are_dead_letters_and_the_others_rows() -> None:
    values = [event(event_id="a"), b"{", event(latency_ms=-1), event(event_id="b"), None]
    recorded = record_events(records(values, first_offset=10, keys=[b"k", b"\xff", None, b"k", b""]), LIMITS)
    assert [(row["event_id"], row["kafka_offset"]) for row in table(recorded, "inferences")] == [("a", 10), ("b", 13)]
    letters = next(rows for rows in recorded.blocks if rows.table == "dead_letters")
    found = read_block(letters.body, strings=bytes)[1]
    in_kafka = ("kafka_topic", "kafka_partition", "kafka_offset", "kafka_time")
    names = ("reason", "field", *in_kafka, "key", "value", "value_bytes")
    assert {*names} == found[0].keys()
    assert [[row[name] for name in names] for row in found] == [
        [b"not_json", b"", b"inference.events", 3, 11, START_MS + 1, b"\xff", b"{", 1],
        [
            b"out_of_range",
            b"latency_ms",
            b"inference.events",
            3,
            12,
            START_MS + 2,
            b"",
            values[2],
            len(values[2] or b""),
        ],
        [b"not_json", b"", b"inference.events", 3, 14, START_MS + 4, b"", b"", 0],
    ]
    assert letters.offsets.tolist() == [11, 12, 14]
    assert recorded.refused == {Reason.NOT_JSON: 2, Reason.OUT_OF_RANGE: 1}


def test_an_event_is_judged_by_its_own_records_time() -> None:
    late = START_MS - LIMITS.age_ms_max  # 30 days before the first record, a millisecond more before the second
    recorded = record_events(records([event(event_time_ms=late)] * 2), LIMITS)
    assert [row["kafka_offset"] for row in table(recorded, "inferences")] == [100]
    assert [row["field"] for row in table(recorded, "dead_letters")] == ["event_time_ms"]


@pytest.mark.parametrize("size", [DEAD_LETTER_BYTES_MAX - 1, DEAD_LETTER_BYTES_MAX, DEAD_LETTER_BYTES_MAX + 1, 2 << 20])
def test_a_dead_letter_keeps_64_kib_of_its_value_and_says_how_much_there_was(size: int) -> None:
    value = b"x" * (size - 1) + b"y"
    (row,) = table(record_events(records([value]), LIMITS), "dead_letters")
    assert row["value"] == value.decode()[: 64 * 1024]
    assert row["value_bytes"] == size
    assert row["reason"] == ("too_large" if size > 1 << 20 else "not_json")


@pytest.mark.parametrize(
    ("values", "tables"),
    [([event()], ["inferences"]), ([b"{"], ["dead_letters"]), ([b"{", event()], ["inferences", "dead_letters"])],
)
def test_a_table_without_rows_is_not_written(values: list[bytes | None], tables: list[str]) -> None:
    assert [rows.table for rows in record_events(records(values), LIMITS).blocks] == tables


# -- rows that are put back


def test_rows_can_be_taken_by_number_with_all_that_belongs_to_them() -> None:
    values = [event(event_id=name, predictions=[prediction(name)] * n, tags=[name] * n) for n, name in enumerate("abc")]
    (rows,) = record_events(records(values), LIMITS).blocks
    some = rows.take(np.array([2, 0]))
    assert isinstance(some, Block)
    assert (some.table, len(some), some.offsets.tolist()) == ("inferences", 2, [102, 100])
    whole = read_block(rows.body)[1]
    assert repr(read_block(some.body)[1]) == repr([whole[2], whole[0]])  # as text: NaN is not itself
