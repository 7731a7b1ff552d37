"""The audit of what a load generator sent (`produce --verify`): every acknowledged record, and its sums, exactly."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.core.audit import FINDINGS_MAX, Check, Finding
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import iso
from pipeline.edge.audit.report import Audit
from pipeline.edge.store.client import ask
from pipeline.trial.sent import Cell, Sent

CELLS_MAX = 5000  # asked about at once
_SUMS = Cell.__struct_fields__[4:]

_CELLS = """
    SELECT workspace, model_id, device_id, intDiv(toUnixTimestamp64Milli(event_time), 10000) * 10000 AS window_start_ms,
        count(), countIf(error != ''), countIf(empty(`detections.class`)), sum(length(`detections.class`)),
        count(latency_us), toUInt64(ifNull(sum(latency_us), 0)), sumArray(`detections.confidence_ppm`)
    FROM inferences
    WHERE workspace = {{workspace:String}} AND event_time >= fromUnixTimestamp64Milli({{start:Int64}}, 'UTC')
        AND event_time < fromUnixTimestamp64Milli({{end:Int64}}, 'UTC') AND ({where})
    GROUP BY workspace, model_id, device_id, window_start_ms
"""


def audit_of(settings: Settings, sent: Sent | None, **more: Any) -> Audit:
    """The audit of the live system, with what was sent compared as well, if that is known."""
    if sent is None:
        return Audit(settings, **more)
    due_ms = max((cell.window_start_ms + WINDOW_MS for cell in sent.cells), default=0)
    return Audit(settings, also=partial(audit_sent, sent), due_ms=due_ms, **more)


def audit_sent(sent: Sent, client: Client, not_before_s: int) -> list[Check]:
    """Three checks: offsets, refusals by reason, sums by window. Events that ClickHouse no longer keeps are left out.

    Only rows at acknowledged offsets are counted, so other producers do not matter and sums must be equal. Where Kafka
    did not say at which offsets (`without_offset`), the whole workspace is counted, which must hold at least as much.
    """
    exact = not sum(sent.without_offset.values())
    checks = [_audit_offsets(client, sent)]
    if exact:
        checks.append(_audit_refused(client, sent))
    cells = [cell for cell in sent.cells if cell.window_start_ms >= not_before_s * 1000]
    checks.append(_audit_cells(client, sent, cells, _acknowledged(sent) if exact else "1", exact=exact))
    return checks


def _acknowledged(sent: Sent) -> str:
    """Rows at the offsets that Kafka acknowledged."""
    parts = []
    for partition, ranges in sent.ranges.items():
        starts, counts = [start for start, _ in ranges], [count for _, count in ranges]
        begin = f"roundDown(kafka_offset, {starts})"  # of the range that an offset may lie in
        parts.append(
            f"kafka_partition = {partition} AND kafka_offset >= {starts[0]} "
            f"AND kafka_offset < {starts[-1] + counts[-1]} "
            f"AND kafka_offset - {begin} < transform({begin}, {starts}, {counts}, 0)"
        )
    return " OR ".join(f"({part})" for part in parts) or "0"


def _audit_offsets(client: Client, sent: Sent) -> Check:
    where = _acknowledged(sent)
    found = {
        int(partition): (rows, distinct)
        for partition, rows, distinct in ask(
            client,
            f"""SELECT kafka_partition, count(), groupBitmap(kafka_offset) FROM (
                SELECT kafka_partition, kafka_offset FROM inferences WHERE {where}
                UNION ALL
                SELECT kafka_partition, kafka_offset FROM dead_letters
                WHERE kafka_topic = {{topic:String}} AND ({where}))
            GROUP BY kafka_partition""",
            {"topic": sent.topic},
        )
    }
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


def _audit_refused(client: Client, sent: Sent) -> Check:
    found = dict(
        ask(
            client,
            f"SELECT toString(reason), count() FROM dead_letters WHERE kafka_topic = {{topic:String}} "
            f"AND ({_acknowledged(sent)}) GROUP BY reason",
            {"topic": sent.topic},
        )
    )
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


def _audit_cells(client: Client, sent: Sent, cells: Sequence[Cell], where: str, *, exact: bool) -> Check:
    findings: list[Finding] = []
    wrong = 0
    for lot in _lots(cells):
        workspace = lot[0].workspace
        start, end = lot[0].window_start_ms, lot[-1].window_start_ms + 10_000
        rows = ask(client, _CELLS.format(where=where), {"workspace": workspace, "start": start, "end": end})
        there = {tuple(row[:4]): tuple(map(int, row[4:])) for row in rows}
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
