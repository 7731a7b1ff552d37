"""What the demo shows of itself, asked from ClickHouse through the views that people use."""

from collections.abc import Sequence
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.edge.clickhouse import ask, connect

FIRST_QUERY = """SELECT window_start, model_id, inference_count, round(confidence_mean, 3) AS confidence,
    round(latency_p95_ms, 2) AS p95_ms
FROM {database}.model_stats ORDER BY window_start DESC, model_id LIMIT 10"""


@dataclass(frozen=True, slots=True)
class Window:
    """One 10-second window of a model."""

    start_ms: int
    inference_count: int
    confidence_mean: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a model did between two moments."""

    inference_count: int
    confidence_mean: float
    latency_p95_ms: float
    correct_share: float


class DemoStats:
    """Asks as the reader. Every method raises ClickHouseUnavailable."""

    def __init__(self, settings: Settings, start_ms: int) -> None:
        self._client: Client = connect(settings, "reader")
        self._workspace = settings.workspace
        self._start_ms = start_ms

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()

    def windows(self, count: int) -> dict[str, list[Window]]:
        """By model: the last `count` windows, oldest first."""
        rows = ask(
            self._client,
            """SELECT model_id, toUnixTimestamp(window_start) * 1000, inference_count, confidence_mean, latency_p95_ms
            FROM model_stats
            WHERE workspace = {workspace:String} AND window_start > toDateTime({start_s:Int64}) - 10
            ORDER BY window_start DESC LIMIT {count:UInt32} BY model_id""",
            {**self._from_start(), "count": count},
        )
        out: dict[str, list[Window]] = {}
        for model_id, *values in reversed(rows):
            out.setdefault(model_id, []).append(Window(*values))
        return out

    def totals(self) -> dict[str, tuple[int, int]]:
        """By model: windows and the inferences in them."""
        rows = ask(
            self._client,
            """SELECT model_id, count(), sum(inference_count) FROM model_stats
            WHERE workspace = {workspace:String} AND window_start > toDateTime({start_s:Int64}) - 10
            GROUP BY model_id ORDER BY model_id""",
            self._from_start(),
        )
        return {model_id: (int(windows), int(inferences)) for model_id, windows, inferences in rows}

    def stretches(self, spans_ms: Sequence[tuple[int, int]]) -> dict[str, Stretch]:
        """By model: all its inferences in these half-open spans of event time."""
        if not spans_ms:
            return {}
        where = " OR ".join(
            f"event_time >= fromUnixTimestamp64Milli({start:d}) AND event_time < fromUnixTimestamp64Milli({end:d})"
            for start, end in spans_ms
        )
        rows = ask(
            self._client,
            f"""SELECT model_id, count(), avgArray(confidence), quantileExact(0.95)(latency_ms),
                countIf(metadata['correct'] = 'true') / count()
            FROM inference_details WHERE workspace = {{workspace:String}} AND ({where})
            GROUP BY model_id""",
            self._from_start(),
        )
        return {model_id: Stretch(*values) for model_id, *values in rows}

    def _from_start(self) -> dict[str, object]:
        return {"workspace": self._workspace, "start_s": self._start_ms // 1000}
