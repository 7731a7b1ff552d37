"""Single inferences: a page of them, how many there are, one with all that is known of it.

A page goes on behind the last row of the one before, by what it is sorted by and the place on Kafka: rows that come in
meanwhile move nothing. Columns are in the order of COLUMNS.
"""

from dataclasses import dataclass
from enum import Enum

from pipeline.core.asking.language import Filter
from pipeline.core.asking.numbers import in_time
from pipeline.core.asking.question import WORKSPACE, Question
from pipeline.core.asking.sql import Bound, where

PAGE_MAX = 500
COLUMNS = (
    "event_id", "toUnixTimestamp64Milli(event_time)", "model_id", "device_id", "latency_us",
    "`detections.class`", "`detections.confidence_ppm`", "`detections.x`", "`detections.y`", "`detections.width`",
    "`detections.height`", "detections_extra", "error", "image_width", "image_height", "image_url", "metadata", "tags",
    "source", "deployment", "server_version", "kafka_partition", "kafka_offset",
)  # fmt: skip


class Sort(Enum):
    """What a page is sorted by; a minus: the largest first. What is not known comes last."""

    NEWEST = "-time"
    OLDEST = "time"
    SLOWEST = "-latency"
    FASTEST = "latency"
    SUREST = "-confidence"  # by the detection that is least sure
    LEAST_SURE = "confidence"

    @property
    def is_by_time(self) -> bool:
        """Whether a page of a part of the time is a part of the page."""
        return self in (Sort.NEWEST, Sort.OLDEST)


# As whole numbers: a cursor must say them exactly.
_BY = {
    "time": "toUnixTimestamp64Milli(event_time)",
    "latency": "toInt64(ifNull(latency_us, {unknown}))",
    "confidence": "toInt64(if(empty(`detections.class`), {unknown}, arrayMin(`detections.confidence_ppm`)))",
}
_FIRST, _LAST = -1, 1 << 62  # before and after every number


@dataclass(frozen=True, slots=True)
class After:
    """The last row of the page before."""

    value: int
    partition: int
    offset: int


def page(asked: Filter, span_ms: tuple[int, int], sort: Sort, after: After | None, limit: int) -> Question:
    """COLUMNS, and what they are sorted by; at most `limit` rows."""
    bound = Bound()
    descends = sort.value.startswith("-")
    by = _BY[sort.value.lstrip("-")].format(unknown=_FIRST if descends else _LAST)
    beyond = ""
    if after is not None:
        sign, place = "<" if descends else ">", (after.value, after.partition, after.offset)
        # The first part alone is what an index can use.
        beyond = f" AND {by} {sign}= {place[0]} AND ({by}, kafka_partition, kafka_offset) {sign} {place}"
    order = "DESC" if descends else "ASC"
    return Question(
        f"SELECT {', '.join(COLUMNS)}, {by} AS sorted_by FROM inferences WHERE workspace = {WORKSPACE} "
        f"AND {in_time(*span_ms)} AND {where(asked, bound, WORKSPACE)}{beyond} "
        f"ORDER BY sorted_by {order}, kafka_partition {order}, kafka_offset {order} LIMIT {limit}",
        bound.parameters,
    )


def total(asked: Filter, span_ms: tuple[int, int]) -> Question:
    """How many."""
    bound = Bound()
    return Question(
        f"SELECT count() FROM inferences WHERE workspace = {WORKSPACE} AND {in_time(*span_ms)} "
        f"AND {where(asked, bound, WORKSPACE)}",
        bound.parameters,
    )


def one(event_id: str) -> Question:
    """COLUMNS; the newest where there are several of that id."""
    return Question(
        f"SELECT {', '.join(COLUMNS)}, 0 FROM inferences WHERE workspace = {WORKSPACE} AND event_id = {{id:String}} "
        "ORDER BY event_time DESC, kafka_offset DESC LIMIT 1",
        {"id": event_id},
    )


def added(event_ids: list[str]) -> Question:
    """Of each: event_id, field, and the last word on it."""
    bound = Bound()
    ids = ", ".join(bound.text(event_id) for event_id in event_ids)
    return Question(
        "SELECT inference_id, field, argMax(value, (sent_at, kafka_offset)) FROM inference_metadata "
        f"WHERE workspace = {WORKSPACE} AND inference_id IN ({ids}) GROUP BY inference_id, field",
        bound.parameters,
        rows_max=100_000,
    )
