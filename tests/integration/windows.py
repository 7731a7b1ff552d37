"""What aggregators would put on inference.aggregates, sent by hand: closed windows, as fast as a test wants them."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from zlib import crc32

from pipeline.config import Settings
from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.producer import OutRecord, Producer
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent
from schemas.rule import Rule
from schemas.topics import AGGREGATES, EVENTS
from tests import builders

GOOD, BAD = 90, 30  # mean confidence of a window, percent
INFERENCES = 50  # in a window of a model


class Windows:
    """Every partition of events closes every window, and has its link in every partition of aggregates."""

    def __init__(self, settings: Settings, ago_s: int = 600) -> None:
        """The log begins so long ago."""
        self._settings = settings
        now = now_ms()
        self.start_ms = now - now % WINDOW_MS - 1000 * ago_s
        self.count = 0  # windows that are closed
        self._sent: dict[int, list[bytes]] = defaultdict(list)  # by partition of aggregates

    def play(self, percents: Mapping[str, int], count: int = 1) -> None:
        """The next windows: how sure each model of acme was in all of them."""
        records: list[OutRecord] = []
        for _ in range(count):
            records += self._window(percents)
        asyncio.run(self._send(records))

    def _window(self, percents: Mapping[str, int]) -> list[OutRecord]:
        end_ms = self.start_ms + (self.count + 1) * WINDOW_MS
        records = []
        for source in range(EVENTS.partitions):
            start = (0, self.count, end_ms - WINDOW_MS if self.count else 0, 0)
            end = (0, self.count + 1, end_ms, 0)
            for target in range(AGGREGATES.partitions):
                models = [name for name in percents if target_of(name) == target] if source == 0 else []
                rows = [self._row(name, end_ms - WINDOW_MS, percents[name]) for name in models]
                value = builders.aggregate(start, end, source=source, models=rows, classes=())
                self._sent[target].append(value)
                records.append(OutRecord(b"", value, target))
        self.count += 1
        return records

    def _row(self, model_id: str, start_ms: int, percent: int) -> dict[str, object]:
        return {
            "window_start_s": start_ms // 1000,
            "model_id": model_id,
            "inference_count": INFERENCES,
            "error_count": 0,
            "empty_count": 0,
            "detection_count": INFERENCES,
            "confidence_ppm_sum": INFERENCES * percent * 10_000,
            "confidence_ppm_min": percent * 10_000,
            "confidence_ppm_max": percent * 10_000,
            "confidence_histogram": {percent: INFERENCES},
        }

    async def _send(self, records: list[OutRecord]) -> None:
        output = Producer(Kafka(self._settings))
        try:
            await output.send(self._settings.topic(AGGREGATES.name), records, lambda: None)
        finally:
            await output.stop()

    def alerts(self, rules: Mapping[str, Rule]) -> set[str]:
        """Ids of the steps that follow from all this, if these rules were there from the start."""
        steps: list[AlertEvent] = []
        for target, values in self._sent.items():
            asked = self._settings.false_alarms_per_model_week
            watch = ModelWatch(target, AGGREGATES.partitions, EVENTS.partitions, asked)
            watch.set_rules(rules)
            for value in values:
                record = aggregate.decode(value)
                assert isinstance(record, AggregateRecord)
                steps += watch.observe(record)[1]
        return {step.id for step in steps}


def target_of(model_id: str) -> int:
    """The partition of aggregates that a model of acme is in."""
    return crc32(f"acme/{model_id}".encode()) % AGGREGATES.partitions
