"""Valid things, changing only what a test is about."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from pipeline.core.batch import Batch
from schemas.aggregate import AggregateRecord, Histogram, Rows, encode
from schemas.event import TimeLimits
from schemas.windows import CLASSES, MODELS, Summary, WindowTable

START_MS = 1_795_373_680_000  # the start of a window; broker timestamps begin here
LIMITS = TimeLimits()
FAR_MS = START_MS + 100 * 86_400_000  # by then every window has ended


def prediction(class_name: str = "person", confidence: float = 0.91, **more: Any) -> dict[str, Any]:
    """One detection."""
    return {"class": class_name, "confidence": confidence, **more}


def event(**fields: Any) -> bytes:
    """An inference at START_MS: acme's model helmets/3 on cam-7 saw one person in 43.2 ms. None: field not given."""
    whole = {
        "event_id": "e",
        "event_time_ms": START_MS,
        "workspace": "acme",
        "model_id": "helmets/3",
        "device_id": "cam-7",
        "latency_ms": 43.2,
        "predictions": [prediction()],
    } | fields
    return orjson.dumps({name: value for name, value in whole.items() if value is not None})


def heartbeat(**fields: Any) -> bytes:
    """A beat of cam-7. None: field not given."""
    whole = {"device_id": "cam-7", "workspace": "acme", "sent_at_ms": START_MS, "interval_ms": 30_000} | fields
    return orjson.dumps({name: value for name, value in whole.items() if value is not None})


def metadata(**fields: Any) -> bytes:
    """A label, added to inference `e` afterwards."""
    whole = {"workspace": "acme", "inference_id": "e", "field": "label", "value": "ok", "sent_at_ms": START_MS}
    return orjson.dumps(whole | fields)


def vision_record(**fields: Any) -> bytes:
    """A quality check as it goes to ClickHouse."""
    whole = {
        "workspace": "acme",
        "event_id": "v",
        "event_time_ms": START_MS,
        "use_case_id": "bolts",
        "event_type": "quality_check",
        "classes": ["bolt"],
        "confidences": [0.91],
        "event_data": {"result": '"fail"'},
        "body": {"eventId": "v"},
    }
    return orjson.dumps(whole | fields)


def records(
    values: Sequence[bytes | None],
    *,
    topic: str = "inference.events",
    partition: int = 3,
    first_offset: int = 100,
    keys: Sequence[bytes | None] | None = None,
) -> Batch:
    """Records of one partition, a millisecond apart."""
    count = len(values)
    return Batch(
        topic,
        partition,
        list(range(first_offset, first_offset + count)),
        list(range(START_MS, START_MS + count)),
        [None] * count if keys is None else keys,
        values,
    )


def histograms(*rows: dict[int, int]) -> Histogram:
    """A histogram a row, as schemas.aggregate has it."""
    return (
        np.array([len(row) for row in rows], np.int64),
        np.array([key for row in rows for key in row], np.int64),
        np.array([count for row in rows for count in row.values()], np.int64),
    )


MODEL_ROW: dict[str, Any] = {
    "window_start_s": START_MS // 1000,
    "workspace": "acme",
    "model_id": "helmets/3",
    "device_id": "cam-7",
    "inference_count": 7,
    "error_count": 1,
    "empty_count": 2,
    "detection_count": 6,
    "latency_count": 5,
    "latency_us_sum": 500,
    "latency_us_min": 80,
    "latency_us_max": 120,
    "latency_histogram": {220: 3, 231: 2},
    "confidence_ppm_sum": 3_000_000,
    "confidence_ppm_sum_sq": 1_540_000_000_000,
    "confidence_ppm_min": 400_000,
    "confidence_ppm_max": 600_000,
    "confidence_histogram": {40: 2, 50: 2, 60: 2},
}
CLASS_ROW: dict[str, Any] = {
    "window_start_s": START_MS // 1000,
    "workspace": "acme",
    "model_id": "helmets/3",
    "class": "person",
    "detection_count": 6,
    "inference_count": 4,
    "confidence_ppm_sum": 3_000_000,
    "confidence_ppm_sum_sq": 1_540_000_000_000,
    "confidence_ppm_min": 400_000,
    "confidence_ppm_max": 600_000,
    "confidence_histogram": {40: 2, 50: 2, 60: 2},
}


