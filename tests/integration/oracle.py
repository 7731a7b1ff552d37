"""What must be in ClickHouse, by the plainest means: the topics read again, JSON, dictionaries, whole numbers.

Nothing of pipeline.core is used here: what the pipeline makes of an event and what this makes of it agree, or one of
them is wrong. Every column of every row is compared; rows are compared as multisets.
"""

import asyncio
import base64
import hashlib
import json
import math
import struct
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from pipeline.config import Settings

EVENTS, HEARTBEATS, METADATA = "inference.events", "inference.heartbeats", "inference.metadata"
TOPICS = (EVENTS, HEARTBEATS, METADATA)
ROLLUPS = {"": 10, "_1m": 60, "_1h": 3600, "_1d": 86_400}
JUNK = "~junk"  # workspace (or topic) of rows that a test put in to spend a token
MIB = 1 << 20
NO_LATENCY_KEY = -2_147_483_648
FINDINGS_MAX = 4

Log = dict[tuple[str, int], list[ConsumerRecord]]  # (topic without prefix, partition) -> its records


# -- what is accepted, said once more


class Refused(Exception):
    """Carries the reason."""


def _no_constant(name: str) -> float:
    raise ValueError(name)


def parse(raw: bytes | None) -> dict[str, Any]:
    """The object in a record, or Refused."""
    if raw is None:
        raise Refused("not_json")
    if len(raw) > MIB or _depth(raw) > 500:
        raise Refused("too_large")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except ValueError:
        raise Refused("not_json") from None
    if not isinstance(value, dict):
        raise Refused("wrong_type")
    return value


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    in_string = escaped = False
    if raw.count(b"[") + raw.count(b"{") <= 500:
        return 0
    for byte in raw:
        if in_string:
            in_string, escaped = escaped or byte != 0x22, not escaped and byte == 0x5C
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _take(found: Mapping[str, Any], name: str, kinds: tuple[type, ...], least: float, most: float, need: bool) -> Any:
    """A field: its type, and its length or its value within bounds."""
    if name not in found:
        if need:
            raise Refused("missing_field")
        return None
    value = found[name]
    if value is None and not need:
        return None
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise Refused("wrong_type")
    measured: Any = value
    size = measured if isinstance(measured, int | float) else len(measured)
    if not least <= size <= most:
        raise Refused("out_of_range")
    return value


def _version(found: Mapping[str, Any]) -> None:
    if _take(found, "schema", (int,), -math.inf, math.inf, need=False) not in (None, 1):
        raise Refused("unknown_schema")


