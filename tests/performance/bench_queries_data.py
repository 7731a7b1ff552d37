"""A month of inferences for `make bench-queries`, made inside ClickHouse out of hashes: same size and end, same rows.

Three workspaces, 400 devices, 20 models in two versions each, 30 classes, a daily rhythm, 0 or 2 to 4 detections. The
windows are computed from the inferences, through the tables that the recorder inserts into; the 10-second ones are
kept for a week, as retention would.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from tests.performance.figures import VoidRunError

DAYS = 30
DAY_S = 86_400
WEEK_S = 7 * DAY_S
PIECES_A_DAY = 4
DEVICES = 400

CLASSES = (
    "person", "helmet", "vest", "gloves", "goggles", "truck", "forklift", "pallet", "box", "barrel", "cone", "ladder",
    "spill", "smoke", "fire", "bag", "bottle", "can", "label", "scratch", "dent", "crack", "screw", "bolt", "nut",
    "gear", "belt", "bird", "dog", "it's",
)  # fmt: skip
MODELS = (
    "helmets", "vests", "gloves", "vehicles", "pallets", "boxes", "spills", "smoke", "ladders", "people", "doors",
    "bags", "bottles", "cans", "labels", "scratches", "dents", "cracks", "screws", "gears",
)  # fmt: skip

# A row is a function of its number. One device runs one or two models of its workspace; a model gets its second
# version on a day of its own. One inference in two million or so (a fixed number) holds a class seen nowhere else.
_INFERENCES = """
INSERT INTO inferences
    (event_id, event_time, workspace, model_id, device_id, latency_us, `detections.class`, `detections.confidence_ppm`,
     `detections.x`, `detections.y`, `detections.width`, `detections.height`, error, image_width, image_height,
     image_url, metadata, tags, source, deployment, server_version, kafka_partition, kafka_offset,
     kafka_time, ingested_at)
WITH
    {classes} AS classes,
    {models} AS models,
    cityHash64(number) AS draw,
    cityHash64(number, 'more') AS draw2,
    (number % {a_day} + 0.5) / {a_day} AS share_of_day,
    intDiv(number, {a_day}) AS day,
    {start_ms} + day * 86400000
        + toInt64(86400000 * (share_of_day - 0.09 * sin(2 * pi() * share_of_day))) AS at_ms,
    toUInt32({devices} * pow((draw % 65536) / 65536, 1.4)) AS device,
    multiIf(device % 10 < 6, 0, device % 10 < 9, 1, 2) AS place,
    cityHash64(device, intDiv(draw, 65536) % 3 = 0) AS job,
    [0, 12, 18][place + 1] + job % [12, 6, 2][place + 1] AS model,
    if(day * 20 + 7 > (model * 37) % 400 + 100, 2, 1) AS version,
    if(bitShiftRight(draw, 20) % 20 = 0, 0, 2 + bitShiftRight(draw, 24) % 3) AS detections,
    arrayMap(i -> cityHash64(number, i), range(detections)) AS draws,
    (draw2 % 65536 + intDiv(draw2, 65536) % 65536 + bitShiftRight(draw2, 32) % 65536) / 32768 - 3 AS skew
SELECT
    if(number = {example}, 'first-1', lower(hex(sipHash128(number)))),
    fromUnixTimestamp64Milli(at_ms, 'UTC'),
    ['acme', 'globex', 'initech'][place + 1],
    models[model + 1] || '/' || toString(version),
    'cam-' || leftPad(toString(device), 3, '0'),
    if(draw2 % 101 = 0, NULL, toUInt64(1000 * (12 + 7 * model + 5 * version) * exp(0.4 * skew))),
    arrayMap((d, i) -> if(i = 1 AND number % {rare} = 777, 'intruder',
        classes[1 + (model * 3 + toUInt32(8 * pow((d % 4096) / 4096, 2))) % 30]), draws, arrayEnumerate(draws)),
    arrayMap(d -> toUInt32(1000000 * (1 - (0.2 + 0.02 * model + if(day = 29 AND model = 3, 0.3, 0))
        * pow((intDiv(d, 4096) % 10000) / 10000, 2))), draws),
    arrayMap(d -> toFloat32((bitShiftRight(d, 26) % 1280) / 2), draws),
    arrayMap(d -> toFloat32((bitShiftRight(d, 37) % 960) / 2), draws),
    arrayMap(d -> toFloat32(8 + bitShiftRight(d, 48) % 200), draws),
    arrayMap(d -> toFloat32(8 + bitShiftRight(d, 55) % 200), draws),
    if(draw2 % 211 = 0, 'out of memory', ''),
    640, 480, '',
    map('site', 'site-' || toString(device % 50), 'line', toString(device % 7),
        'order', 'order-' || toString(intDiv(number, 20))),
    ['edge'], 'roboflow', 'edge', '1.8.' || toString(device % 4),
    number % 8, intDiv(number, 8),
    fromUnixTimestamp64Milli(at_ms + 40 + draw2 % 200, 'UTC'),
    fromUnixTimestamp64Milli(at_ms + 400 + draw2 % 400, 'UTC')
