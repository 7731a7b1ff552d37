"""The audit: asks Kafka and ClickHouse on a live system whether the ledger's promise holds.

A difference counts only if it stays: late corrections are on their way, and a cut may be under way. Rows never come
here, only counts and the keys that differ.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding, Report, through_by_partition
from pipeline.core.span import Span
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import iso
from pipeline.edge.audit.offsets import OffsetsAudit
from pipeline.edge.audit.sql import SETTINGS
from pipeline.edge.audit.windows import WindowsAudit
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka import client as kafka
from pipeline.edge.kafka.group.standings import aggregator_names, recorder_offsets
from pipeline.edge.store.client import connect
from schemas import topics

DAY_S = 86_400
TTL_MARGIN_S = 900  # rows that are about to expire are left out
RECHECK_S = 1.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit. `wait_s` is how long what is on its way may take to arrive.

    `also` adds checks of the caller's: it gets a client and the first second of which ClickHouse keeps everything.
    `due_ms`: windows that end by then must be closed, whatever the clock says.
    """

    settings: Settings
    wait_s: float = 60.0
    since_ms: int = 0
    also: Callable[[Client, int], list[Check]] | None = None
    due_ms: int = 0
    tell: Tell = field(default=lambda _: None)

    def run(self) -> Report:
        """Raises KafkaUnavailable, ClickHouseUnavailable or ForeignMetadataError when it cannot be told."""
        client = connect(self.settings, "writer", send_receive_timeout=600)
        try:
            for name, value in SETTINGS.items():
                client.set_client_setting(name, value)
            events = self.settings.topic(topics.EVENTS.name)
            aggregates = self.settings.topic(topics.AGGREGATES.name)
            logs = _logs(self.settings, events)
            lag = [self._lag(events, "events", logs)]
            began_ms = asyncio.run(kafka.topic_began_ms(self.settings, events))
            recorded = asyncio.run(recorder_offsets(self.settings, events))
            offsets = OffsetsAudit(self.settings, client, self.since_ms, began_ms, self.tell)
            checks = [offsets.run(logs, recorded)]
            closed, through_ms = self._closed(events, logs)
            lag.append(closed)
            lag.append(self._lag(aggregates, "aggregates", _logs(self.settings, aggregates)))
            not_before_s = self._not_before_s()
            start_s = max(not_before_s, self.since_ms // 1000)
            checks += WindowsAudit(self.settings, client, began_ms, self.wait_s, self.tell).run(start_s, through_ms)
            if self.also is not None:
                checks += self.also(client, not_before_s)
            return Report((*lag, *checks), through_ms)
        finally:
            client.close()

    def _lag(self, topic: str, what: str, logs: dict[int, Span]) -> Check:
        """Waits until everything that was on the broker is recorded."""
        deadline = time.monotonic() + self.wait_s
        while True:
            recorded = asyncio.run(recorder_offsets(self.settings, topic))
            behind = {p: max(0, log.end - recorded.get(p, log.start)) for p, log in logs.items()}
            total = sum(behind.values())
            if not total or time.monotonic() >= deadline:
                break
            self.tell(f"waiting for {total:,} {what} that are not recorded yet")
            time.sleep(RECHECK_S)
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

    def _closed(self, events: str, logs: dict[int, Span]) -> tuple[Check, int]:
        """Waits until the windows that had ended are closed; through when all partitions are."""
        due_ms = max(self.due_ms, now_ms() // WINDOW_MS * WINDOW_MS)
        deadline = time.monotonic() + self.wait_s
        while True:
            through = through_by_partition(asyncio.run(aggregator_names(self.settings, events)), logs)
            behind = {p: through_ms for p, through_ms in through.items() if through_ms < due_ms}
            if not behind or time.monotonic() >= deadline:
                break
            self.tell(f"waiting for the windows until {iso(due_ms)} to close")
            time.sleep(RECHECK_S)
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
        days = min(self.settings.ttl_windows_days, self.settings.ttl_inferences_days)
        return now_s - days * DAY_S + TTL_MARGIN_S


def _logs(settings: Settings, topic: str) -> dict[int, Span]:
    ends = asyncio.run(kafka.ends(settings, [topic]))
    if not ends:
        raise kafka.KafkaUnavailable(f"topic {topic} does not exist; create it with: inferwatch topics create")
    return {tp.partition: Span(*first_and_next) for tp, first_and_next in ends.items()}
