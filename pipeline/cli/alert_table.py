"""Alerts as a table for a terminal."""

from rich.table import Table

from pipeline.cli.history import state_text
from pipeline.cli.terminal import escape
from pipeline.core.alerting.told import Alerts
from pipeline.core.notifying.muting import mistakes, preview
from pipeline.core.words import duration, iso
from pipeline.edge.clock import now_ms
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Silence


def table_of(found: list[AlertEvent], alerts: Alerts) -> Table:
    """The newest step of each, who has taken it, and who wants quiet."""
    now = now_ms()
    quiet: dict[str, Silence] = {}
    for one in alerts.silences.values():
        if one.starts_at_ms <= now < one.ends_at_ms and not mistakes(one):
            quiet |= {step.fingerprint: one for step in preview(one, found)}
    table = Table(box=None, pad_edge=False)
    for heading in ("fingerprint", "state", "severity", "since", "for", "what"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("fingerprint", "state"))
    for step in found:
        taken, silenced = alerts.acknowledgement(step), quiet.get(step.fingerprint)
        notes = [f"acknowledged by {taken.author}"] if taken is not None else []
        notes += ["ends with data, or by hand: alerts resolve"] if step.state is AlertState.NO_DATA else []
        notes += [f"{silenced.id} until {iso(silenced.ends_at_ms)}"] if silenced is not None else []
        end_ms = step.at_ms if step.state is AlertState.RESOLVED else now
        lasted_s = max(0, end_ms - step.starts_at_ms) // 1000
        table.add_row(
            step.fingerprint,
            state_text(step.state),
            step.severity.value,
            iso(step.starts_at_ms // 1000 * 1000),
            duration(lasted_s - lasted_s % 60 if lasted_s >= 120 else lasted_s),
            escape(step.summary + (f" ({'; '.join(notes)})" if notes else "")),
        )
    return table