FROM numbers({first}, {count})
"""

_OF_PIECE = "FROM inferences WHERE kafka_offset >= intDiv({first}, 8) AND kafka_offset < intDiv({first} + {count}, 8)"

_MODEL_WINDOWS = f"""
INSERT INTO model_windows_in
SELECT
    workspace, model_id, device_id,
    toStartOfInterval(toDateTime(event_time), toIntervalSecond({{window_s}})) AS window_start,
    count(), countIf(error != ''), countIf(empty(`detections.class`)), sum(length(`detections.class`)),
    count(latency_us), sum(latency_us), min(latency_us), max(latency_us),
    CAST(mapFilter((k, v) -> v > 0, sumMap(map(
        if(ifNull(latency_us, 0) = 0, -2147483648, toInt32(ceil(log(ifNull(latency_us, 0)) / log(1.01 / 0.99)))),
        toUInt64(isNotNull(latency_us))))), 'Map(Int32, UInt64)'),
    sum(arraySum(`detections.confidence_ppm`)), sum(arraySum(p -> toUInt128(p) * p, `detections.confidence_ppm`)),
    min(if(empty(`detections.class`), NULL, arrayMin(`detections.confidence_ppm`))),
    max(if(empty(`detections.class`), NULL, arrayMax(`detections.confidence_ppm`))),
    CAST(sumMap(arrayMap(p -> toInt32(intDiv(p, 10000)), `detections.confidence_ppm`),
                arrayMap(p -> toUInt64(1), `detections.confidence_ppm`)), 'Map(Int32, UInt64)'),
    map(toUInt16(0), toUInt64({{first}}))
{_OF_PIECE}
GROUP BY workspace, model_id, device_id, window_start
"""

_CLASS_WINDOWS = f"""
INSERT INTO class_windows_in
SELECT
    workspace, model_id, class,
    window_start,
    sum(length(ppm)), count(), sum(arraySum(ppm)), sum(arraySum(p -> toUInt128(p) * p, ppm)),
    min(arrayMin(ppm)), max(arrayMax(ppm)),
    CAST(sumMap(arrayMap(p -> toInt32(intDiv(p, 10000)), ppm), arrayMap(p -> toUInt64(1), ppm)), 'Map(Int32, UInt64)'),
    map(toUInt16(0), toUInt64({{first}}))
FROM
(
    SELECT
        workspace, model_id,
        toStartOfInterval(toDateTime(event_time), toIntervalSecond({{window_s}})) AS window_start,
        arrayJoin(arrayDistinct(`detections.class`)) AS class,
        arrayFilter((p, c) -> c = class, `detections.confidence_ppm`, `detections.class`) AS ppm
    {_OF_PIECE}
)
GROUP BY workspace, model_id, class, window_start
"""

# One inference in a hundred is labelled later.
_METADATA = f"""
INSERT INTO inference_metadata
    (workspace, inference_id, field, value, sent_at, kafka_partition, kafka_offset, kafka_time, ingested_at)
SELECT workspace, event_id, 'label', if(kafka_offset % 3 = 0, 'wrong', 'right'), event_time + 600, kafka_partition % 4,
       kafka_offset, kafka_time + 600, ingested_at + 600
{_OF_PIECE} AND kafka_offset % 100 = 0
"""

# The last device fell silent two hours before the end.
_HEARTBEATS = """
INSERT INTO device_heartbeats
    (workspace, device_id, sent_at, interval_ms, server_id, version, tags, boot_id, status, kafka_partition,
     kafka_offset, kafka_time, ingested_at)
