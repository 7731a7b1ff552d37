"""The audit of offsets: every record up to the recorder's position is exactly once a row or a dead letter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding, suspects
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
LOOKED_INTO_MAX = 50  # missing ranges of one partition that the broker is asked about


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
            for number, gap in enumerate(await offsets.gaps(self.store, self._of(tp, span))):
                await _judge_gap(self.kafka, tp, gap, outcome, ask_broker=number < LOOKED_INTO_MAX)
            doubled = await offsets.doubled(self.store, self._of(tp, span))
            outcome.wrong += doubled[0].of if doubled else 0
            for one in doubled[:FINDINGS_MAX]:
                text = f"partition {tp.partition} offset {one.offset}: recorded {one.times} times"
                parts = {"what": "doubled", "partition": tp.partition, "offset": one.offset, "times": one.times}
                outcome.findings.append(Finding(text, parts))

    def _of(self, tp: TopicPartition, span: Span) -> offsets.Offsets:
        return offsets.Offsets(tp.topic, tp.partition, span, self.began_ms)


async def _judge_gap(kafka: Kafka, tp: TopicPartition, gap: Span, outcome: _Outcome, *, ask_broker: bool) -> None:
    """A gap is a loss unless the broker holds no record there, or only events that ClickHouse no longer keeps."""
    ask_to = min(gap.end, gap.start + READ_MAX) if ask_broker else gap.start
    records, asked_to = await kafka.read(tp, gap.start, ask_to)
    kept = [r.offset for r in records if not _expired(kafka.settings, r.value, r.timestamp)]
    outcome.expired += len(records) - len(kept)
    outcome.holes += asked_to - gap.start - len(records)
    lost = runs(kept)
    if asked_to < gap.end:  # not asked about: counts as lost
        lost.append(Span(asked_to, gap.end))
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
