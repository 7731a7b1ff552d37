"""All that is judged of one partition of inference.aggregates: rules, automatic detection, and the life of its alerts.

Records come by the chain, each link once. A window is complete when every source partition says so; then it is judged,
in order. What comes out depends on the records and the rules alone, so a restart from a snapshot tells the same steps.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import msgspec

from pipeline.core.alerting.condition import Condition, Subject
from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.alerting.routing import WATCHDOG
from pipeline.core.alerting.rules import RuleEngine
from pipeline.core.detection.detector import AutomaticDetector, WindowRows
from pipeline.core.detection.finding import Finding
from pipeline.core.ledger import Chain, Position, Verdict
from pipeline.core.windows import WINDOW_MS
from schemas.aggregate import AggregateRecord, ClassColumns, ModelColumns
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.rule import Rule

VERSION = 1
PIPELINE_WORKSPACE = "inferwatch"  # of the alerts about ourselves
_GAP_KEEP_FIRING_MS = 600_000  # a gap is a moment; its alert is there for a person to see


class ModelWatch:
    """One partition's models."""

    def __init__(self, partition: int, partitions: int, asked_per_model_week: float) -> None:
        """`asked_per_model_week`: how many false alarms of automatic detection are acceptable."""
        self._partition = partition
        self._rules = RuleEngine(lambda w, m: crc32(f"{w}/{m}".encode()) % partitions == partition)
        self._detector = AutomaticDetector(asked_per_model_week)
        self._life = LifeCycle()
        self._chain = Chain()
        self._through: dict[int, int] = {}  # by source: windows that end by then are complete
        self._judged_ms = 0
        self._pending: list[tuple[int, WindowRows]] = []  # (end of its last window, rows) not wholly judged

    @property
    def watermark_ms(self) -> int:
        """Windows that end by then are complete, from every source."""
        return min(self._through.values(), default=0)

    def set_rule(self, rule: Rule) -> list[AlertEvent]:
        """Takes a rule in."""
        withdrawn = self._rules.set(rule)
        return self._life.withdraw(rule.rule_id, self._judged_ms, "the rule was changed") if withdrawn else []

    def delete_rule(self, rule_id: str) -> list[AlertEvent]:
        """Forgets a rule; its alerts end."""
        if not self._rules.delete(rule_id):
            return []
        return self._life.withdraw(rule_id, self._judged_ms, "the rule was deleted")

    @property
    def rules(self) -> Iterable[Rule]:
        """The rules in force."""
        return self._rules.rules

    def acknowledge(self, fingerprint: str, episode: int, author: str, comment: str, at_ms: int) -> list[AlertEvent]:
        """A person has it."""
        return self._life.acknowledge(fingerprint, episode, author, comment, at_ms)

    def observe(self, record: AggregateRecord) -> tuple[Verdict, list[AlertEvent]]:
        """One record, in the order of the log."""
        verdict = self._chain.observe(record.source, Position(*record.start), Position(*record.end))
        if verdict is Verdict.REPEAT:
            return verdict, []
        events = [] if verdict is Verdict.ACCEPTED else self._life.observe(self._gap(record))
        self._through[record.source] = record.end[2] if record.end[3] == 0 else self._through.get(record.source, 0)
        rows = WindowRows(record.models, record.classes)
        if record.models.window_start_s:
            self._rules.observe(record.models, record.classes)
            self._pending.append((max(record.models.window_start_s) * 1000 + WINDOW_MS, rows))
        return verdict, events + self._judge()

    def _judge(self) -> list[AlertEvent]:
        through_ms = self.watermark_ms
        if not self._judged_ms:
            self._judged_ms = max(0, min((start for start in self._starts()), default=through_ms))
        events: list[AlertEvent] = []
        if through_ms <= self._judged_ms:
            return events
        for end_ms in self._window_ends(through_ms):
            found = [finding.condition() for finding in self._observe_window(end_ms - WINDOW_MS)]
            for condition in self._rules.tick(end_ms) + found:
                events += self._life.observe(condition)
            if self._partition == 0:
                events += self._life.observe(_watchdog(end_ms))
            events += self._life.tick(end_ms)
        self._judged_ms = through_ms
        self._pending = [item for item in self._pending if item[0] > through_ms]
        return events

    def _window_ends(self, through_ms: int) -> Iterable[int]:
        """Ends of the windows to judge. Of a long stretch without a row only the last hour is judged step by step."""
        first = self._judged_ms + WINDOW_MS
        if not self._pending:
            first = max(first, through_ms - 3_600_000)
        return range(first, through_ms + 1, WINDOW_MS)

    def _starts(self) -> Iterable[int]:
        return (start_s * 1000 for _, rows in self._pending for start_s in rows.models.window_start_s)

    def _observe_window(self, start_ms: int) -> list[Finding]:
        rows = [rows for _, rows in self._pending]
        masked = {
            (subject.workspace, subject.model_id)
            for subject, state in self._life.states()
            if subject.kind is AlertKind.RULE and subject.model_id and state is not AlertState.PENDING
        }
        return self._detector.observe(start_ms, rows, masked)

    def _gap(self, record: AggregateRecord) -> Condition:
        subject = Subject(AlertKind.PIPELINE, None, PIPELINE_WORKSPACE, None, None, None, "chain_gap")
        return Condition(
            subject=subject,
            at_ms=record.end[2],
            breached=True,
            value=None,
            expected=None,
            threshold=None,
            severity=Severity.CRITICAL,
            hold_ms=0,
            keep_firing_ms=_GAP_KEEP_FIRING_MS,
            summary=f"windows of source partition {record.source} are missing; run inferwatch audit",
            evidence={"source": record.source, "partition": self._partition, "start": record.start, "end": record.end},
        )

    def snapshot(self) -> dict[str, Any]:
        """What to save together with the offset that it explains."""
        return {
            "version": VERSION,
            "chain": [[source, *position] for source, position in self._chain.snapshot().items()],
            "through": list(self._through.items()),
            "judged_ms": self._judged_ms,
            "pending": [[end_ms, rows.models, rows.classes] for end_ms, rows in self._pending],
            "rules": self._rules.snapshot(),
            "detector": self._detector.snapshot(),
            "life": self._life.snapshot(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """As it was when it was saved, by this version."""
        assert saved["version"] == VERSION
        self._chain = Chain({source: Position(*position) for source, *position in saved["chain"]})
        self._through = dict(saved["through"])
        self._judged_ms = saved["judged_ms"]
        self._pending = [
            (end_ms, WindowRows(msgspec.convert(models, ModelColumns), msgspec.convert(classes, ClassColumns)))
            for end_ms, models, classes in saved["pending"]
        ]
        self._rules.restore(saved["rules"])
        self._detector.restore(saved["detector"])
        self._life.restore(saved["life"])


def _watchdog(at_ms: int) -> Condition:
    """Always fires: a service outside raises the alarm when it does not hear it any more."""
    return Condition(
        subject=Subject(AlertKind.PIPELINE, None, PIPELINE_WORKSPACE, None, None, None, WATCHDOG),
        at_ms=at_ms,
        breached=True,
        value=None,
        expected=None,
        threshold=None,
        severity=Severity.INFO,
        hold_ms=0,
        keep_firing_ms=0,
        summary="inferwatch is watching; this alert always fires",
    )
