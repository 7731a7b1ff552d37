"""The audit: asks Kafka and ClickHouse on a live system whether the ledger's promise holds.

A difference counts only if it stays: late corrections are on their way, and a cut may be under way. Rows never come
here, only counts and the keys that differ.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.audit import (
    FINDINGS_MAX,
    Check,
    Finding,
    Report,
    Span,
    ceil_to,
    differences,
    iso,
    slices,
    through_by_partition,
)
from pipeline.core.ledger import AggregatorName, RecorderName
from pipeline.core.sent import Sent
from pipeline.core.windows import WINDOW_MS
from pipeline.edge import kafka
from pipeline.edge.audit_offsets import audit_offsets
from pipeline.edge.audit_sent import audit_sent
from pipeline.edge.audit_sql import (
    KEYS_MAX,
    ROLLUPS,
    SETTINGS,
    WINDOWS,
    Comparison,
    Key,
    compare,
    details,
    periods,
)
from pipeline.edge.clickhouse import ask, connect
from pipeline.edge.clock import now_ms
from schemas import topics

DAY_S = 86_400
ROWS_MAX = 4_000_000  # of one question; a busier hour is asked whole and spills
TTL_MARGIN_S = 900  # rows that are about to expire are left out
RECHECK_S = 1.0

Tell = Callable[[str], None]


@dataclass(slots=True)
class _Suspicion:
    """A slice that differed, and its keys that still do; more than KEYS_MAX are not told apart."""

    of: Comparison
    span: Span
    keys: list[Key]
    count: int


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit. `wait_s` is how long what is on its way may take to arrive."""

    settings: Settings
    wait_s: float = 60.0
    since_ms: int = 0
    sent: Sent | None = None
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
            recorded = recorder_offsets(self.settings, events)
            checks = [audit_offsets(self.settings, client, logs, recorded, self.since_ms, self.tell)]
            closed, through_ms = self._closed(events, logs)
            lag.append(closed)
            lag.append(self._lag(aggregates, "aggregates", _logs(self.settings, aggregates)))
            checks += self._windows(client, through_ms)
            if self.sent is not None:
                self.tell("comparing with what was sent")
                checks += audit_sent(client, self.sent, self._not_before_s(client))
            return Report((*lag, *checks), through_ms)
        finally:
            client.close()

    def _lag(self, topic: str, what: str, logs: dict[int, Span]) -> Check:
        """Waits until everything that was on the broker is recorded."""
        deadline = time.monotonic() + self.wait_s
        while True:
            recorded = recorder_offsets(self.settings, topic)
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
        due_ms = now_ms() // WINDOW_MS * WINDOW_MS
        if self.sent is not None and self.sent.cells:
            due_ms = max(due_ms, max(cell.window_start_ms for cell in self.sent.cells) + WINDOW_MS)
        deadline = time.monotonic() + self.wait_s
        while True:
            through = through_by_partition(aggregator_names(self.settings, events), logs)
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

    def _not_before_s(self, client: Client) -> int:
        """The first second of which ClickHouse keeps both rows and windows."""
        now_s = int(ask(client, "SELECT toUnixTimestamp(now())")[0][0])
        days = min(self.settings.ttl_windows_days, self.settings.ttl_inferences_days)
        return now_s - days * DAY_S + TTL_MARGIN_S

    def _windows(self, client: Client, through_ms: int) -> list[Check]:
        start_s = max(self._not_before_s(client), self.since_ms // 1000)
        ahead_s = int(ask(client, "SELECT toUnixTimestamp(now())")[0][0]) + 2 * DAY_S
        complete = Span(ceil_to(start_s, 10), max(ceil_to(start_s, 10), through_ms // 1000))
        plans = [
            (c, _slices(client, [("inferences", "event_time"), (c.actual.source, "window_start")], complete, 3600))
            for c in WINDOWS
        ]
        for c in ROLLUPS:
            whole = Span(ceil_to(start_s, c.window_s), ahead_s)
            tables = [(c.expected.source, "window_start"), (c.actual.source, "window_start")]
            plans.append((c, _slices(client, tables, whole, DAY_S)))
        suspicions: list[_Suspicion] = []
        compared: dict[str, int] = {}
        for c, spans in plans:
            for number, span in enumerate(spans, 1):
                self.tell(f"comparing {c.name}, {iso(span.start * 1000)} (part {number} of {len(spans)})")
                count, found = _ask_keys(client, c, span)
                compared[c.name] = compared.get(c.name, 0) + count
                if found.count:
                    suspicions.append(found)
        left = self._until_settled(client, suspicions)
        return [_verdict(client, c, compared.get(c.name, 0), [s for s in left if s.of is c]) for c, _ in plans]

    def _until_settled(self, client: Client, suspicions: list[_Suspicion]) -> list[_Suspicion]:
        """Asks again about what differs, at least once; a key that has agreed is settled."""
        deadline = time.monotonic() + self.wait_s
        while suspicions:
            self.tell(f"{sum(s.count for s in suspicions):,} windows differ; asking again, they may still settle")
            time.sleep(RECHECK_S)
            over = time.monotonic() >= deadline
            again = [_ask_keys(client, s.of, s.span, s.keys)[1] for s in suspicions]
            suspicions = [s for s in again if s.count]
            if over:
                break
        return suspicions


def recorder_offsets(settings: Settings, topic: str) -> dict[int, int]:
    """By partition: what the recorder has committed. Everything before is done. Raises ForeignMetadataError."""
    found = asyncio.run(kafka.committed(settings, "recorder"))
    return {
        tp.partition: RecorderName.parse(at.offset, at.metadata).from_offset
        for tp, at in found.items()
        if tp.topic == topic
    }


def aggregator_names(settings: Settings, topic: str) -> dict[int, AggregatorName | None]:
    """By partition: the aggregator's name. Raises ForeignMetadataError."""
    found = asyncio.run(kafka.committed(settings, "aggregator"))
    return {tp.partition: AggregatorName.parse(at.offset, at.metadata) for tp, at in found.items() if tp.topic == topic}


def _logs(settings: Settings, topic: str) -> dict[int, Span]:
    ends = asyncio.run(kafka.ends(settings, [topic]))
    if not ends:
        raise kafka.KafkaUnavailable(f"topic {topic} does not exist; create it with: inferwatch topics create")
    return {tp.partition: Span(*first_and_next) for tp, first_and_next in ends.items()}


def _slices(client: Client, tables: Sequence[tuple[str, str]], span: Span, size_s: int) -> list[Span]:
    """`span` in parts that hold rows, clipped to it."""
    if not len(span):
        return []
    rows = {int(start): int(count) for start, count in ask(client, periods(tables, span, size_s))}
    joined = slices(rows, size_s, ROWS_MAX)
    return [Span(max(s.start, span.start), min(s.end, span.end)) for s in joined]


def _ask_keys(client: Client, of: Comparison, span: Span, only: Sequence[Key] = ()) -> tuple[int, _Suspicion]:
    """(keys compared, those that differ). More than KEYS_MAX keys are asked about as a whole slice."""
    ((compared, count, rows),) = ask(client, compare(of, span, only if len(only) <= KEYS_MAX else ()))
    keys = [Key(tuple(names), window_s, hash_) for *names, window_s, hash_ in rows]
    return compared, _Suspicion(of, span, keys, count)


def _verdict(client: Client, of: Comparison, compared: int, left: Sequence[_Suspicion]) -> Check:
    wrong = sum(s.count for s in left)
    findings: list[Finding] = []
    for suspicion in left:
        room = FINDINGS_MAX - len(findings)
        if room > 0:
            findings += _explain(client, suspicion, suspicion.keys[:room])
    source = "the rows" if of in WINDOWS else "the 10-second windows"
    summary = (
        f"{wrong:,} of {compared:,} windows differ from {source}" if wrong else f"{compared:,} windows equal {source}"
    )
    return Check(of.name, summary, compared, wrong, tuple(findings))


def _explain(client: Client, suspicion: _Suspicion, keys: Sequence[Key]) -> list[Finding]:
    of = suspicion.of
    sides: dict[tuple[int, int], list[str]] = {}
    for hash_, side, values in ask(client, details(of, suspicion.span, keys)):
        sides[hash_, side] = values
    out = []
    for key in keys:
        what = differences(of.columns, sides.get((key.hash, 0)), sides.get((key.hash, 1)))
        where = dict(zip(of.keys, key.names, strict=True))
        named = " ".join(f"{name}={value!r}" for name, value in where.items())
        text = f"{named} {iso(key.window_s * 1000)}: {what or 'differed, and agrees now'}"
        out.append(Finding(text, {"table": of.name, **where, "window_start_ms": key.window_s * 1000, "what": what}))
    return out
