"""The audit of windows: every complete one says what its events say, every rollup what its windows say.

Late events reach the windows with the next cut, up to a window later. So before each question the aggregator's
positions are read, and only events that its cuts have taken count; what still differs is asked again until it settles.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.core.audit import FINDINGS_MAX, Check, Finding, ceil_to, differences
from pipeline.core.span import Span, slices
from pipeline.core.words import iso
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.group.standings import aggregator_names
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.audit import KEYS_MAX, ROLLUPS, WINDOWS, Comparison, Due, Key, compare, details
from pipeline.edge.store.queries.periods import rows_by_period
from schemas import topics

DAY_S = 86_400
ROWS_MAX = 4_000_000  # of one question; a busier hour is asked whole and spills
RECHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """A slice that differed, and its keys that still do; more than KEYS_MAX are not told apart."""

    of: Comparison
    span: Span
    due: Due  # which events counted
    keys: list[Key]
    count: int


@dataclass(frozen=True, slots=True)
class WindowsAudit:
    """All comparisons of windows. `wait_s` is how long what differs may take to settle."""

    kafka: Kafka
    store: ClickHouse
    began_ms: int  # older events are of an earlier topic
    wait_s: float
    tell: Callable[[str], None]

    async def run(self, start_s: int, through_ms: int) -> list[Check]:
        """A check for each table, of windows from `start_s` on; those of 10 seconds as far as they are complete."""
        suspicions: list[_Suspicion] = []
        compared: dict[str, int] = {}
        plans = await self._plans(start_s, through_ms)
        for c, spans in plans:
            for number, span in enumerate(spans, 1):
                self.tell(f"comparing {c.name}, {iso(span.start * 1000)} (part {number} of {len(spans)})")
                count, found = await self._ask(c, span, ())
                compared[c.name] = compared.get(c.name, 0) + count
                if found.count:
                    suspicions.append(found)
        left = await self._until_settled(suspicions)
        return [await self._verdict(c, compared.get(c.name, 0), [s for s in left if s.of is c]) for c, _ in plans]

    async def _plans(self, start_s: int, through_ms: int) -> list[tuple[Comparison, list[Span]]]:
        first_s = ceil_to(start_s, 10)
        complete = Span(first_s, max(first_s, through_ms // 1000))
        plans = [
            (c, await self._slices([("inferences", "event_time"), (c.actual.source, "window_start")], complete, 3600))
            for c in WINDOWS
        ]
        for c in ROLLUPS:
            whole = Span(ceil_to(start_s, c.window_s), now_ms() // 1000 + 2 * DAY_S)
            tables = [(c.expected.source, "window_start"), (c.actual.source, "window_start")]
            plans.append((c, await self._slices(tables, whole, DAY_S)))
        return plans

    async def _slices(self, tables: Sequence[tuple[str, str]], span: Span, size_s: int) -> list[Span]:
        """`span` in parts that hold rows, clipped to it."""
        if not len(span):
            return []
        joined = slices(await rows_by_period(self.store, tables, span, size_s), size_s, ROWS_MAX)
        return [Span(max(s.start, span.start), min(s.end, span.end)) for s in joined]

    async def _until_settled(self, suspicions: list[_Suspicion]) -> list[_Suspicion]:
        """Asks again about what differs, at least once; a key that has agreed is settled."""
        deadline = time.monotonic() + self.wait_s
        while suspicions:
            self.tell(f"{sum(s.count for s in suspicions):,} windows differ; asking again, they may still settle")
            await asyncio.sleep(RECHECK_S)
            over = time.monotonic() >= deadline
            again = [(await self._ask(s.of, s.span, s.keys))[1] for s in suspicions]
            suspicions = [s for s in again if s.count]
            if over:
                break
        return suspicions

    async def _ask(self, of: Comparison, span: Span, only: Sequence[Key]) -> tuple[int, _Suspicion]:
        """(keys compared, those that differ). More than KEYS_MAX keys are asked about as a whole slice."""
        due = await self._due() if of.expected.is_events else Due({}, 0)
        found = await compare(self.store, of, span, due, only if len(only) <= KEYS_MAX else ())
        return found.count, _Suspicion(of, span, due, found.keys, found.differing)

    async def _due(self) -> Due:
        topic = self.kafka.settings.topic(topics.EVENTS.name)
        taken = {p: name.to_offset for p, name in (await aggregator_names(self.kafka, topic)).items()}
        return Due(taken, self.began_ms)

    async def _verdict(self, of: Comparison, compared: int, left: Sequence[_Suspicion]) -> Check:
        wrong = sum(s.count for s in left)
        findings: list[Finding] = []
        for suspicion in left:
            room = FINDINGS_MAX - len(findings)
            if room > 0:
                findings += await self._explain(suspicion, suspicion.keys[:room])
        source = "the rows" if of in WINDOWS else "the 10-second windows"
        summary = f"{compared:,} windows equal {source}"
        if wrong:
            summary = f"{wrong:,} of {compared:,} windows differ from {source}"
        return Check(of.name, summary, compared, wrong, tuple(findings))

    async def _explain(self, suspicion: _Suspicion, keys: Sequence[Key]) -> list[Finding]:
        of = suspicion.of
        sides = await details(self.store, of, suspicion.span, suspicion.due, keys)
        out = []
        for key in keys:
            what = differences(of.columns, sides.get((key.hash, 0)), sides.get((key.hash, 1)))
            where = dict(zip(of.keys, key.names, strict=True))
            named = " ".join(f"{name}={value!r}" for name, value in where.items())
            text = f"{named} {iso(key.window_s * 1000)}: {what or 'differed, and agrees now'}"
            out.append(Finding(text, {"table": of.name, **where, "window_start_ms": key.window_s * 1000, "what": what}))
        return out
