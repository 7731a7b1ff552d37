"""All that is judged of one partition of inference.aggregates: rules, automatic detection, and the life of its alerts.

Records come by the chain, each link once. A window is complete when every source partition says so; then it is judged,
in order. What comes out depends on the records and the rules alone, so a restart from a snapshot tells the same steps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from pipeline.core.alerting import ourselves
from pipeline.core.alerting.life_cycle import LifeCycle, LifeState
from pipeline.core.alerting.ourselves import LAG_HOLD_MS, LAG_MS_MAX, OurLimits
from pipeline.core.alerting.refusals import Refusals, RefusalsState
from pipeline.core.alerting.unjudged import Unjudged
from pipeline.core.condition import Condition, Subject
from pipeline.core.detection.detector import AutomaticDetector, DetectionState, WindowRows
from pipeline.core.detection.signals import Channel
from pipeline.core.isolation import Failures
from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import Position
from pipeline.core.rules.engine import RuleEngine, RulesState
from pipeline.core.windows.log_clock import WINDOW_MS
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertKind, AlertState
from schemas.rule import Rule
from schemas.silence import Acknowledgement
from schemas.topics import AGGREGATES

GAP_MS = 600_000  # a gap is a moment; its alert is there for a person to see
HOLE_MS = 3_600_000  # of a longer stretch without a row only the end is judged step by step


@dataclass(slots=True)
class _Pending:
    """Rows that are not wholly judged."""

    rows: WindowRows
    is_fed: bool = False  # to the rules: not before its first window is complete, or a new rule would miss a part
    first_ms: int = field(init=False)  # starts of their first and last window
    last_ms: int = field(init=False)

    def __post_init__(self) -> None:
        starts_s = self.starts_s
        self.first_ms, self.last_ms = min(starts_s) * 1000, max(starts_s) * 1000

    @property
    def starts_s(self) -> list[int]:
        """Starts of their windows."""
        starts = self.rows.models.window_start_s, self.rows.classes.window_start_s
        return [start for one in starts for start in one.tolist()]


class ModelState(msgspec.Struct):
    """What is saved of a ModelWatch."""

    chain: dict[int, Position]
    sources: int
    through: dict[int, int]
    judged_ms: int
    gap_ms: int | None
    unjudged_ms: int | None
    refusals: RefusalsState
    heard_ms: int
    log_ms: int
    behind_ms: int
    pending: list[tuple[WindowRows, bool]]
    rules: RulesState
    detection: DetectionState | None
    life: LifeState
    accepted: list[tuple[Subject, int]]


class ModelWatch:
    """One partition's models."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        sources: int,
        asked_per_model_week: float | None,
        limits: OurLimits | None = None,
    ) -> None:
        """`partitions` of inference.aggregates, `sources`: of inference.events; each must be heard before we judge.

        `asked_per_model_week`: how many false alarms of automatic detection are acceptable; None: rules only.
        """
        self._partition = partition
        self._sources = sources
        failures = Failures()
        self._rules = RuleEngine(lambda w, m: crc32(f"{w}/{m}".encode()) % partitions == partition, failures)
        self._detector = None if asked_per_model_week is None else AutomaticDetector(asked_per_model_week, failures)
        self._life = LifeCycle()
        self.unjudged = Unjudged(AGGREGATES.name, partition, failures, self._life)
        self._chain = Chain()
        self._through: dict[int, int] = {}  # by source: windows that end by then are complete
        self._heard_ms = 0  # from when on sources were heard
        self._judged_ms = 0
        self._log_ms = 0  # the broker's time of the newest record
        self._behind_ms = 0  # a source has been far behind since then; 0: none is
        self._pending: list[_Pending] = []
        self._limits = limits or OurLimits()
        self._refusals = Refusals(self._limits.refused_window_ms)
        self._is_live = False  # of history there is nothing to say about ourselves
        self._accepted: dict[Subject, int] = {}  # episodes of which a person said: this is normal from now on
        self._gap_ms: int | None = None  # when the last gap of the chain was seen, while its alert is open

    @property
    def watermark_ms(self) -> int:
        """Windows that end by then are complete, from every source; 0 until all were heard."""
        if len(self._through) < self._sources:
            return 0
        through_ms = min(self._through.values(), default=0)
        return through_ms - through_ms % WINDOW_MS

    @property
    def sources(self) -> int:
        """How many partitions of inference.events must be heard."""
        return self._sources

    def expect(self, sources: int) -> None:
        """inference.events has more partitions now: nothing newer is judged until they were heard."""
        self._sources = sources
        self._heard_ms = max(self._through.values(), default=0)  # they are late from now on, not from the start

    @property
    def rules(self) -> Iterable[Rule]:
        """Those that were set."""
        return self._rules.rules

    def set_rules(self, wanted: Mapping[str, Rule]) -> list[AlertEvent]:
        """From now on these are the rules, by id. Alerts of those that are gone, or about something else now, end."""
        events: list[AlertEvent] = []
        for rule_id in [one.rule_id for one in self._rules.rules if one.rule_id not in wanted]:
            if self._rules.delete(rule_id):
                events += self._life.withdraw(rule_id, self._judged_ms, "the rule was deleted")
        for one in wanted.values():
            if self._rules.set(one):
                events += self._life.withdraw(one.rule_id, self._judged_ms, "the rule was changed")
        return events

    def hear(self, ack: Acknowledgement) -> list[AlertEvent]:
        """What a person says of an alert, where the log has come to."""
        if ack.says == "normal":
            self._accept(ack)
        return self._life.hear(ack, self._judged_ms)

    def _accept(self, ack: Acknowledgement) -> None:
        """What is seen is learned as what is expected: a quarter of an hour, then the alert ends on evidence."""
        subject = self._life.subject(ack.fingerprint, ack.episode)
        if subject is None or subject.kind is not AlertKind.ANOMALY or self._accepted.get(subject) == ack.episode:
            return
        still_open = {one for one, _ in self._life.states()}
        self._accepted = {one: at for one, at in self._accepted.items() if one in still_open} | {subject: ack.episode}
        if self._detector is not None and subject.model_id is not None:
            self._detector.accept((subject.workspace, subject.model_id), Channel[subject.metric.upper()])

    def observe(self, record: AggregateRecord, time_ms: int | None = None) -> tuple[Verdict, list[AlertEvent]]:
        """One record, in the order of the log; the broker's time of it (None: when its windows ended)."""
        self._is_live = True
        self._log_ms = max(self._log_ms, record.end[2] if time_ms is None else time_ms)
        end = Position(*record.end)
        verdict = self._chain.observe(record.source, Position(*record.start), end)
        if verdict is Verdict.REPEAT:
            return verdict, []
        events = self._note_gap(record) if verdict is Verdict.GAP else []
        # A part of a cut says nothing about what is complete: more of it is to come.
        self._through[record.source] = self._through.get(record.source, 0) if end.part else end.through_ms
        self._refusals.add(record.end[2], record.read_count, record.refused)
        if len(record.models) or len(record.classes):
            self._pending.append(_Pending(WindowRows(record.models, record.classes)))
        return verdict, events + self._note_lag() + self._judge()

    def observe_history(self, through_ms: int, rows: WindowRows) -> list[AlertEvent]:
        """Windows long past, in the order of time, without a chain: all are complete that end by `through_ms`."""
        self._through = dict.fromkeys(range(self._sources), through_ms)
        if len(rows.models) or len(rows.classes):
            self._pending.append(_Pending(rows))
            self._judged_ms = self._judged_ms or self._pending[0].first_ms
        return self._judge()

    def _judge(self) -> list[AlertEvent]:
        through_ms = self.watermark_ms
        if not self._judged_ms:  # what was before is not known whole
            self._judged_ms = max(0, through_ms - WINDOW_MS)
        events: list[AlertEvent] = []
        if through_ms <= self._judged_ms:
            return events
        for end_ms in self._window_ends(through_ms):
            events += self._judge_window(end_ms, through_ms)
        self._judged_ms = through_ms
        self._pending = [item for item in self._pending if item.last_ms >= through_ms]
        return events

    def _judge_window(self, end_ms: int, through_ms: int) -> list[AlertEvent]:
        for item in self._pending:
            if not item.is_fed and item.first_ms < end_ms:
                item.is_fed = True
                self._rules.observe(item.rows.models, item.rows.classes)
        events: list[AlertEvent] = []
        found = self._observe_window(end_ms - WINDOW_MS, through_ms)
        for condition in self._rules.tick(end_ms, self._life.follows) + found + self._about_ourselves(end_ms):
            events += self._life.observe(condition)
        return events + self.unjudged.tick(end_ms) + self._life.tick(end_ms)

    def _window_ends(self, through_ms: int) -> Iterable[int]:
        """Ends of the windows to judge: all, but of a hole in the log only the last hour before something came."""
        first_ms = self._judged_ms + WINDOW_MS
        if through_ms - first_ms > HOLE_MS:
            starts = (s * 1000 for item in self._pending for s in item.starts_s if s * 1000 >= self._judged_ms)
            first_ms = max(first_ms, min(starts, default=through_ms) + WINDOW_MS - HOLE_MS)
        return range(first_ms, through_ms + 1, WINDOW_MS)

    def _observe_window(self, start_ms: int, through_ms: int) -> list[Condition]:
        if self._detector is None:
            return []
        masked = {
            (subject.workspace, subject.model_id)
            for subject, state in self._life.states()
            if subject.kind is AlertKind.RULE and subject.model_id and state is not AlertState.PENDING
        }
        findings = self._detector.observe(start_ms, [item.rows for item in self._pending], masked, through_ms)
        return [finding.condition() for finding in findings]

    def _about_ourselves(self, end_ms: int) -> list[Condition]:
        said: list[Condition] = []
        if not self._is_live:
            return said
        if self._partition == 0:  # that it is told once
            said = [
                ourselves.alive(end_ms),
                ourselves.refusals(end_ms, *self._refusals.until(end_ms), self._limits),
            ]
        if self._gap_ms is not None and end_ms >= self._gap_ms + GAP_MS:
            said.append(ourselves.gap_over(self._partition, end_ms))
            self._gap_ms = None
        return said

    def _note_gap(self, record: AggregateRecord) -> list[AlertEvent]:
        """Told at once."""
        self._gap_ms = max(record.end[2], self._judged_ms)
        evidence = {"start": record.start, "end": record.end}
        return self._life.observe(ourselves.gap(self._partition, self._gap_ms, record.source, evidence))

    def _note_lag(self) -> list[AlertEvent]:
        """A source that stands still holds back all: that must not go unseen."""
        heard = {source: through_ms for source, through_ms in self._through.items() if through_ms}
        if not heard:
            return []
        newest_ms = max(heard.values())
        self._heard_ms = self._heard_ms or newest_ms
        slowest = min(heard, key=heard.__getitem__) if len(heard) >= self._sources else None
        lag_ms = newest_ms - (self._heard_ms if slowest is None else heard[slowest])
        # After a restart of ours the sources catch up one by one: only who stays behind while the log goes on is late.
        self._behind_ms = (self._behind_ms or self._log_ms) if lag_ms >= LAG_MS_MAX else 0
        stays = self._behind_ms > 0 and self._log_ms - self._behind_ms >= LAG_HOLD_MS
        return self._life.observe(ourselves.input_lag(self._partition, newest_ms, lag_ms, slowest, breached=stays))

    def snapshot(self) -> ModelState:
        """What to save together with the offset that it explains."""
        return ModelState(
            chain=self._chain.snapshot(),
            sources=self._sources,
            through=self._through,
            judged_ms=self._judged_ms,
            gap_ms=self._gap_ms,
            unjudged_ms=self.unjudged.since_ms,
            refusals=self._refusals.snapshot(),
            heard_ms=self._heard_ms,
            log_ms=self._log_ms,
            behind_ms=self._behind_ms,
            pending=[(item.rows, item.is_fed) for item in self._pending],
            rules=self._rules.snapshot(),
            detection=None if self._detector is None else self._detector.snapshot(),
            life=self._life.snapshot(),
            accepted=list(self._accepted.items()),
        )

    def restore(self, state: ModelState) -> None:
        """As it was when it was saved."""
        self._chain = Chain(state.chain)
        self._sources, self._through = state.sources, state.through
        self._judged_ms, self._gap_ms, self._heard_ms = state.judged_ms, state.gap_ms, state.heard_ms
        self._log_ms, self._behind_ms = state.log_ms, state.behind_ms
        self._pending = [_Pending(rows.whole(), is_fed) for rows, is_fed in state.pending]
        self.unjudged.since_ms = state.unjudged_ms
        self._refusals.restore(state.refusals)
        self._rules.restore(state.rules)
        if self._detector is not None and state.detection is not None:
            self._detector.restore(state.detection)
        self._life.restore(state.life)
        self._accepted = dict(state.accepted)
