"""The sizes of windows: the only table of them. Others are rollups of the first."""

from dataclasses import dataclass


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
