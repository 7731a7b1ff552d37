"""Records of inference.aggregates: what is read, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas import aggregate
from schemas.aggregate import VERSION, AggregateRecord, Rows, decode, encode, with_all
from schemas.rejection import Reason, Rejected
from schemas.windows import MODELS, Measure, Summary, WindowColumn
from tests import builders
from tests.recount import plain_rows

RAW = builders.aggregate(models=[{}, {"device_id": "é"}], classes=[{}, {"class": ""}])


def record(raw: bytes = RAW) -> AggregateRecord:
    found = decode(raw)
    assert isinstance(found, AggregateRecord), found
    return found


def plain(rows: Rows) -> list[dict[str, Any]]:
    return [row for _, row in plain_rows(rows)]


def test_a_record_is_read_as_it_was_written() -> None:
    assert encode(record()) == RAW
    assert record().models.texts["device_id"] == ["cam-7", "é"]
    columns = {column.name for column in MODELS.columns}
    assert plain(record().models) == [{name: builders.MODEL_ROW[name] for name in columns}] * 2


def test_the_first_byte_is_the_version_and_another_is_refused() -> None:
    assert RAW[0] == VERSION
    for raw in (bytes((VERSION + 1,)) + RAW[1:], b"\0" + RAW[1:], b'{"version": 1}', b"", None):
        assert decode(raw) == Rejected(Reason.UNKNOWN_SCHEMA, "version")


@pytest.mark.parametrize("end", [1, 2, 10, len(RAW) // 2, len(RAW) - 1])
def test_a_record_that_is_cut_off_is_refused(end: int) -> None:
    assert isinstance(decode(RAW[:end]), Rejected)


def test_a_changed_byte_is_read_or_refused_and_never_raises() -> None:
    for place in range(1, len(RAW)):
        for byte in (0, 0x7F, 0x80, 0xC1, 0xFF):
            decode(RAW[:place] + bytes((byte,)) + RAW[place + 1 :])


def test_a_record_that_is_too_large_is_refused() -> None:
    assert decode(RAW + bytes(8 << 20)) == Rejected(Reason.TOO_LARGE, "")


def test_a_link_goes_forward() -> None:
    assert decode(builders.aggregate((0, 5, 1, 0), (0, 5, 1, 0))) == Rejected(Reason.OUT_OF_RANGE, "end")


def histogram(sizes: list[int], keys: list[int], counts: list[int]) -> tuple[Any, ...]:
    return np.array(sizes), np.array(keys), np.array(counts)


@pytest.mark.parametrize(
    ("of", "name", "column"),
    [
        ("texts", "device_id", ["a"]),
        ("numbers", "error_count", np.array([1])),
        ("numbers", "error_count", np.array([1, -1])),
        ("histograms", "latency_histogram", histogram([1], [5], [6])),
        ("histograms", "latency_histogram", histogram([1, 1], [5], [6])),
        ("histograms", "latency_histogram", histogram([1, 0], [5], [-6])),
    ],
)
def test_columns_of_another_length_and_counts_below_0_are_refused(of: str, name: str, column: Any) -> None:
    models = record().models
    changed: dict[str, Any] = {of: {**getattr(models, of), name: column}}
    torn = replace(models, **changed)
    assert decode(encode(replace(record(), models=torn))) == Rejected(Reason.OUT_OF_RANGE, name)


def test_a_column_that_came_later_is_0_in_older_records(monkeypatch: pytest.MonkeyPatch) -> None:
    older, saved = plain(record().models), record().models
    squares = WindowColumn("latency_us_sum_sq", Measure.LATENCY, Summary.SQUARES, "UInt128", since=VERSION + 1)
    errors = WindowColumn("error_histogram", Measure.ERROR, Summary.HISTOGRAM, "Map(Int32, UInt64)", since=VERSION + 1)
    more = replace(MODELS, columns=(squares, *MODELS.columns, errors))
    monkeypatch.setattr(aggregate, "MODELS", more)
    monkeypatch.setattr(aggregate, "VERSION", VERSION + 1)
    expected = [row | {"latency_us_sum_sq": 0, "error_histogram": {}} for row in older]
    assert plain(record().models) == expected
    assert plain(with_all(more, saved)) == expected
    newer = encode(record())
    assert newer[0] == VERSION + 1
    assert encode(record(newer)) == newer