def batch(offsets: Sequence[int], times_ms: Sequence[int], values: Sequence[bytes | None]) -> Batch:
    """Records of one partition of events."""
    return Batch("inference.events", 3, offsets, times_ms, [None] * len(values), values)


def log_batch(log: "Sequence[LogRecord]") -> Batch:
    """The same, from records as they lie in the log."""
    return batch([r.offset for r in log], [r.time_ms for r in log], [r.value for r in log])


def window_rows(table: WindowTable, rows: Sequence[dict[str, Any]]) -> Rows:
    """Rows of a table. Each says what differs from MODEL_ROW, from CLASS_ROW."""
    whole = [(MODEL_ROW if table is MODELS else CLASS_ROW) | row for row in rows]
    numbers = {}
    for column in table.columns:
        if column.summary is not Summary.HISTOGRAM:
            values = [row[column.name] for row in whole]
            parts = [[value >> 32, value & 0xFFFFFFFF] for value in values] if column.is_wide else values
            numbers[column.name] = np.array(parts, np.int64).reshape(len(rows), *((2,) if column.is_wide else ()))
    return Rows(
        np.array([row["window_start_s"] for row in whole], np.int64),
        {name: [row[name] for row in whole] for name in table.keys},
        numbers,
        {name: histograms(*(row[name] for row in whole)) for name in table.named(Summary.HISTOGRAM)},
    )


def aggregate(
    start: Sequence[int] = (0, 0, 0, 0),
    end: Sequence[int] = (0, 10, START_MS, 0),
    *,
    source: int = 0,
    models: Sequence[dict[str, Any]] = ({},),
    classes: Sequence[dict[str, Any]] = ({},),
) -> bytes:
    """A link of the chain. Each of `models` and `classes` is a row: what differs from MODEL_ROW, from CLASS_ROW."""
    cut = [start[1], start[1], start[2], end[1], end[2], 1, end[0]]
    rows = window_rows(MODELS, models), window_rows(CLASSES, classes)
    return encode(AggregateRecord(source, list(start), list(end), cut, end[1], *rows))


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of inference.events as it lies in its partition."""

    offset: int
    time_ms: int  # the broker's
    value: bytes | None


# Sorted by text these are in another order than by first use, and some hold what JSON must escape.
_SERIES = (("w", "b/2", "cam"), ("w", "b/1", None), ("w", "a", "z\n"), ("é", "a", "cam"))
_CLASSES = ("person", "car", "Ж", 'quo"te', "a" * 80)
_REFUSED = (
    None,
    b"",
    b"{",
    b'{"event_id": "e"}',
    event(latency_ms=-1),
    event(event_time_ms=START_MS - 40 * 86_400_000),
    event(predictions=[prediction(confidence=1.5)]),
    event(schema=2),
)


def random_log(seed: int, count: int) -> list[LogRecord]:
    """Events of a few models: some late, some ahead of time, some refused, offsets with holes as transactions leave."""
    rng = random.Random(seed)
    offset, time_ms = rng.randint(0, 1000), START_MS
    log = []
    for _ in range(count):
        offset += 1 + (rng.random() < 0.05) * rng.randint(1, 3)
        time_ms += rng.choice((0, 1, 400, 900, 2500))
        log.append(LogRecord(offset, time_ms, _random_value(rng, time_ms)))
    return log


def _random_value(rng: random.Random, time_ms: int) -> bytes | None:
    if rng.random() < 0.08:
        return rng.choice(_REFUSED)
    workspace, model, device = rng.choice(_SERIES)
    behind_ms = rng.choice((0, 0, 0, 50, 3000, 3000, 15_000, 70_000, -12_000, -60_000))
    predictions = [
        prediction(rng.choice(_CLASSES), rng.choice((0, 1, 0.5, rng.random(), rng.random())))
        for _ in range(rng.choice((0, 1, 1, 2, 5)))
    ]
    return event(
        event_time_ms=time_ms - behind_ms,
        workspace=workspace,
        model_id=model,
        device_id=device,
        latency_ms=rng.choice((None, 0, 0.0004, 0.0006, 7, 1000 * rng.random(), 86_400_000 * rng.random() ** 9)),
        predictions=predictions,
        error=rng.choice((None, None, None, "", "out of memory")),
    )
