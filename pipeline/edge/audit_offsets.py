"""The audit of offsets: every record up to the recorder's position is exactly once a row or a dead letter."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding, Span, runs, suspects
from pipeline.edge import kafka
from pipeline.edge.audit_sql import BLOCKS, DOUBLED, GAPS
from pipeline.edge.clickhouse import ask
from pipeline.edge.clock import now_ms
from schemas import topics
from schemas.event import decode
from schemas.rejection import Rejected

DAY_MS = 86_400_000
TTL_MARGIN_MS = 900_000
READ_MAX = 20_000  # missing offsets of one range that the broker is asked about
LOOKED_INTO_MAX = 50  # missing ranges of one partition that the broker is asked about
CLOCK_STEP_MS = 1000  # a broker's clock may step back by this


@dataclass(slots=True)
class _Outcome:
    """What one partition's offsets amount to."""

    compared: int = 0
    wrong: int = 0
    holes: int = 0  # offsets without a record for us: transactions, compaction
    expired: int = 0  # events as old as ClickHouse keeps them
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Partition:
    """One partition as it is audited."""

    topic: str
    partition: int
    span: Span
    not_before_ms: int  # rows with an older broker time are of an earlier topic of that name

    def parameters(self, span: Span) -> dict[str, object]:
        return {
            "topic": self.topic,
            "partition": self.partition,
            "start": span.start,
            "end": span.end,
            "not_before_ms": self.not_before_ms,
        }


def audit_offsets(
    settings: Settings,
    client: Client,
    logs: Mapping[int, Span],
    recorded: Mapping[int, int],
    since_ms: int,
    tell: Callable[[str], None],
) -> Check:
    """`logs`: offsets on the broker; `recorded`: what the recorder has committed; both by partition."""
    total = _Outcome()
    for part in _partitions(settings, logs, recorded, since_ms):
        tell(f"counting offsets of partition {part.partition}")
        outcome = _audit_partition(settings, client, part)
        total.compared += outcome.compared
        total.wrong += outcome.wrong
        total.holes += outcome.holes
        total.expired += outcome.expired
        total.findings += outcome.findings
    summary = (
        f"{total.wrong:,} of {total.compared:,} records are missing or doubled"
        if total.wrong
        else f"{total.compared:,} records, each exactly once a row or a dead letter"
    )
    if total.holes:
        summary += f"; {total.holes:,} offsets hold no record (transactions, compaction)"
    if total.expired:
        summary += f"; {total.expired:,} events are older than ClickHouse keeps them"
    return Check("rows and dead letters", summary, total.compared, total.wrong, tuple(total.findings[:FINDINGS_MAX]))


def _partitions(
    settings: Settings, logs: Mapping[int, Span], recorded: Mapping[int, int], since_ms: int
) -> list[_Partition]:
    topic = settings.topic(topics.EVENTS.name)
    tps = [TopicPartition(topic, p) for p in logs]
    kept_ms = now_ms() - settings.ttl_inferences_days * DAY_MS + TTL_MARGIN_MS  # older ones expire
    first = asyncio.run(kafka.first_since(settings, tps, max(since_ms, kept_ms)))
    begin = asyncio.run(kafka.first_since(settings, tps, 0))
    log_time = asyncio.run(kafka.topic_settings(settings, [topic]))[topic].get("message.timestamp.type")
    out = []
    for tp in tps:
        log = logs[tp.partition]
        start = max(log.start, first[tp][0]) if tp in first else log.end
        end = min(recorded.get(tp.partition, log.start), log.end)
        not_before_ms = begin[tp][1] - CLOCK_STEP_MS if tp in begin and log_time == "LogAppendTime" else 0
        if start < end:
            out.append(_Partition(topic, tp.partition, Span(start, end), max(0, not_before_ms)))
    return out


def _audit_partition(settings: Settings, client: Client, part: _Partition) -> _Outcome:
    outcome = _Outcome(compared=len(part.span))
    blocks = {int(block): (rows, distinct) for block, rows, distinct in ask(client, BLOCKS, part.parameters(part.span))}
    for span in suspects(part.span, blocks):
        missing = [Span(start, end) for start, end in ask(client, GAPS, part.parameters(span))]
        for number, gap in enumerate(missing):
            _judge_gap(settings, part, gap, outcome, ask_broker=number < LOOKED_INTO_MAX)
        doubled = ask(client, DOUBLED, part.parameters(span))
        outcome.wrong += doubled[0][2] if doubled else 0
        for offset, times, _ in doubled[:FINDINGS_MAX]:
            text = f"partition {part.partition} offset {offset}: recorded {times} times"
            parts = {"what": "doubled", "partition": part.partition, "offset": offset, "times": times}
            outcome.findings.append(Finding(text, parts))
    return outcome


def _judge_gap(settings: Settings, part: _Partition, gap: Span, outcome: _Outcome, *, ask_broker: bool) -> None:
    """A gap is a loss unless the broker holds no record there, or only events that ClickHouse no longer keeps."""
    tp = TopicPartition(part.topic, part.partition)
    ask_to = min(gap.end, gap.start + READ_MAX) if ask_broker else gap.start
    records, asked_to = asyncio.run(kafka.read(settings, tp, gap.start, ask_to))
    kept = [r.offset for r in records if not _expired(settings, r.value, r.timestamp)]
    outcome.expired += len(records) - len(kept)
    outcome.holes += asked_to - gap.start - len(records)
    lost = runs(kept)
    if asked_to < gap.end:  # not asked about: counts as lost
        lost.append(Span(asked_to, gap.end))
    for span in lost:
        outcome.wrong += len(span)
        text = f"partition {part.partition} offsets {span.start}..{span.end - 1}: {len(span):,} records are missing"
        parts = {"what": "missing", "partition": part.partition, "first": span.start, "last": span.end - 1}
        outcome.findings.append(Finding(text, parts))


def _expired(settings: Settings, value: bytes | None, broker_time_ms: int) -> bool:
    event = decode(value, broker_time_ms, settings.time_limits)
    kept_ms = now_ms() - settings.ttl_inferences_days * DAY_MS
    return not isinstance(event, Rejected) and event.event_time_ms <= kept_ms
