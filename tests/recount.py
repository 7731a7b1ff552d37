"""An independent count of a log, in plain Python: json, exact fractions, dictionaries. Shares no code with the core."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from math import ceil, log
from typing import Any

from schemas.aggregate import AggregateRecord
from tests.builders import LogRecord

# (table, window start in s, workspace, model, device or class) -> column -> value
Rows = dict[tuple[str, int, str, str, str], dict[str, Any]]

GAMMA = Fraction(101, 99)
DAY_MS = 86_400_000


@cache
def latency_bucket(latency_us: int) -> int:
    """The least b with latency <= g^b: a logarithm's guess, put right by exact fractions."""
    if latency_us == 0:
        return -(2**31)
    bucket = ceil(log(latency_us, float(GAMMA)))
    while GAMMA**bucket < latency_us:
        bucket += 1
    while GAMMA ** (bucket - 1) >= latency_us:
        bucket -= 1
    return bucket


def accepted(record: LogRecord) -> dict[str, Any] | None:
    """The event, if it is one that counts. It knows only what tests.builders makes."""
    try:
        event = json.loads(record.value or b"")
    except ValueError:
        return None
    if not event.keys() >= {"event_id", "event_time_ms", "workspace", "model_id"} or event.get("schema", 1) != 1:
        return None
    if not -30 * DAY_MS <= event["event_time_ms"] - record.time_ms <= 60_000 or event.get("latency_ms", 0) < 0:
        return None
    if any(not 0 <= p["confidence"] <= 1 for p in event["predictions"]):
        return None
    assert isinstance(event, dict)
    return event


def window_s(event: dict[str, Any]) -> int:
    """The start of the event's window, in seconds."""
    return int(event["event_time_ms"]) // 10_000 * 10


def recount(log: Iterable[LogRecord]) -> Rows:
    """All rows that the events of a log make."""
    rows: Rows = {}
    for record in log:
        if (event := accepted(record)) is not None:
            count_event(rows, event)
    return rows


def count_event(rows: Rows, event: dict[str, Any]) -> None:
    """Adds one event."""
    where = window_s(event), event["workspace"], event["model_id"]
    predictions, latency_ms = event["predictions"], event.get("latency_ms")
    row = rows.setdefault(("model", *where, event.get("device_id", "")), new_row("model"))
    row["inference_count"] += 1
    row["error_count"] += bool(event.get("error"))
    row["empty_count"] += not predictions
    if latency_ms is not None:
        _add(row, "latency", "latency_us", "latency_count", us := round(latency_ms * 1000), latency_bucket(us))
    for p in predictions:
        ppm = round(p["confidence"] * 1_000_000)
        for of in (row, rows.setdefault(("class", *where, p["class"]), new_row("class"))):
            _add(of, "confidence", "confidence_ppm", "detection_count", ppm, ppm // 10_000)
            of["confidence_ppm_sum_sq"] += ppm**2
    for name in {p["class"] for p in predictions}:
        rows["class", *where, name]["inference_count"] += 1


def new_row(table: str) -> dict[str, Any]:
    """A row of nothing."""
    row: dict[str, Any] = {"inference_count": 0, "detection_count": 0}
    row |= {"confidence_ppm_sum": 0, "confidence_ppm_sum_sq": 0, "confidence_ppm_min": None, "confidence_ppm_max": None}
    row |= {"confidence_histogram": Counter()}
    if table == "model":
        row |= {"error_count": 0, "empty_count": 0, "latency_count": 0}
        row |= {"latency_us_sum": 0, "latency_us_min": None, "latency_us_max": None, "latency_histogram": Counter()}
    return row


def _add(row: dict[str, Any], name: str, value: str, count: str, number: int, bucket: int) -> None:
    row[count] += 1
    row[f"{value}_sum"] += number
    row[f"{value}_min"] = number if row[f"{value}_min"] is None else min(number, row[f"{value}_min"])
    row[f"{value}_max"] = number if row[f"{value}_max"] is None else max(number, row[f"{value}_max"])
    row[f"{name}_histogram"][bucket] += 1


def merged(records: Iterable[AggregateRecord]) -> Rows:
    """What a reader of inference.aggregates has after these records."""
    rows: Rows = {}
    for record in records:
        for table, found in (("model", record.models), ("class", record.classes)):
            for key, row in plain_rows(found):
                _merge_row(rows.setdefault((table, *key), new_row(table)), row)
    return rows


def plain_rows(rows: Any) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(key, column -> value) of each row; the histograms as counters."""
    ends = {name: sizes.cumsum() for name, (sizes, _, _) in rows.histograms.items()}
    for i, window_start_s in enumerate(rows.window_start_s.tolist()):
        row: dict[str, Any] = {}
        for name, column in rows.numbers.items():
            row[name] = int(column[i]) if column.ndim == 1 else (int(column[i, 0]) << 32) + int(column[i, 1])
        for name, (sizes, keys, counts) in rows.histograms.items():
            entries = slice(ends[name][i] - sizes[i], ends[name][i])
            assert (counts[entries] > 0).all()
            row[name] = Counter(dict(zip(keys[entries].tolist(), counts[entries].tolist(), strict=True)))
            assert len(row[name]) == sizes[i]
        yield (window_start_s, *(texts[i] for texts in rows.texts.values())), row


def _merge_row(into: dict[str, Any], row: dict[str, Any]) -> None:
    assert into.keys() == row.keys()
    for name, value in row.items():
        if not name.endswith(("_min", "_max")):
            into[name] += value
        elif row["latency_count" if name.startswith("latency") else "detection_count"]:
            pick = min if name.endswith("_min") else max
            into[name] = value if into[name] is None else pick(value, into[name])
        else:
            assert value == 0  # says nothing, but the bytes must not vary
