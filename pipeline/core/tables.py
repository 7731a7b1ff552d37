"""What records become: the rows of each ClickHouse table, as a function of the records alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from msgspec import UNSET

from pipeline.core.ledger import Chain, Position, Verdict
from pipeline.core.native import Column, Lists, Maps, NullableNumbers, Numbers, Strings, block
from pipeline.core.tally import Ints
from schemas import aggregate, event, heartbeat, metadata
from schemas.event import InferenceEvent, Prediction, TimeLimits
from schemas.rejection import Reason, Rejected

DEAD_LETTER_BYTES_MAX = 64 << 10  # what is kept of a refused record's value
_NOT_GIVEN = float("nan")


@dataclass(frozen=True, slots=True)
class Records:
    """Some records of one partition, in log order."""

    topic: str  # as on the broker
    partition: int
    offsets: Sequence[int]
    times_ms: Sequence[int]  # the broker's
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows for one table. `offsets` says of which records, shape (rows,)."""

    table: str
    columns: Mapping[str, Column]
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: Ints) -> "TableRows":
        """These rows, in this order."""
        return TableRows(self.table, {n: c.take(rows) for n, c in self.columns.items()}, self.offsets[rows])

    def native(self) -> bytes:
        """The rows as one block."""
        return block(self.columns, len(self))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a cut of the recorder holds: rows by table, what was refused, what the chain said."""

    tables: tuple[TableRows, ...]
    refused: Counter[Reason] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    chain: Mapping[int, Position] = field(default_factory=dict)  # positions after it


class _Rows:
    """Accepted records, split from refused ones."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.positions: list[int] = []
        self.refused: list[tuple[int, Rejected]] = []

    def log_columns(self) -> dict[str, Column]:
        """Where each row comes from: how a table is asked whether a cut is in."""
        taken = np.array(self.positions, np.int64)
        partition = np.full(len(taken), self.records.partition, np.int64)
        return {
            "kafka_partition": Numbers("UInt16", partition),
            "kafka_offset": Numbers("UInt64", np.array(self.records.offsets, np.int64)[taken]),
            "kafka_time": Numbers("DateTime64(3)", np.array(self.records.times_ms, np.int64)[taken]),
        }

    def recorded(self, table: str, columns: Mapping[str, Column], **more: Any) -> Recorded:
        """The rows of `table`, and those of dead_letters."""
        offsets = np.array(self.records.offsets, np.int64)[np.array(self.positions, np.int64)]
        tables = [TableRows(table, {**columns, **self.log_columns()}, offsets)]
        if self.refused:
            tables.append(_dead_letters(self.records, self.refused))
        refused = Counter(rejected.reason for _, rejected in self.refused)
        return Recorded(tuple(t for t in tables if len(t)), refused, **more)


def record_events(records: Records, limits: TimeLimits) -> Recorded:
    """inference.events -> inferences."""
    rows, events = _Rows(records), _EventRows()
    for position, (time_ms, raw) in enumerate(zip(records.times_ms, records.values, strict=True)):
        value = event.decode(raw, time_ms, limits)
        if isinstance(value, Rejected):
            rows.refused.append((position, value))
        else:
            rows.positions.append(position)
            events.add(value)
    return rows.recorded("inferences", events.columns())


