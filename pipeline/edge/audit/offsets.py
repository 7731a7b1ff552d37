"""The audit of offsets: every record up to the recorder's position is exactly once a row or a dead letter."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding, near, suspects
from pipeline.core.span import Span, runs
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries import offsets
from schemas import topics
from schemas.event import decode
from schemas.rejection import Rejected
from schemas.tolerance import Adjusted

DAY_MS = 86_400_000
TTL_MARGIN_MS = 900_000
READ_MAX = 20_000  # missing offsets of one range that the broker is asked about
NEAR = 2000  # offsets between two missing ranges, up to which they are read together: transactions leave many


@dataclass(slots=True)
class _Outcome:
    """What one partition's offsets amount to."""

    compared: int = 0
    wrong: int = 0
    holes: int = 0  # offsets without a record for us: transactions, compaction
    expired: int = 0  # events as old as ClickHouse keeps them
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OffsetsAudit:
    """Every record since `since_ms`, and not before ClickHouse's retention, is exactly once there."""

    kafka: Kafka
    store: ClickHouse
    since_ms: int
    began_ms: int  # older rows are of an earlier topic of that name
    tell: Callable[[str], None]

    async def run(self, logs: Mapping[int, Span], recorded: Mapping[int, int]) -> Check:
        """`logs`: offsets on the broker; `recorded`: what the recorder has committed; both by partition."""
        total = _Outcome()
        for tp, span in (await self._spans(logs, recorded)).items():
            self.tell(f"counting offsets of partition {tp.partition}")
            await self._partition(tp, span, total)
        summary = f"{total.compared:,} records, each exactly once a row or a dead letter"
        if total.wrong:
            summary = f"{total.wrong:,} of {total.compared:,} records are missing or doubled"
        if total.holes:
            summary += f"; {total.holes:,} offsets hold no record (transactions, compaction)"
        if total.expired:
            summary += f"; {total.expired:,} events are older than ClickHouse keeps them"
        findings = tuple(total.findings[:FINDINGS_MAX])
        return Check("rows and dead letters", summary, total.compared, total.wrong, findings)

    async def _spans(self, logs: Mapping[int, Span], recorded: Mapping[int, int]) -> dict[TopicPartition, Span]:
        """What must be there, by partition."""
        settings = self.kafka.settings
        topic = settings.topic(topics.EVENTS.name)
        tps = [TopicPartition(topic, p) for p in logs]
        kept_ms = now_ms() - settings.ttl_inferences_days * DAY_MS + TTL_MARGIN_MS  # older ones expire
        first = await self.kafka.first_since(tps, max(self.since_ms, kept_ms))
        out = {}
        for tp in tps:
            log = logs[tp.partition]
            start = max(log.start, first[tp][0]) if tp in first else log.end
            end = min(recorded.get(tp.partition, log.start), log.end)
            if start < end:
                out[tp] = Span(start, end)
        return out

    async def _partition(self, tp: TopicPartition, whole: Span, outcome: _Outcome) -> None:
        outcome.compared += len(whole)
        for span in suspects(whole, await offsets.blocks(self.store, self._of(tp, whole))):
            for gaps in near([gap async for gap in self._gaps(tp, span)], NEAR):
                await _judge_gaps(self.kafka, tp, gaps, outcome)
            doubled = await offsets.doubled(self.store, self._of(tp, span))
            outcome.wrong += doubled[0].of if doubled else 0
            for one in doubled[:FINDINGS_MAX]:
                text = f"partition {tp.partition} offset {one.offset}: recorded {one.times} times"
                parts = {"what": "doubled", "partition": tp.partition, "offset": one.offset, "times": one.times}
                outcome.findings.append(Finding(text, parts))

    async def _gaps(self, tp: TopicPartition, span: Span) -> AsyncIterator[Span]:
        start = span.start
        while True:
            found = await offsets.gaps(self.store, self._of(tp, Span(start, span.end)))
            for gap in found:
                yield gap
            if len(found) < offsets.GAPS_MAX:
                return
            start = found[-1].end

    def _of(self, tp: TopicPartition, span: Span) -> offsets.Offsets:
        return offsets.Offsets(tp.topic, tp.partition, span, self.began_ms)


async def _judge_gaps(kafka: Kafka, tp: TopicPartition, gaps: Sequence[Span], outcome: _Outcome) -> None:
    """Gaps are losses unless the broker holds no record there, or only events that ClickHouse no longer keeps."""
    asked = [Span(gap.start, min(gap.end, gap.start + READ_MAX)) for gap in gaps]
    at, end = asked[0].start, asked[-1].end
    kept: list[int] = []
    found = 0
    while at < end:
        records, to = await kafka.read(tp, at, end)
        missing = [r for r in records if any(r.offset in range(gap.start, gap.end) for gap in asked)]
        kept += [r.offset for r in missing if not _expired(kafka.settings, r.value, r.timestamp)]
        found += len(missing)
        if to == at:
            break
        at = to
    outcome.expired += found - len(kept)
    outcome.holes += sum(max(0, min(gap.end, at) - gap.start) for gap in asked) - found
    lost = runs(kept)
    # What was not asked about counts as lost.
    rest = [Span(max(gap.start, min(part.end, at)), gap.end) for gap, part in zip(gaps, asked, strict=True)]
    lost += [span for span in rest if len(span)]
    for span in lost:
        outcome.wrong += len(span)
        if len(outcome.findings) >= FINDINGS_MAX:
            continue
        text = f"partition {tp.partition} offsets {span.start}..{span.end - 1}: {len(span):,} records are missing"
        parts = {"what": "missing", "partition": tp.partition, "first": span.start, "last": span.end - 1}
        outcome.findings.append(Finding(text, parts))


def _expired(settings: Settings, value: bytes | None, broker_time_ms: int) -> bool:
    found = decode(value, broker_time_ms, settings.time_limits)
    event = found.value if isinstance(found, Adjusted) else found
    kept_ms = now_ms() - settings.ttl_inferences_days * DAY_MS
    return not isinstance(event, Rejected) and event.event_time_ms <= kept_ms
