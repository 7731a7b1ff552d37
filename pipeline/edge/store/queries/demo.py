"""What the demo shows of itself, asked from ClickHouse through the views that people use."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.detection.detector import FILLED_WINDOWS_MAX
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.store.client import ClickHouse

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
class PhaseNumbers:
    """How a model did between two moments."""

    inference_count: int
    confidence_mean: float
    latency_p95_ms: float
    correct_share: float


@dataclass(frozen=True, slots=True)
class Alert:
    """An episode of an alert, as it stands."""

    id: str  # fingerprint and episode
    kind: str
    what: str  # the model, or the device
    state: str
    fired_ms: int  # when it began to fire
    resolved_ms: int | None
    why: str  # as it fired
    summary: str  # as it stands


class DemoStats:
    """Of one workspace, from a moment on. Every method raises ClickHouseUnavailable."""

    def __init__(self, store: ClickHouse, workspace: str, start_ms: int) -> None:
        """`store`: the reader's will do."""
        self._store = store
        self._workspace = workspace
        self._start_ms = start_ms

    async def windows(self, count: int) -> dict[str, list[Window]]:
        """By model: the last `count` windows, oldest first."""
        rows = await self._store.ask(
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

    async def totals(self) -> dict[str, tuple[int, int]]:
        """By model: windows and the inferences in them."""
        rows = await self._store.ask(
            """SELECT model_id, count(), sum(inference_count) FROM model_stats
            WHERE workspace = {workspace:String} AND window_start > toDateTime({start_s:Int64}) - 10
            GROUP BY model_id ORDER BY model_id""",
            self._from_start(),
        )
        return {model_id: (int(windows), int(inferences)) for model_id, windows, inferences in rows}

    async def stretches(self, spans_ms: Sequence[tuple[int, int]]) -> dict[str, PhaseNumbers]:
        """By model: all its inferences in these half-open spans of event time."""
        if not spans_ms:
            return {}
        where = " OR ".join(
            f"event_time >= fromUnixTimestamp64Milli({start:d}) AND event_time < fromUnixTimestamp64Milli({end:d})"
            for start, end in spans_ms
        )
        rows = await self._store.ask(
            f"""SELECT model_id, count(), avgArray(confidence), quantileExact(0.95)(latency_ms),
                countIf(metadata['correct'] = 'true') / count()
            FROM inference_details WHERE workspace = {{workspace:String}} AND ({where})
            GROUP BY model_id""",
            self._from_start(),
        )
        return {model_id: PhaseNumbers(*values) for model_id, *values in rows}

    async def history(self, until_ms: int) -> dict[str, int]:
        """By model: how many windows automatic detection knows of it by then. Of a longer pause it takes an hour."""
        rows = await self._store.ask(
            """SELECT model_id, sum(least(gap, {gap_max:Int64})) + least(max(later), {gap_max:Int64}) FROM (
                SELECT model_id, intDiv(toInt64(toUnixTimestamp(window_start)), {window_s:Int64}) AS number,
                    number - lagInFrame(number, 1, number - 1) OVER (PARTITION BY model_id ORDER BY number
                        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS gap,
                    intDiv({until_s:Int64}, {window_s:Int64}) - 1 - max(number) OVER (PARTITION BY model_id) AS later
                FROM model_stats WHERE workspace = {workspace:String})
            GROUP BY model_id ORDER BY model_id""",
            {
                **self._from_start(),
                "gap_max": FILLED_WINDOWS_MAX,
                "window_s": WINDOW_MS // 1000,
                "until_s": until_ms // 1000,
            },
        )
        return {model_id: max(0, int(windows)) for model_id, windows in rows}

    async def alerts(self) -> list[Alert]:
        """Every alert of the workspace since the start that fired, in the order of their firing."""
        rows = await self._store.ask(
            """SELECT concat(fingerprint, ':', toString(toUnixTimestamp64Milli(episode))), any(kind),
                if(any(device_id) != '', any(device_id), any(model_id)), argMax(state, sequence),
                toUnixTimestamp64Milli(minIf(at, state = 'firing')),
                toUnixTimestamp64Milli(maxIf(at, state = 'resolved')),
                argMinIf(summary, sequence, state = 'firing'), argMax(summary, sequence)
            FROM alerts
            WHERE workspace = {workspace:String} AND at >= toDateTime({start_s:Int64})
            GROUP BY fingerprint, episode HAVING countIf(state = 'firing') > 0
            ORDER BY minIf(at, state = 'firing'), fingerprint""",
            self._from_start(),
        )
        return [
            Alert(name, kind, what, state, fired_ms, resolved_ms or None, why, text)
            for name, kind, what, state, fired_ms, resolved_ms, why, text in rows
        ]

    def _from_start(self) -> dict[str, object]:
        return {"workspace": self._workspace, "start_s": self._start_ms // 1000}