class _EventRows:
    """The columns of `inferences`, growing by an event at a time."""

    def __init__(self) -> None:
        self.head: list[tuple[Any, ...]] = []
        self.boxes: list[tuple[float | None, ...]] = []
        self.classes: list[str] = []
        self.confidences: list[float] = []
        self.extra: list[bytes] = []
        self.sizes: list[int] = []
        self.metadata: list[Mapping[str, Any]] = []
        self.tags: list[Sequence[str]] = []
        self.images: list[event.Image] = []

    def add(self, value: InferenceEvent) -> None:
        self.head.append(
            (
                value.event_id,
                value.event_time_ms,
                value.workspace,
                value.model_id,
                value.device_id or "",
                -1.0 if value.latency_ms is None else value.latency_ms,
                value.error or "",
                value.source or "",
                value.deployment or "",
                value.server_version or "",
            )
        )
        self.images.append(value.image or _NO_IMAGE)
        self.metadata.append(value.metadata or _NOTHING)
        self.tags.append(value.tags or ())
        predictions = value.predictions
        self.sizes.append(len(predictions))
        more = False
        for p in predictions:
            self.classes.append(p.class_name)
            self.confidences.append(p.confidence)
            self.boxes.append((p.x, p.y, p.width, p.height))
            more = more or not (p.class_id is p.detection_id is p.tracker_id is p.points is p.keypoints is UNSET)
        self.extra.append(_extra(predictions) if more else b"")

    def columns(self) -> dict[str, Column]:
        if not self.head:
            return {}
        ids, times, workspaces, models, devices, latency_ms, errors, sources, deployments, versions = zip(
            *self.head, strict=True
        )
        latency = np.array(latency_ms)
        sizes = np.array(self.sizes, np.int64)
        with np.errstate(over="ignore"):  # a box beyond Float32 becomes infinite, which is what it is
            boxes = np.array(self.boxes, np.float64).astype(np.float32).reshape(-1, 4)
        ppm = np.rint(np.array(self.confidences, np.float64) * 1e6)
        return {
            "event_id": Strings(ids),
            "event_time": Numbers("DateTime64(3)", np.array(times, np.int64)),
            "workspace": Strings(workspaces),
            "model_id": Strings(models),
            "device_id": Strings(devices),
            "latency_us": NullableNumbers(Numbers("UInt64", np.rint(np.maximum(latency, 0) * 1000)), latency >= 0),
            "detections.class": Lists(sizes, Strings(self.classes)),
            "detections.confidence_ppm": Lists(sizes, Numbers("UInt32", ppm)),
            "detections.x": Lists(sizes, Numbers("Float32", boxes[:, 0])),
            "detections.y": Lists(sizes, Numbers("Float32", boxes[:, 1])),
            "detections.width": Lists(sizes, Numbers("Float32", boxes[:, 2])),
            "detections.height": Lists(sizes, Numbers("Float32", boxes[:, 3])),
            "detections_extra": Strings(self.extra),
            "error": Strings(errors),
            "image_width": Numbers("UInt32", np.array([i.width or 0 for i in self.images])),
            "image_height": Numbers("UInt32", np.array([i.height or 0 for i in self.images])),
            "image_url": Strings([i.url or "" for i in self.images]),
            "metadata": _metadata_maps(self.metadata),
            "tags": _string_lists(self.tags),
            "source": Strings(sources),
            "deployment": Strings(deployments),
            "server_version": Strings(versions),
        }


_NO_IMAGE = event.Image()
_NOTHING: Mapping[str, Any] = {}
_EXTRA_FIELDS = ("class_id", "detection_id", "tracker_id", "points", "keypoints")


def _extra(predictions: Sequence[Prediction]) -> bytes:
    """What else the detections had, as JSON: a list of objects, one a detection."""
    objects = []
    for p in predictions:
        given = [(name, value) for name in _EXTRA_FIELDS if (value := getattr(p, name)) is not UNSET]
        objects.append(b"{" + b",".join(b'"%b":%b' % (name.encode(), bytes(value)) for name, value in given) + b"}")
    return b"[" + b",".join(objects) + b"]"