def _texts(found: Mapping[str, Any], name: str, item_max: int, count_max: int) -> tuple[str, ...]:
    texts = _take(found, name, (list,), 0, count_max, need=False) or ()
    if not all(isinstance(text, str) for text in texts):
        raise Refused("wrong_type")
    if any(len(text) > item_max for text in texts):
        raise Refused("out_of_range")
    return tuple(texts)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the windows need of an event."""

    workspace: str
    model_id: str
    device_id: str
    time_ms: int
    latency_us: int | None
    failed: bool
    detections: tuple[tuple[str, int], ...]  # class, confidence in ppm


def event(raw: bytes | None, broker_ms: int, settings: Settings) -> tuple[Seen, tuple[Any, ...]]:
    """An event: what the windows need, and its row without the Kafka columns. Raises Refused."""
    e = parse(raw)
    number = (int, float)
    event_id = _take(e, "event_id", (str,), 1, 128, need=True)
    time_ms = _take(e, "event_time_ms", (int,), -(2**63), 2**63 - 1, need=True)
    workspace = _take(e, "workspace", (str,), 1, 256, need=True)
    model_id = _take(e, "model_id", (str,), 1, 256, need=True)
    device_id = _take(e, "device_id", (str,), 0, 256, need=False) or ""
    latency_ms = _take(e, "latency_ms", number, 0, 86_400_000, need=False)
    detections, boxes, extra = _detections(e)
    error = _take(e, "error", (str,), 0, 10_000, need=False) or ""
    image = _take(e, "image", (dict,), 0, math.inf, need=False) or {}
    width, height = (_take(image, side, (int,), 0, 1_000_000, need=False) or 0 for side in ("width", "height"))
    url = _take(image, "url", (str,), 0, 4096, need=False) or ""
    tags = _texts(e, "tags", 100, 100)
    labels = [_take(e, name, (str,), 0, 256, need=False) or "" for name in ("source", "deployment", "server_version")]
    metadata = _metadata(e)
    _version(e)
    age_ms = broker_ms - time_ms
    if not -1000 * settings.event_ahead_s_max <= age_ms <= 86_400_000 * settings.event_age_days_max:
        raise Refused("out_of_range")
    latency_us = None if latency_ms is None else round(latency_ms * 1000)
    row = (
        *(event_id, time_ms, workspace, model_id, device_id, latency_us),
        tuple(name for name, _ in detections),
        tuple(ppm for _, ppm in detections),
        *boxes,
        extra,
        *(error, width, height, url, metadata, tags, *labels),
    )
    return Seen(workspace, model_id, device_id, time_ms, latency_us, bool(error), detections), row


def _detections(e: Mapping[str, Any]) -> tuple[tuple[tuple[str, int], ...], list[tuple[Any, ...]], str]:
    listed = _take(e, "predictions", (list,), 0, math.inf, need=False) if e.get("predictions", ()) != () else []
    if listed is None:
        raise Refused("wrong_type")
    out, boxes, extra = [], [], []
    for found in listed:
        if not isinstance(found, dict):
            raise Refused("wrong_type")
        name = _take(found, "class", (str,), 1, 256, need=True)
        confidence = _take(found, "confidence", (int, float), 0, 1, need=True)
        out.append((name, round(confidence * 1e6)))
        boxes.append([_take(found, side, (int, float), -math.inf, math.inf, need=False) for side in _SIDES])
        more = ("class_id", "detection_id", "tracker_id", "points", "keypoints")
        extra.append({key: found[key] for key in more if key in found})
    columns = [tuple(_float32(box[side]) for box in boxes) for side in range(4)]
    return tuple(out), columns, json.dumps(extra) if any(extra) else ""


def _float32(value: float | None) -> float | None:
    return None if value is None else float(struct.unpack("f", struct.pack("f", value))[0])


def _metadata(e: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    found = _take(e, "metadata", (dict,), 0, 100, need=False) or {}
    for key, value in found.items():
        if not isinstance(value, str | int | float | bool):
            raise Refused("wrong_type")
        if len(key) > 100 or (isinstance(value, str) and len(value) > 1000):
            raise Refused("out_of_range")
    return tuple(sorted((key, _text(value)) for key, value in found.items()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def heartbeat(raw: bytes | None) -> tuple[Any, ...]:
    """The row of a heartbeat. Raises Refused."""
    e = parse(raw)
    row = (
        _take(e, "workspace", (str,), 1, 256, need=True),
        _take(e, "device_id", (str,), 1, 256, need=True),
        _take(e, "sent_at_ms", (int,), 0, 4_102_444_800_000, need=True),
        _take(e, "interval_ms", (int,), 1, 7 * 86_400_000, need=True),
        *(_take(e, name, (str,), 0, 256, need=False) or "" for name in ("server_id", "version")),
        _texts(e, "tags", 100, 100),
        *(_take(e, name, (str,), 0, 256, need=False) or "" for name in ("boot_id", "status")),
        _take(e, "expected_downtime_ms", (int,), 0, 366 * 86_400_000, need=False) or 0,
    )
    if e.get("status") not in (None, "up", "stopping"):
        raise Refused("out_of_range")
    _version(e)
    return row


def metadatum(raw: bytes | None) -> tuple[Any, ...]:
    """The row of a metadata record. Raises Refused."""
    e = parse(raw)
    row = (
        _take(e, "workspace", (str,), 1, 256, need=True),
        _take(e, "inference_id", (str,), 1, 128, need=True),
        _take(e, "field", (str,), 1, 100, need=True),
        _take(e, "sent_at_ms", (int,), 0, 4_102_444_800_000, need=True),
    )
    if "value" not in e:
        raise Refused("missing_field")
    if not isinstance(e["value"], str | int | float | bool):
        raise Refused("wrong_type")
    if isinstance(e["value"], str) and len(e["value"]) > 1000:
        raise Refused("out_of_range")
    _version(e)
    return (*row, _text(e["value"]))


# -- windows


@cache
def bucket(us: int) -> int:
    """The smallest b with us <= (101/99)^b, in whole numbers."""
    if us == 0:
        return NO_LATENCY_KEY
    b = math.ceil(math.log(us) / math.log(101 / 99))
    while us * 99 ** max(b, 0) > 101 ** max(b, 0):
        b += 1
    while b > 0 and us * 99 ** (b - 1) <= 101 ** (b - 1):
        b -= 1
    return b


class Spread:
    """Count, sum, least, largest and histogram of a value."""

    __slots__ = ("count", "histogram", "max", "min", "squares", "sum")

    def __init__(self) -> None:
        self.count = self.sum = self.squares = 0
        self.min: int | None = None
        self.max: int | None = None
        self.histogram: dict[int, int] = {}

    def add(self, value: int, key: int) -> None:
        self.count += 1
        self.sum += value
        self.squares += value * value
        self.min = value if self.min is None or value < self.min else self.min
        self.max = value if self.max is None or value > self.max else self.max
        self.histogram[key] = self.histogram.get(key, 0) + 1

    def merge(self, other: "Spread") -> None:
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares
        self.min = min((v for v in (self.min, other.min) if v is not None), default=None)
        self.max = max((v for v in (self.max, other.max) if v is not None), default=None)
        for key, count in other.histogram.items():
            self.histogram[key] = self.histogram.get(key, 0) + count


class Window:
    """A row of model_windows (or of class_windows, which has no latency)."""

    __slots__ = ("confidence", "empty", "errors", "inferences", "latency")

    def __init__(self) -> None:
        self.inferences = self.errors = self.empty = 0
        self.latency, self.confidence = Spread(), Spread()

    def merge(self, other: "Window") -> None:
        self.inferences += other.inferences
        self.errors += other.errors
        self.empty += other.empty
        self.latency.merge(other.latency)
        self.confidence.merge(other.confidence)

    def model_row(self) -> list[Any]:
        lat, conf = self.latency, self.confidence
        counts = [self.inferences, self.errors, self.empty, conf.count, lat.count]
        return [*counts, lat.sum, lat.min, lat.max, lat.histogram, *self._confidence()]

    def class_row(self) -> list[Any]:
        return [self.confidence.count, self.inferences, *self._confidence()]

    def _confidence(self) -> list[Any]:
        conf = self.confidence
        return [conf.sum, conf.squares, conf.min, conf.max, conf.histogram]


Key = tuple[str, str, str, int]  # workspace, model, device or class, start of the window in s
_CONFIDENCE = (
    "sum(confidence_ppm_sum), sum(confidence_ppm_sum_sq), min(confidence_ppm_min), max(confidence_ppm_max), "
    "sumMap(confidence_histogram)"
)
_SELECT = {
    "model_windows": (
        "device_id",
        "sum(inference_count), sum(error_count), sum(empty_count), sum(detection_count), sum(latency_count), "
        "sum(latency_us_sum), min(latency_us_min), max(latency_us_max), sumMap(latency_histogram), " + _CONFIDENCE,
    ),
    "class_windows": ("class", "sum(detection_count), sum(inference_count), " + _CONFIDENCE),
}
_SIDES = ("x", "y", "width", "height")
_ROWS = {
    "inferences": (
        "event_id, toUnixTimestamp64Milli(event_time), workspace, model_id, device_id, latency_us, detections.class, "
        "detections.confidence_ppm, "
        + ", ".join(
            f"arrayMap(v -> if(isNaN(v), NULL, toFloat64(v)), detections.{s})" for s in ("x", "y", "width", "height")
        )
        + ", detections_extra, error, image_width, image_height, image_url, metadata, tags, source, deployment, "
        "server_version"
    ),
    "device_heartbeats": (
        "workspace, device_id, toUnixTimestamp64Milli(sent_at), interval_ms, server_id, version, tags, boot_id, "
        "status, expected_downtime_ms"
    ),
    "inference_metadata": "workspace, inference_id, field, toUnixTimestamp64Milli(sent_at), value",
}
_EXTRA = 12  # column of detections_extra
TABLE_OF = {EVENTS: "inferences", HEARTBEATS: "device_heartbeats", METADATA: "inference_metadata"}


@dataclass
class Report:
    """What was compared, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled, nothing different."""
        return not self.wrong

    def find(self, kind: str, text: str) -> None:
        """Something is wrong."""
        self.wrong[kind] += 1
        if self.wrong[kind] <= FINDINGS_MAX:
            self.findings.append(f"{kind}: {text[:250]}")

    def __str__(self) -> str:
        return f"wrong: {dict(self.wrong)}, compared: {dict(self.counts)}\n" + "\n".join(self.findings)


class Expected:
    """What the topics say must be in the tables."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # By partition, offset and broker time: a topic that was made anew has the same offsets again.
        self.rows: dict[str, dict[tuple[int, int, int], int]] = {table: {} for table in TABLE_OF.values()}
        self.refused: dict[tuple[str, int, int, int], tuple[Any, ...]] = {}
        self.models: dict[Key, Window] = defaultdict(Window)
        self.classes: dict[Key, Window] = defaultdict(Window)
        self.reasons: Counter[str] = Counter()

    def add(self, topic: str, record: ConsumerRecord) -> None:
        """One record of a topic (without prefix), in any order."""
        where = record.partition, record.offset, record.timestamp
        try:
            if topic == EVENTS:
                seen, row = event(record.value, record.timestamp, self._settings)
                self._fold(seen)
            else:
                row = heartbeat(record.value) if topic == HEARTBEATS else metadatum(record.value)
        except Refused as refused:
            (reason,) = refused.args
            value = record.value or b""
            kept = hashlib.md5(value[: 64 << 10]).hexdigest()
            key = (record.key or b"").decode(errors="replace")
            self.refused[topic, *where] = (reason, kept, len(value), key)
            self.reasons[reason] += 1
        else:
            self.rows[TABLE_OF[topic]][where] = hash(row)

    def _fold(self, seen: Seen) -> None:
        start = seen.time_ms // 10_000 * 10
        window = self.models[seen.workspace, seen.model_id, seen.device_id, start]
        window.inferences += 1
        window.errors += seen.failed
        window.empty += not seen.detections
        if seen.latency_us is not None:
            window.latency.add(seen.latency_us, bucket(seen.latency_us))
        for name, ppm in seen.detections:
            window.confidence.add(ppm, ppm // 10_000)
            self.classes[seen.workspace, seen.model_id, name, start].confidence.add(ppm, ppm // 10_000)
        for name in {name for name, _ in seen.detections}:
            self.classes[seen.workspace, seen.model_id, name, start].inferences += 1

    def totals(self) -> list[int]:
        """In the order of Tables.totals."""
        inferences = len(self.rows["inferences"])
        detections = sum(w.confidence.count for w in self.models.values())
        counts = [len(rows) for rows in self.rows.values()] + [len(self.refused)]
        return counts + [inferences] * len(ROLLUPS) + [detections] * len(ROLLUPS)


def rolled_up(windows: Mapping[Key, Window], seconds: int) -> dict[Key, Window]:
    """Windows of `seconds` made of those of 10 s."""
    out: dict[Key, Window] = defaultdict(Window)
    for (workspace, model, what, start), window in windows.items():
        out[workspace, model, what, start // seconds * seconds].merge(window)
    return out


# -- Kafka and ClickHouse, plainly


async def _records(settings: Settings) -> AsyncIterator[tuple[str, ConsumerRecord]]:
    """(topic without prefix, record) of all that the topics hold now; in order within a partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        names = {settings.topic(topic): topic for topic in TOPICS}
        client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
        await client.start()
        described = await client.describe_topics(list(names))
        await client.close()
        partitions = [TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        for tp in partitions:
            consumer.seek(tp, first[tp])
        left = set(partitions)
        while left := {tp for tp in left if await consumer.position(tp) < end[tp]}:
            for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    if record.offset < end[tp]:
                        yield names[tp.topic], record
    finally:
        await consumer.stop()


def expected(settings: Settings, log: Log | None = None) -> Expected:
    """What must be there, from the topics as they are now, or from a log that was read before."""
    out = Expected(settings)

    async def read() -> None:
        async for topic, record in _records(settings):
            out.add(topic, record)

    if log is None:
        asyncio.run(read())
    else:
        for (topic, _), records in log.items():
            for record in records:
                out.add(topic, record)
    return out


def read_log(settings: Settings) -> Log:
    """All that the topics hold now."""
    log: Log = defaultdict(list)

    async def read() -> None:
        async for topic, record in _records(settings):
            log[topic, record.partition].append(record)

    asyncio.run(read())
    return log


class Tables:
    """ClickHouse over plain HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def ask(self, sql: str) -> Iterator[list[Any]]:
        """The rows of a query."""
        s = self._settings
        login = f"{s.clickhouse_admin_user}:{s.clickhouse_admin_password.get_secret_value()}"
        request = urllib.request.Request(
            f"{s.clickhouse_url}/?database={s.clickhouse_database}"
            "&output_format_json_quote_64bit_integers=0&output_format_json_quote_denormals=1",
            f"{sql} FORMAT JSONCompactEachRow".encode(),
            {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            yield from map(json.loads, answer)

    def totals(self) -> list[int]:
        """In the order of Expected.totals."""
        selects = [f"SELECT count() AS n FROM {table} WHERE workspace != '{JUNK}'" for table in TABLE_OF.values()]
        selects.append(f"SELECT count() FROM dead_letters WHERE kafka_topic != '{JUNK}'")
        for table, column in (("model_windows", "inference_count"), ("class_windows", "detection_count")):
            selects += [f"SELECT sum({column}) FROM {table}{end} WHERE workspace != '{JUNK}'" for end in ROLLUPS]
        return [int(row[0]) for select in selects for row in self.ask(select)]

    def compare(self, want: Expected) -> Report:
        """All tables."""
        report = Report()
        for table in TABLE_OF.values():
            self._compare_rows(table, want.rows[table], report)
        self._compare_dead_letters(want, report)
        for suffix, seconds in ROLLUPS.items():
            models, classes = rolled_up(want.models, seconds), rolled_up(want.classes, seconds)
            rows = {key: window.model_row() for key, window in models.items()}
            self._compare_windows("model_windows", suffix, rows, report)
            rows = {key: window.class_row() for key, window in classes.items()}
            self._compare_windows("class_windows", suffix, rows, report)
        return report

    def _compare_rows(self, table: str, want: dict[tuple[int, int, int], int], report: Report) -> None:
        seen: set[tuple[int, int, int]] = set()
        for partition, offset, time_ms, *row in self.ask(
            f"SELECT kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time), {_ROWS[table]} FROM {table} "
            f"WHERE workspace != '{JUNK}'"
        ):
            where = partition, offset, time_ms
            report.counts[table] += 1
            if table == "inferences" and row[_EXTRA]:
                row[_EXTRA] = json.dumps(json.loads(row[_EXTRA]))
            if where in seen:
                report.find(f"doubled in {table}", str(where))
            elif where not in want:
                report.find(f"foreign in {table}", f"{where} {row}")
            elif want[where] != hash(tuple(map(_hashable, row))):
                report.find(f"different in {table}", f"{where} {row}")
            seen.add(where)
        for where in sorted(want.keys() - seen):
            report.find(f"lost in {table}", str(where))

    def _compare_dead_letters(self, want: Expected, report: Report) -> None:
        seen: set[tuple[str, int, int, int]] = set()
        prefix = len(self._settings.topic_prefix)
        for topic, partition, offset, time_ms, *row in self.ask(
            "SELECT kafka_topic, kafka_partition, kafka_offset, toUnixTimestamp64Milli(kafka_time), reason, "
            f"lower(hex(MD5(value))), value_bytes, key FROM dead_letters WHERE kafka_topic != '{JUNK}'"
        ):
            where = topic[prefix:], partition, offset, time_ms
            report.counts["dead_letters"] += 1
            if where in seen:
                report.find("doubled in dead_letters", str(where))
            elif tuple(row) != want.refused.get(where):
                report.find("different in dead_letters", f"{where} {row} instead of {want.refused.get(where)}")
            seen.add(where)
        for lost in sorted(want.refused.keys() - seen):
            report.find("lost in dead_letters", f"{lost} {want.refused[lost]}")

    def _compare_windows(self, table: str, suffix: str, want: dict[Key, list[Any]], report: Report) -> None:
        what, columns = _SELECT[table]
        name = table + suffix
        seen = set()
        for workspace, model, of, start, source, *row in self.ask(
            f"SELECT workspace, model_id, {what}, toUnixTimestamp(window_start), maxMap(source), {columns} "
            f"FROM {name} WHERE workspace != '{JUNK}' GROUP BY ALL"
        ):
            key = workspace, model, of, start
            report.counts[name] += 1
            seen.add(key)
            row = [{int(k): n for k, n in v.items()} if isinstance(v, dict) else v for v in row]
            if row != want.get(key):
                report.find(f"different in {name}", f"{key} {row} instead of {want.get(key)}")
            if not source:
                report.find(f"no source in {name}", f"{key}")
        for key in sorted(want.keys() - seen):
            report.find(f"lost in {name}", f"{key} {want[key]}")


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return value


def wait(settings: Settings, want: Expected, stalled_s: float = 40.0) -> float:
    """Returns when all that is wanted is in, or when nothing has moved for `stalled_s`; how long it took."""
    started = moved = time.monotonic()
    tables, total = Tables(settings), want.totals()
    last: list[int] = []
    while True:
        try:
            now = tables.totals()
        except (urllib.error.URLError, OSError):
            now = last
        if len(now) == len(total) and all(have >= need for have, need in zip(now, total, strict=True)):
            return time.monotonic() - started
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > stalled_s:
            return time.monotonic() - started
        time.sleep(0.2)
