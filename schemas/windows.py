"""Windows: the sizes there are, and the columns of their rows. The only tables of either.

Everything that makes, merges, sends, stores, reads back or audits rows of windows goes by them. One more column is one
more line here, in schemas/clickhouse (tables, and the views that show it), and nowhere else.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class WindowSize:
    """One size, and the tables that hold windows of it."""

    suffix: str  # of the table's name: model_windows_1m
    seconds: int
    partition: str  # ClickHouse's function from a window's start to its partition on disk
    ttl: str | None  # the setting that says for how many days they are kept; None: for ever


SIZES = (
    WindowSize("", 10, "toDate", "ttl_windows_days"),
    WindowSize("_1m", 60, "toDate", "ttl_windows_1m_days"),
    WindowSize("_1h", 3600, "toYYYYMM", "ttl_windows_1h_days"),
    WindowSize("_1d", 86_400, "toYear", None),
)
WINDOW_S = SIZES[0].seconds
WINDOW_MS = WINDOW_S * 1000


class Measure(Enum):
    """What is looked at. An inference with an error, or without a detection, is counted only."""

    INFERENCE = "inference"
    ERROR = "error"
    EMPTY = "empty"
    LATENCY = "latency"  # in whole microseconds, of inferences where it is known
    CONFIDENCE = "confidence"  # in parts per million, of detections


class Summary(Enum):
    """What a column says of all that was measured; its value is ClickHouse's function that merges it."""

    merge: str

    COUNT = "count", "sum"
    SUM = "sum", "sum"
    SQUARES = "squares", "sum"  # the sum of squares
    MIN = "min", "min"  # of nothing: unknown, and 0 where that cannot be said
    MAX = "max", "max"
    HISTOGRAM = "histogram", "sumMap"

    def __new__(cls, name: str, merge: str) -> "Summary":
        """`merge` goes with the name."""
        member = object.__new__(cls)
        member._value_ = name
        member.merge = merge
        return member


@dataclass(frozen=True, slots=True)
class WindowColumn:
    """One column of a table of windows."""

    name: str
    measure: Measure
    summary: Summary
    type: str = "UInt64"  # in ClickHouse, where it is known
    since: int = 1  # the version of records of inference.aggregates that first had it; in older ones it is 0

    @property
    def is_optional(self) -> bool:
        """Whether it is unknown where nothing was measured."""
        return self.summary in (Summary.MIN, Summary.MAX)

    @property
    def is_wide(self) -> bool:
        """Whether it takes two numbers in memory: [..., 0] << 32 | [..., 1]."""
        return self.type == "UInt128"


@dataclass(frozen=True, slots=True)
class WindowTable:
    """A table of windows, its rollups, and its rows on inference.aggregates."""

    name: str
    keys: tuple[str, ...]  # texts; together with window_start the key of a row
    columns: tuple[WindowColumn, ...]

    def count(self, measure: Measure) -> str:
        """The column that says how much was measured."""
        (name,) = (c.name for c in self.columns if c.measure is measure and c.summary is Summary.COUNT)
        return name

    def named(self, *summaries: Summary) -> tuple[str, ...]:
        """The columns that say this, in order."""
        return tuple(c.name for c in self.columns if c.summary in summaries)


_MAP = "Map(Int32, UInt64)"
_DETECTION_COUNT = WindowColumn("detection_count", Measure.CONFIDENCE, Summary.COUNT)
_INFERENCE_COUNT = WindowColumn("inference_count", Measure.INFERENCE, Summary.COUNT)
_CONFIDENCE = (
    WindowColumn("confidence_ppm_sum", Measure.CONFIDENCE, Summary.SUM),
    # Squares are up to 1e12, and a day may have 18 million detections, where 64 bits end; a float would not be exact.
    WindowColumn("confidence_ppm_sum_sq", Measure.CONFIDENCE, Summary.SQUARES, "UInt128"),
    WindowColumn("confidence_ppm_min", Measure.CONFIDENCE, Summary.MIN, "UInt32"),
    WindowColumn("confidence_ppm_max", Measure.CONFIDENCE, Summary.MAX, "UInt32"),
    WindowColumn("confidence_histogram", Measure.CONFIDENCE, Summary.HISTOGRAM, _MAP),
)

MODELS = WindowTable(
    "model_windows",
    ("workspace", "model_id", "device_id"),
    (
        _INFERENCE_COUNT,
        WindowColumn("error_count", Measure.ERROR, Summary.COUNT),
        WindowColumn("empty_count", Measure.EMPTY, Summary.COUNT),
        _DETECTION_COUNT,
        WindowColumn("latency_count", Measure.LATENCY, Summary.COUNT),
        WindowColumn("latency_us_sum", Measure.LATENCY, Summary.SUM),
        WindowColumn("latency_us_min", Measure.LATENCY, Summary.MIN),
        WindowColumn("latency_us_max", Measure.LATENCY, Summary.MAX),
        WindowColumn("latency_histogram", Measure.LATENCY, Summary.HISTOGRAM, _MAP),
        *_CONFIDENCE,
    ),
)
CLASSES = WindowTable(
    "class_windows", ("workspace", "model_id", "class"), (_DETECTION_COUNT, _INFERENCE_COUNT, *_CONFIDENCE)
)
TABLES = (MODELS, CLASSES)