def text_of(value: event.MetadataValue) -> str:
    """A metadata value as ClickHouse keeps it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode() if _fits(value) else str(value)


def _fits(value: float) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**64


def _metadata_maps(rows: Sequence[Mapping[str, Any]]) -> Maps:
    sizes = np.array([len(row) for row in rows], np.int64)
    keys = [key for row in rows for key in row]
    return Maps(sizes, Strings(keys), Strings([text_of(value) for row in rows for value in row.values()]))


def _string_lists(rows: Sequence[Sequence[str]]) -> Lists:
    return Lists(np.array([len(row) for row in rows], np.int64), Strings([text for row in rows for text in row]))


def _dead_letters(records: Records, refused: Sequence[tuple[int, Rejected]]) -> TableRows:
    positions = np.array([position for position, _ in refused], np.int64)
    values = [records.values[position] or b"" for position, _ in refused]
    offsets = np.array(records.offsets, np.int64)[positions]
    columns: dict[str, Column] = {
        "reason": Strings([rejected.reason.value for _, rejected in refused]),
        "field": Strings([rejected.field for _, rejected in refused]),
        "kafka_topic": Strings([records.topic] * len(refused)),
        "kafka_partition": Numbers("UInt16", np.full(len(refused), records.partition)),
        "kafka_offset": Numbers("UInt64", offsets),
        "kafka_time": Numbers("DateTime64(3)", np.array(records.times_ms, np.int64)[positions]),
        "key": Strings([records.keys[position] or b"" for position, _ in refused]),
        "value": Strings([value[:DEAD_LETTER_BYTES_MAX] for value in values]),
        "value_bytes": Numbers("UInt64", np.array([len(value) for value in values])),
    }
    return TableRows("dead_letters", columns, offsets)


def _decoded(records: Records, decode: Callable[[bytes | None], Any]) -> tuple[_Rows, list[Any]]:
    rows, values = _Rows(records), []
    for position, raw in enumerate(records.values):
        value = decode(raw)
        if isinstance(value, Rejected):
            rows.refused.append((position, value))
        else:
            rows.positions.append(position)
            values.append(value)
    return rows, values


def record_heartbeats(records: Records) -> Recorded:
    """inference.heartbeats -> device_heartbeats."""
    rows, beats = _decoded(records, heartbeat.decode)
    return rows.recorded(
        "device_heartbeats",
        {
            "workspace": Strings([b.workspace for b in beats]),
            "device_id": Strings([b.device_id for b in beats]),
            "sent_at": Numbers("DateTime64(3)", np.array([b.sent_at_ms for b in beats], np.int64)),
            "interval_ms": Numbers("UInt64", np.array([b.interval_ms for b in beats], np.int64)),
            "server_id": Strings([b.server_id or "" for b in beats]),
            "version": Strings([b.version or "" for b in beats]),
            "tags": _string_lists([b.tags or () for b in beats]),
            "boot_id": Strings([b.boot_id or "" for b in beats]),
            "status": Strings([b.status or "" for b in beats]),
            "expected_downtime_ms": Numbers("UInt64", np.array([b.expected_downtime_ms or 0 for b in beats], np.int64)),
        },
    )


def record_metadata(records: Records) -> Recorded:
    """inference.metadata -> inference_metadata."""
    rows, values = _decoded(records, metadata.decode)
    return rows.recorded(
        "inference_metadata",
        {
            "workspace": Strings([v.workspace for v in values]),
            "inference_id": Strings([v.inference_id for v in values]),
            "field": Strings([v.field for v in values]),
            "value": Strings([text_of(v.value) for v in values]),
            "sent_at": Numbers("DateTime64(3)", np.array([v.sent_at_ms for v in values], np.int64)),
        },
    )


def record_aggregates(records: Records, positions: Mapping[int, Position]) -> Recorded:
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
    source = records.partition, records.offsets[-1]
    tables = [_model_windows(taken, *source), _class_windows(taken, *source)]
    if refused:
        tables.append(_dead_letters(records, refused))
    reasons = Counter(rejected.reason for _, rejected in refused)
    return Recorded(tuple(t for t in tables if len(t)), reasons, verdicts, chain.snapshot())


_Taken = Sequence[tuple[int, aggregate.AggregateRecord]]


def _model_windows(taken: _Taken, partition: int, last_offset: int) -> TableRows:
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
    return _window_rows("model_windows_in", columns, parts, partition, last_offset)


_MODEL_COUNTS = ("inference_count", "error_count", "empty_count", "detection_count", "latency_count")


def _class_windows(taken: _Taken, partition: int, last_offset: int) -> TableRows:
    parts = [(offset, record.classes) for offset, record in taken]
    columns = _key_columns(parts, "workspace", "model_id", "class_name")
    columns["class"] = columns.pop("class_name")
    columns |= {name: Numbers("UInt64", _ints(parts, name)) for name in ("detection_count", "inference_count")}
    return _window_rows("class_windows_in", columns | _confidence_columns(parts), parts, partition, last_offset)


_Parts = Sequence[tuple[int, Any]]


def _window_rows(table: str, columns: dict[str, Column], parts: _Parts, partition: int, last_offset: int) -> TableRows:
    sizes = [len(part.window_start_s) for _, part in parts]
    count = sum(sizes)
    one = np.ones(count, np.int64)
    # Every row says which cut it came with, so that a table can be asked whether the cut is in.
    columns["source"] = Maps(one, Numbers("UInt16", one * partition), Numbers("UInt64", one * last_offset))
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
