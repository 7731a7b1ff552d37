"""inference.aggregates -> model_windows_in and class_windows_in, which feed the window tables and their rollups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import Position, mark
from pipeline.core.rows.native import Column, Maps, NullableNumbers, Numbers, Strings
from pipeline.core.rows.tables import Recorded, Records, TableRows, dead_letters
from pipeline.core.tally import Ints
from schemas import aggregate
from schemas.rejection import Rejected


def record_aggregates(records: Records, positions: Mapping[int, Position], epoch: int = 0) -> Recorded:
    """inference.aggregates -> model_windows and class_windows, each link of the chain once."""
    chain, verdicts = Chain(positions), Counter[Verdict]()
    taken: list[tuple[int, aggregate.AggregateRecord]] = []
    refused: list[tuple[int, Rejected]] = []
    for position, raw in enumerate(records.values):
        record = aggregate.decode(raw)
        if isinstance(record, Rejected):
            refused.append((position, record))
            continue
        verdict = chain.observe(record.source, Position(*record.start), Position(*record.end))
        verdicts[verdict] += 1
        if verdict is not Verdict.REPEAT:
            taken.append((records.offsets[position], record))
    source = records.partition, mark(epoch, records.offsets[-1])
    tables = [_model_windows(taken, *source), _class_windows(taken, *source)]
    if refused:
        tables.append(dead_letters(records, refused))
    reasons = Counter(rejected.reason for _, rejected in refused)
    return Recorded(tuple(t for t in tables if len(t)), reasons, verdicts, chain.snapshot())


_Taken = Sequence[tuple[int, aggregate.AggregateRecord]]


def followed(values: Sequence[bytes | None], positions: Mapping[int, Position]) -> Mapping[int, Position]:
    """The chain's positions behind records of inference.aggregates that need not be recorded again."""
    chain = Chain(positions)
    for raw in values:
        record = aggregate.decode(raw)
        if not isinstance(record, Rejected):
            chain.follow(record.source, Position(*record.end))
    return chain.snapshot()


def _model_windows(taken: _Taken, partition: int, last_mark: int) -> TableRows:
    parts = [(offset, record.models) for offset, record in taken]
    latency_known = _ints(parts, "latency_count") > 0
    columns: dict[str, Column] = {
        **_key_columns(parts, "workspace", "model_id", "device_id"),
        **{name: Numbers("UInt64", _ints(parts, name)) for name in _MODEL_COUNTS},
        "latency_us_sum": Numbers("UInt64", _ints(parts, "latency_us_sum")),
        "latency_us_min": NullableNumbers(Numbers("UInt64", _ints(parts, "latency_us_min")), latency_known),
        "latency_us_max": NullableNumbers(Numbers("UInt64", _ints(parts, "latency_us_max")), latency_known),
        "latency_histogram": _histogram_maps(parts, "latency_histogram"),
        **_confidence_columns(parts),
    }
    return _window_rows("model_windows_in", columns, parts, partition, last_mark)


_MODEL_COUNTS = ("inference_count", "error_count", "empty_count", "detection_count", "latency_count")


def _class_windows(taken: _Taken, partition: int, last_mark: int) -> TableRows:
    parts = [(offset, record.classes) for offset, record in taken]
    columns = _key_columns(parts, "workspace", "model_id", "class_name")
    columns["class"] = columns.pop("class_name")
    columns |= {name: Numbers("UInt64", _ints(parts, name)) for name in ("detection_count", "inference_count")}
    return _window_rows("class_windows_in", columns | _confidence_columns(parts), parts, partition, last_mark)


_Parts = Sequence[tuple[int, Any]]


def _window_rows(table: str, columns: dict[str, Column], parts: _Parts, partition: int, last_mark: int) -> TableRows:
    sizes = [len(part.window_start_s) for _, part in parts]
    count = sum(sizes)
    one = np.ones(count, np.int64)
    # Every row says which cut it came with, so that a table can be asked whether the cut is in.
    columns["source"] = Maps(one, Numbers("UInt16", one * partition), Numbers("UInt64", one * last_mark))
    return TableRows(table, columns, np.repeat(np.array([offset for offset, _ in parts], np.int64), sizes))


def _key_columns(parts: _Parts, *names: str) -> dict[str, Column]:
    return {
        **{name: Strings([text for _, part in parts for text in getattr(part, name)]) for name in names},
        "window_start": Numbers("DateTime", _ints(parts, "window_start_s")),
    }


def _confidence_columns(parts: _Parts) -> dict[str, Column]:
    known = _ints(parts, "detection_count") > 0
    return {
        "confidence_ppm_sum": Numbers("UInt64", _ints(parts, "confidence_ppm_sum")),
        "confidence_ppm_min": NullableNumbers(Numbers("UInt32", _ints(parts, "confidence_ppm_min")), known),
        "confidence_ppm_max": NullableNumbers(Numbers("UInt32", _ints(parts, "confidence_ppm_max")), known),
        "confidence_histogram": _histogram_maps(parts, "confidence_histogram"),
    }


def _histogram_maps(parts: _Parts, name: str) -> Maps:
    histograms = [getattr(part, name) for _, part in parts]
    sizes, keys, counts = (
        np.array([n for h in histograms for n in getattr(h, field_)], np.int64)
        for field_ in ("sizes", "keys", "counts")
    )
    return Maps(sizes, Numbers("Int32", keys), Numbers("UInt64", counts))


def _ints(parts: _Parts, name: str) -> Ints:
    return np.array([number for _, part in parts for number in getattr(part, name)], np.int64)
