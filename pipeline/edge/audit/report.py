"""The audit: asks Kafka and ClickHouse on a live system whether the ledger's promise holds.

A difference counts only if it stays: late corrections are on their way, and a cut may be under way. Rows never come
here, only counts and the keys that differ.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pipeline.core.audit import FINDINGS_MAX, Check, Finding, Report, through_by_partition
from pipeline.core.span import Span
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import iso
from pipeline.edge.audit.offsets import OffsetsAudit
from pipeline.edge.audit.windows import WindowsAudit
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka, KafkaUnavailable
from pipeline.edge.kafka.group.standings import aggregator_names, recorder_offsets
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.audit import LIMITS
from schemas import topics

DAY_S = 86_400
TTL_MARGIN_S = 900  # rows that are about to expire are left out
RECHECK_S = 1.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit. `wait_s` is how long what is on its way may take to arrive.

    `also` adds checks of the caller's: it gets a store and the first second of which ClickHouse keeps everything.
    `due_ms`: windows that end by then must be closed, whatever the clock says.
    """

    kafka: Kafka
    wait_s: float = 60.0
    since_ms: int = 0
    also: Callable[[ClickHouse, int], Awaitable[list[Check]]] | None = None
    due_ms: int = 0
    tell: Tell = field(default=lambda _: None)

    async def run(self) -> Report:
        """Raises KafkaUnavailable, ClickHouseUnavailable or ForeignMetadataError when it cannot be told."""
        settings = self.kafka.settings
        # Its own connection: its questions are long, and may take other amounts of memory than anybody's.
        async with ClickHouse(settings, "writer", answer_s=600, limits=LIMITS) as store:
            events, aggregates = settings.topic(topics.EVENTS.name), settings.topic(topics.AGGREGATES.name)
            logs = await self._logs(events)
            lag = [await self._lag(events, "events", logs)]
            began_ms = await self.kafka.topic_began_ms(events)
            recorded = await recorder_offsets(self.kafka, events)
            checks = [await OffsetsAudit(self.kafka, store, self.since_ms, began_ms, self.tell).run(logs, recorded)]
            closed, through_ms = await self._closed(events, logs)
            lag.append(closed)
            lag.append(await self._lag(aggregates, "aggregates", await self._logs(aggregates)))
            not_before_s = self._not_before_s()
            start_s = max(not_before_s, self.since_ms // 1000)
            windows = WindowsAudit(self.kafka, store, began_ms, self.wait_s, self.tell)
            checks += await windows.run(start_s, through_ms)
            if self.also is not None:
                checks += await self.also(store, not_before_s)
            return Report((*lag, *checks), through_ms)

    async def _lag(self, topic: str, what: str, logs: dict[int, Span]) -> Check:
        """Waits until everything that was on the broker is recorded."""
        deadline = time.monotonic() + self.wait_s
        while True:
            recorded = await recorder_offsets(self.kafka, topic)
            behind = {p: max(0, log.end - recorded.get(p, log.start)) for p, log in logs.items()}
            total = sum(behind.values())
            if not total or time.monotonic() >= deadline:
                break
            self.tell(f"waiting for {total:,} {what} that are not recorded yet")
            await asyncio.sleep(RECHECK_S)
        count = sum(map(len, logs.values()))
        where = {p: f"{topic} partition {p}, from offset {recorded.get(p, log.start)}" for p, log in logs.items()}
        findings = tuple(
            Finding(f"{where[p]}: {lag:,} records are not recorded", {"topic": topic, "partition": p, "behind": lag})
            for p, lag in behind.items()
            if lag
        )
        summary = (
            f"{total:,} of {count:,} {what} on the broker are not recorded" if total else f"all {what} are recorded"
        )
        return Check(f"{what} recorded", summary, count, total, findings[:FINDINGS_MAX])

    async def _closed(self, events: str, logs: dict[int, Span]) -> tuple[Check, int]:
        """Waits until the windows that had ended are closed; through when all partitions are."""
        due_ms = max(self.due_ms, now_ms() // WINDOW_MS * WINDOW_MS)
        deadline = time.monotonic() + self.wait_s
        while True:
            through = through_by_partition(await aggregator_names(self.kafka, events), logs)
            behind = {p: through_ms for p, through_ms in through.items() if through_ms < due_ms}
            if not behind or time.monotonic() >= deadline:
                break
            self.tell(f"waiting for the windows until {iso(due_ms)} to close")
            await asyncio.sleep(RECHECK_S)
        findings = tuple(
            Finding(
                f"{events} partition {p}: closed through {iso(through_ms) if through_ms else 'nothing'}, "
                f"should be through {iso(due_ms)}",
                {"partition": p, "through_ms": through_ms, "due_ms": due_ms},
            )
            for p, through_ms in sorted(behind.items())
        )
        through_ms = min(through.values(), default=0)
        summary = f"all through {iso(through_ms)}" if through else "there are no events"
        if behind:
            summary = f"the aggregator is behind in {len(behind)} of {len(through)} partitions"
        return Check("windows closed", summary, len(through), len(behind), findings[:FINDINGS_MAX]), through_ms

    def _not_before_s(self) -> int:
        """The first second of which ClickHouse keeps both rows and windows."""
        now_s = now_ms() // 1000
        settings = self.kafka.settings
        days = min(settings.ttl_windows_days, settings.ttl_inferences_days)
        return now_s - days * DAY_S + TTL_MARGIN_S

    async def _logs(self, topic: str) -> dict[int, Span]:
        ends = await self.kafka.ends([topic])
        if not ends:
            raise KafkaUnavailable(f"topic {topic} does not exist; create it with: inferwatch topics create")
        return {tp.partition: Span(*first_and_next) for tp, first_and_next in ends.items()}
