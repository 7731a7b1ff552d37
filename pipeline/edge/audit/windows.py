"""The audit of windows: every complete one says what its events say, every rollup what its windows say.

Late events reach the windows with the next cut, up to a window later. So before each question the aggregator's
positions are read, and only events that its cuts have taken count; what still differs is asked again until it settles.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding, ceil_to, differences
from pipeline.core.span import Span, slices
from pipeline.core.words import iso
from pipeline.edge.audit.sql import KEYS_MAX, ROLLUPS, WINDOWS, Comparison, Key, compare, details, due_events, periods
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.group.standings import aggregator_names
from pipeline.edge.store.client import ask
from schemas import topics

DAY_S = 86_400
ROWS_MAX = 4_000_000  # of one question; a busier hour is asked whole and spills
RECHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """A slice that differed, and its keys that still do; more than KEYS_MAX are not told apart."""

    of: Comparison
    span: Span
    due: str  # which events counted
    keys: list[Key]
    count: int


@dataclass(frozen=True, slots=True)
class WindowsAudit:
    """All comparisons of windows. `wait_s` is how long what differs may take to settle."""

    settings: Settings
    client: Client
    began_ms: int  # older events are of an earlier topic
    wait_s: float
    tell: Callable[[str], None]

    def run(self, start_s: int, through_ms: int) -> list[Check]:
        """A check for each table, of windows from `start_s` on; those of 10 seconds as far as they are complete."""
        suspicions: list[_Suspicion] = []
        compared: dict[str, int] = {}
        plans = self._plans(start_s, through_ms)
        for c, spans in plans:
            for number, span in enumerate(spans, 1):
                self.tell(f"comparing {c.name}, {iso(span.start * 1000)} (part {number} of {len(spans)})")
                count, found = self._ask(c, span, ())
                compared[c.name] = compared.get(c.name, 0) + count
                if found.count:
                    suspicions.append(found)
        left = self._until_settled(suspicions)
        return [self._verdict(c, compared.get(c.name, 0), [s for s in left if s.of is c]) for c, _ in plans]

    def _plans(self, start_s: int, through_ms: int) -> list[tuple[Comparison, list[Span]]]:
        first_s = ceil_to(start_s, 10)
        complete = Span(first_s, max(first_s, through_ms // 1000))
        plans = [
            (c, self._slices([("inferences", "event_time"), (c.actual.source, "window_start")], complete, 3600))
            for c in WINDOWS
        ]
        for c in ROLLUPS:
            whole = Span(ceil_to(start_s, c.window_s), now_ms() // 1000 + 2 * DAY_S)
            tables = [(c.expected.source, "window_start"), (c.actual.source, "window_start")]
            plans.append((c, self._slices(tables, whole, DAY_S)))
        return plans

    def _slices(self, tables: Sequence[tuple[str, str]], span: Span, size_s: int) -> list[Span]:
        """`span` in parts that hold rows, clipped to it."""
        if not len(span):
            return []
        rows = {int(start): int(count) for start, count in ask(self.client, periods(tables, span, size_s))}
        joined = slices(rows, size_s, ROWS_MAX)
        return [Span(max(s.start, span.start), min(s.end, span.end)) for s in joined]

    def _until_settled(self, suspicions: list[_Suspicion]) -> list[_Suspicion]:
        """Asks again about what differs, at least once; a key that has agreed is settled."""
        deadline = time.monotonic() + self.wait_s
        while suspicions:
            self.tell(f"{sum(s.count for s in suspicions):,} windows differ; asking again, they may still settle")
            time.sleep(RECHECK_S)
            over = time.monotonic() >= deadline
            again = [self._ask(s.of, s.span, s.keys)[1] for s in suspicions]
            suspicions = [s for s in again if s.count]
            if over:
                break
        return suspicions

    def _ask(self, of: Comparison, span: Span, only: Sequence[Key]) -> tuple[int, _Suspicion]:
        """(keys compared, those that differ). More than KEYS_MAX keys are asked about as a whole slice."""
        due = self._due() if of.expected.is_events else ""
        sql = compare(of, span, due, only if len(only) <= KEYS_MAX else ())
        ((compared, count, rows),) = ask(self.client, sql)
        keys = [Key(tuple(names), window_s, hash_) for *names, window_s, hash_ in rows]
        return compared, _Suspicion(of, span, due, keys, count)

    def _due(self) -> str:
        topic = self.settings.topic(topics.EVENTS.name)
        taken = {p: name.to_offset for p, name in asyncio.run(aggregator_names(self.settings, topic)).items()}
        return due_events(taken, self.began_ms)

    def _verdict(self, of: Comparison, compared: int, left: Sequence[_Suspicion]) -> Check:
        wrong = sum(s.count for s in left)
        findings: list[Finding] = []
        for suspicion in left:
            room = FINDINGS_MAX - len(findings)
            if room > 0:
                findings += self._explain(suspicion, suspicion.keys[:room])
        source = "the rows" if of in WINDOWS else "the 10-second windows"
        summary = f"{compared:,} windows equal {source}"
        if wrong:
            summary = f"{wrong:,} of {compared:,} windows differ from {source}"
        return Check(of.name, summary, compared, wrong, tuple(findings))

    def _explain(self, suspicion: _Suspicion, keys: Sequence[Key]) -> list[Finding]:
        of = suspicion.of
        sides: dict[tuple[int, int], list[str]] = {}
        for hash_, side, values in ask(self.client, details(of, suspicion.span, suspicion.due, keys)):
            sides[hash_, side] = values
        out = []
        for key in keys:
            what = differences(of.columns, sides.get((key.hash, 0)), sides.get((key.hash, 1)))
            where = dict(zip(of.keys, key.names, strict=True))
            named = " ".join(f"{name}={value!r}" for name, value in where.items())
            text = f"{named} {iso(key.window_s * 1000)}: {what or 'differed, and agrees now'}"
            out.append(Finding(text, {"table": of.name, **where, "window_start_ms": key.window_s * 1000, "what": what}))
        return out