WITH number % {devices} AS device, {start_ms} + intDiv(number, {devices}) * {every_ms} + device * 7 AS at_ms
SELECT
    ['acme', 'globex', 'initech'][multiIf(device % 10 < 6, 1, device % 10 < 9, 2, 3)],
    'cam-' || leftPad(toString(device), 3, '0'), fromUnixTimestamp64Milli(at_ms, 'UTC'), {every_ms},
    'server-' || toString(device), '1.8.' || toString(device % 4), ['edge'], hex(cityHash64(device)), 'up',
    number % 4, intDiv(number, 4), fromUnixTimestamp64Milli(at_ms + 50, 'UTC'),
    fromUnixTimestamp64Milli(at_ms + 500, 'UTC')
FROM numbers({count})
WHERE device != {devices} - 1 OR at_ms < {end_ms} - 7200000
"""

_DEAD_LETTERS = """
INSERT INTO dead_letters
    (reason, field, kafka_topic, kafka_partition, kafka_offset, kafka_time, key, value, value_bytes, ingested_at)
WITH {start_ms} + intDiv(number * {span_ms}, {count}) AS at_ms
SELECT
    ['not_json', 'missing_field', 'wrong_type', 'out_of_range'][1 + number % 4], ['', 'event_id', 'latency_ms',
    'event_time_ms'][1 + number % 4], 'inference.events', number % 8, {rows} + intDiv(number, 8),
    fromUnixTimestamp64Milli(at_ms, 'UTC'), 'cam-001', '{{"event_id": ' || toString(number) AS value, length(value),
    fromUnixTimestamp64Milli(at_ms + 500, 'UTC')
FROM numbers({count})
"""

# Episodes of four steps (pending, firing, acknowledged, resolved); the last dozen are still open.
_ALERTS = """
INSERT INTO alerts
    (fingerprint, episode, sequence, state, previous_state, at, starts_at, kind, rule_id, workspace, model_id,
     device_id, class, metric, value, expected, threshold, severity, labels, summary, evidence, kafka_partition,
     kafka_offset, kafka_time, ingested_at)
WITH
    intDiv(number, 4) AS episode_number,
    {start_ms} + intDiv(episode_number * ({span_ms} - 1200000), {count}) AS starts_ms,
    starts_ms + (number % 4) * 240000 AS at_ms,
    cityHash64(episode_number) AS draw,
    draw % 20 AS model,
    multiIf(model < 12, 'acme', model < 18, 'globex', 'initech') AS owner,
    {models}[model + 1] AS name,
    multiIf(draw % 7 < 4, 'anomaly', draw % 7 < 6, 'rule', 'heartbeat') AS kind_of_it
SELECT
    hex(cityHash64(model, kind_of_it)), fromUnixTimestamp64Milli(starts_ms, 'UTC'), number % 4 + 1,
    ['pending', 'firing', 'acknowledged', 'resolved'][number % 4 + 1] AS state_now,
    ['', 'pending', 'firing', 'acknowledged'][number % 4 + 1], fromUnixTimestamp64Milli(at_ms, 'UTC'),
    fromUnixTimestamp64Milli(starts_ms, 'UTC'), kind_of_it, if(kind_of_it = 'rule', 'rule-' || toString(model), ''),
    owner, name || '/2', if(kind_of_it = 'heartbeat', 'cam-' || leftPad(toString(draw % 400), 3, '0'), ''), '',
    if(kind_of_it = 'heartbeat', 'silence_s', 'confidence_mean'), 0.61, 0.82, 0.7,
    ['critical', 'warning', 'info'][1 + draw % 3], map('team', 'vision'),
    name || '/2 is less sure than usual: 61 % instead of 82 %', '{{"windows": 30}}', model % 4, number,
    fromUnixTimestamp64Milli(at_ms, 'UTC'), fromUnixTimestamp64Milli(at_ms + 300, 'UTC')
