"""The audit of what a load generator sent (`produce --verify`): every acknowledged record, and its sums, exactly."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from pipeline.core.audit import FINDINGS_MAX, Check, Finding
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import iso
from pipeline.edge.audit.report import Audit
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.sent import Acknowledged, offsets_by_partition, refused_by_reason, sums_by_window
from pipeline.trial.sent import Cell, SentRecords

CELLS_MAX = 5000  # asked about at once
_SUMS = Cell.__struct_fields__[4:]


def audit_of(kafka: Kafka, sent: SentRecords | None, **more: Any) -> Audit:
    """The audit of the live system, with what was sent compared as well, if that is known."""
    if sent is None:
        return Audit(kafka, **more)
    due_ms = max((cell.window_start_ms + WINDOW_MS for cell in sent.cells), default=0)
    return Audit(kafka, also=partial(audit_sent, sent), due_ms=due_ms, **more)


async def audit_sent(sent: SentRecords, store: ClickHouse, not_before_s: int) -> list[Check]:
    """Three checks: offsets, refusals by reason, sums by window. Events that ClickHouse no longer keeps are left out.

    Only rows at acknowledged offsets are counted, so other producers do not matter and sums must be equal. Where Kafka
    did not say at which offsets (`without_offset`), the whole workspace is counted, which must hold at least as much.
    """
    exact = not sum(sent.without_offset.values())
    acknowledged = Acknowledged(sent.topic, sent.ranges)
    checks = [await _audit_offsets(store, sent, acknowledged)]
    if exact:
        checks.append(await _audit_refused(store, sent, acknowledged))
    cells = [cell for cell in sent.cells if cell.window_start_ms >= not_before_s * 1000]
    counted = acknowledged if exact else Acknowledged(sent.topic, None)
    checks.append(await _audit_cells(store, cells, counted, exact=exact))
    return checks


async def _audit_offsets(store: ClickHouse, sent: SentRecords, acknowledged: Acknowledged) -> Check:
    found = await offsets_by_partition(store, acknowledged)
    findings = []
    wrong = 0
    for partition, ranges in sent.ranges.items():
        due = sum(count for _, count in ranges)
        rows, distinct = found.get(partition, (0, 0))
        if (rows, distinct) != (due, due):
            wrong += due - distinct + rows - distinct
            text = (
                f"partition {partition}: of {due:,} acknowledged records {due - distinct:,} are missing, "
                f"{rows - distinct:,} are there again"
            )
            parts = {"partition": partition, "missing": due - distinct, "doubled": rows - distinct}
            findings.append(Finding(text, parts))
    total = sum(count for ranges in sent.ranges.values() for _, count in ranges)
    summary = f"{wrong:,} of {total:,} acknowledged records are missing or doubled" if wrong else (
        f"{total:,} acknowledged records are there"
    )  # fmt: skip
    if left_out := sum(sent.without_offset.values()) + sum(u.record_count for u in sent.unknown):
        summary += f"; {left_out:,} were acknowledged without an offset or never answered"
    return Check("sent: records", summary, total, wrong, tuple(findings[:FINDINGS_MAX]))


async def _audit_refused(store: ClickHouse, sent: SentRecords, acknowledged: Acknowledged) -> Check:
    found = await refused_by_reason(store, acknowledged)
    reasons = sorted({*found, *sent.refused})
    findings = [
        Finding(
            f"{reason}: {found.get(reason, 0):,} dead letters, should be {sent.refused.get(reason, 0):,}",
            {"reason": reason, "found": found.get(reason, 0), "expected": sent.refused.get(reason, 0)},
        )
        for reason in reasons
        if found.get(reason, 0) != sent.refused.get(reason, 0)
    ]
    total = sum(sent.refused.values())
    summary = "; ".join(f.text for f in findings) or f"{total:,} malformed records, each refused for its reason"
    return Check("sent: dead letters", summary, total, len(findings), tuple(findings))


async def _audit_cells(store: ClickHouse, cells: Sequence[Cell], counted: Acknowledged, *, exact: bool) -> Check:
    findings: list[Finding] = []
    wrong = 0
    for lot in _lots(cells):
        start_ms, end_ms = lot[0].window_start_ms, lot[-1].window_start_ms + WINDOW_MS
        there = await sums_by_window(store, counted, lot[0].workspace, start_ms, end_ms)
        for cell in lot:
            key = (cell.workspace, cell.model_id, cell.device_id, cell.window_start_ms)
            due = tuple(getattr(cell, name) for name in _SUMS)
            got = there.get(key, (0,) * len(due))
            if got != due if exact else any(a < b for a, b in zip(got, due, strict=True)):
                wrong += 1
                what = ", ".join(
                    f"{name} is {a}, should be {'' if exact else 'at least '}{b}"
                    for name, a, b in zip(_SUMS, got, due, strict=True)
                    if a != b
                )
                if len(findings) < FINDINGS_MAX:
                    parts = {"workspace": key[0], "model_id": key[1], "device_id": key[2], "window_start_ms": key[3]}
                    findings.append(Finding(f"{' '.join(key[:3])} {iso(key[3])}: {what}", {**parts, "what": what}))
    relation = "equal" if exact else "are at least"
    summary = f"{wrong:,} of {len(cells):,} windows do not hold what was sent" if wrong else (
        f"{len(cells):,} windows {relation} what was sent"
    )  # fmt: skip
    return Check("sent: sums", summary, len(cells), wrong, tuple(findings))


def _lots(cells: Sequence[Cell]) -> Iterable[list[Cell]]:
    """Whole windows of one workspace together, in order, some CELLS_MAX cells at once."""
    lot: list[Cell] = []
    for cell in sorted(cells, key=lambda c: (c.workspace, c.window_start_ms)):
        new_window = lot and (cell.workspace, cell.window_start_ms) != (lot[-1].workspace, lot[-1].window_start_ms)
        if new_window and (len(lot) >= CELLS_MAX or cell.workspace != lot[-1].workspace):
            yield lot
            lot = []
        lot.append(cell)
    if lot:
        yield lot
