"""What is asked of ClickHouse for an export: the rows (as lines of JSON, or as Parquet), and the classes in them."""

from collections.abc import Mapping

from pipeline.core.asking.changed.questions import Subset, of_subset
from pipeline.core.asking.question import WORKSPACE, Question
from pipeline.core.asking.sql import Bound

ORDERS: Mapping[str, str] = {
    "-time": "event_time DESC",
    "time": "event_time",
    "confidence": "empty(`detections.class`), arrayMin(`detections.confidence_ppm`)",
    "-confidence": "empty(`detections.class`), arrayMin(`detections.confidence_ppm`) DESC",
    "latency": "latency_us NULLS LAST",
    "-latency": "latency_us DESC NULLS LAST",
    "none": "",
}
CLASSES_MAX = 10_000
SECONDS_MAX = 120  # in all, however slowly a client takes it

_LINE = """event_id, toUnixTimestamp64Milli(event_time) AS event_time_ms, model_id, device_id, latency_us,
 `detections.class` AS classes, `detections.confidence_ppm` AS confidence_ppm, `detections.x` AS x, `detections.y` AS y,
 `detections.width` AS width, `detections.height` AS height, detections_extra AS extra, error, image_width,
 image_height, image_url, metadata, tags, source, deployment, server_version"""
_COLUMNS = """event_id, event_time, workspace, model_id, device_id, latency_us / 1000 AS latency_ms,
 `detections.class` AS detections_class,
 arrayMap(p -> p / 1000000, `detections.confidence_ppm`) AS detections_confidence,
 `detections.x` AS detections_x, `detections.y` AS detections_y,
 `detections.width` AS detections_width, `detections.height` AS detections_height, detections_extra,
 error, image_width, image_height, image_url, metadata, tags, source, deployment, server_version"""
# Numbers that are none (a box that was not given) are null; a sort of much goes to disk.
_LINE_SETTINGS = "output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 0"
_SORT_SETTINGS = "max_bytes_before_external_sort = 200000000"


def lines(subset: Subset, order: str, limit: int) -> Question:
    """A line of JSON for each row: see export/rows.py."""
    return _rows(_LINE, subset, order, limit, f" FORMAT JSONEachRow SETTINGS {_LINE_SETTINGS}, {_SORT_SETTINGS}")


def parquet(subset: Subset, order: str, limit: int) -> Question:
    """The bytes of a Parquet file, with the columns of the table."""
    return _rows(_COLUMNS, subset, order, limit, f" FORMAT Parquet SETTINGS {_SORT_SETTINGS}")


def classes(subset: Subset) -> Question:
    """Rows (class): all that the exported rows can hold."""
    bound = Bound()
    text = (
        f"SELECT DISTINCT arrayJoin(`detections.class`) AS class FROM inferences"
        f" WHERE workspace = {WORKSPACE} AND {of_subset(subset, bound)} ORDER BY class LIMIT {CLASSES_MAX}"
    )
    return Question(text, bound.parameters, CLASSES_MAX, SECONDS_MAX)


def _rows(columns: str, subset: Subset, order: str, limit: int, end: str) -> Question:
    bound = Bound()
    by = f" ORDER BY {ORDERS[order]}, kafka_partition, kafka_offset" if ORDERS[order] else ""
    text = (
        f"SELECT {columns} FROM inferences WHERE workspace = {WORKSPACE} AND {of_subset(subset, bound)}"
        f"{by} LIMIT {bound.integer(limit)}{end}"
    )
    return Question(text, bound.parameters, limit, SECONDS_MAX)