FROM numbers({count} * 4)
WHERE NOT (episode_number >= {count} - 12 AND number % 4 = 3)
"""


@dataclass(frozen=True, slots=True)
class Month:
    """How many inferences, and when the last one was."""

    rows: int
    end_s: int

    @property
    def start_s(self) -> int:
        """When the first one was."""
        return self.end_s - DAYS * DAY_S

    @property
    def a_day(self) -> int:
        """Inferences a day."""
        return self.rows // DAYS

    @property
    def example(self) -> int:
        """The number of the inference that is called first-1: a late one that has metadata."""
        return (self.rows // 8 - 1) // 100 * 100 * 8

    @property
    def week_starts_s(self) -> int:
        """Before this midnight there are no 10-second windows."""
        return (self.end_s - WEEK_S) // DAY_S * DAY_S

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """(first row, how many, size of the windows to make of them), in multiples of Kafka's 8 partitions."""
        size = self.a_day // PIECES_A_DAY
        for i in range(DAYS * PIECES_A_DAY):
            until_s = self.start_s + (i // PIECES_A_DAY + 1) * DAY_S
            yield i * size, size, 10 if until_s > self.week_starts_s else 60


def month(rows: int, end_s: int) -> Month:
    """About `rows` inferences until `end_s`."""
    unit = DAYS * PIECES_A_DAY * 8
    return Month(max(1, rows // unit) * unit, end_s // 10 * 10)


def fill(client: Client, wanted: Month) -> Iterator[float]:
    """Loads the month into a migrated database; yields how far it has come (0 to 1)."""
    names = {"classes": _strings(CLASSES), "models": _strings(MODELS), "devices": DEVICES}
    span = {"start_ms": wanted.start_s * 1000, "end_ms": wanted.end_s * 1000, "span_ms": DAYS * DAY_S * 1000}
    pieces = list(wanted.pieces())
    for done, (first, count, window_s) in enumerate(pieces):
        piece = {"first": first, "count": count, "window_s": window_s}
        rare = max(1000, wanted.rows // 50)
        numbers = {"a_day": wanted.a_day, "rare": rare, "example": wanted.example}
        client.command(_INFERENCES.format(**names, **span, **piece, **numbers))
        for sql in (_MODEL_WINDOWS, _CLASS_WINDOWS, _METADATA):
            client.command(sql.format(**piece))
        yield (done + 1) / len(pieces) * 0.97
    for table in ("model_windows", "class_windows"):  # what their retention does
        _drop_partitions(client, table, wanted.week_starts_s)
    beats = wanted.rows // 6 // DEVICES
    every_ms = DAYS * DAY_S * 1000 // beats
    client.command(_HEARTBEATS.format(**names, **span, every_ms=every_ms, count=beats * DEVICES))
    client.command(_DEAD_LETTERS.format(**span, rows=wanted.rows, count=max(1, wanted.rows // 1000)))
    client.command(_ALERTS.format(**names, **span, count=max(50, min(6000, wanted.rows // 10_000))))
    yield 1.0


def check(client: Client, wanted: Month) -> None:
    """The rows are there, and rollups say what the inferences say. Raises VoidRunError."""
    (raw,) = client.query(
        "SELECT count(), sum(length(`detections.class`)), sum(arraySum(`detections.confidence_ppm`)), sum(latency_us) "
        "FROM inferences"
    ).result_rows
    if raw[0] != wanted.rows:
        raise VoidRunError(f"{raw[0]} inferences instead of {wanted.rows}")
    for window in ("_1m", "_1h", "_1d"):
        for table, columns in (
            (
                "model_windows",
                "sum(inference_count), sum(detection_count), sum(confidence_ppm_sum), sum(latency_us_sum)",
            ),
            ("class_windows", "sum(detection_count), sum(confidence_ppm_sum)"),
        ):
            (found,) = client.query(f"SELECT {columns} FROM {table}{window}").result_rows
            if found != (raw if table == "model_windows" else raw[1:3]):
                raise VoidRunError(f"{table}{window} holds {found}, the inferences {raw}")


def _drop_partitions(client: Client, table: str, before_s: int) -> None:
    partitions = client.query(
        "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase() AND table = {table:String} "
        "AND active AND partition < toString(toDate({before:UInt32}, 'UTC'))",
        {"table": table, "before": before_s},
    ).result_rows
    for (partition,) in partitions:
        client.command(f"ALTER TABLE {table} DROP PARTITION '{partition}'")


def device_names() -> tuple[str, ...]:
    """All of them."""
    return tuple(f"cam-{number:03}" for number in range(DEVICES))


def _strings(values: tuple[str, ...]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
