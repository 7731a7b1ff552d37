"""What inferwatch detect backtest and rules test have in common: history in, the steps of alerts out, with progress."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.cli.moment import moment_s
from pipeline.cli.running import Here
from pipeline.cli.terminal import escape
from pipeline.core.history.firings import begins_to_fire, warnings
from pipeline.core.history.firings import firings as firings_of
from pipeline.core.history.replay import AT_ONCE_S, Replay, asks_confidence_bins
from pipeline.core.span import Span
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import duration, iso, shown
from pipeline.edge.clock import now_ms
from pipeline.edge.operator.history import ClickHouseHistory, History
from pipeline.edge.operator.parquet import ParquetHistory
from pipeline.edge.store.queries.history import Only
from schemas import alert
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Rule

_STYLES = {
    AlertState.PENDING: "yellow",
    AlertState.FIRING: "bold red",
    AlertState.ACKNOWLEDGED: "magenta",
    AlertState.RECOVERING: "cyan",
    AlertState.RESOLVED: "green",
    AlertState.SUPPRESSED: "dim",
    AlertState.NO_DATA: "blue",
}


def state_text(state: AlertState) -> str:
    """A state in its colour."""
    return f"[{_STYLES[state]}]{state.value}[/]"


async def opened(here: Here, from_: str | None, to: str | None, directory: Path | None) -> tuple[History, Span]:
    """Where the windows are, and which were asked for. Raises typer.BadParameter or what the history raises."""
    if directory is None and from_ is None:
        raise typer.BadParameter("say --from (from ClickHouse, --to is now unless given) or --input DIR")
    history: History = ClickHouseHistory(here.store()) if directory is None else ParquetHistory(directory)
    known, step_s, now = await history.span(), WINDOW_MS // 1000, now_ms()
    start = known.start if from_ is None else max(moment_s(from_, now), known.start)
    end = known.end if to is None else moment_s(to, now)
    if directory is None:
        end = min(end, now // 1000)  # what has yet to come is no silence
    span = Span(start - start % step_s, end - end % step_s)
    if not len(span):
        raise typer.BadParameter(
            f"there are no windows in that time; they are from {iso(known.start * 1000)} to {iso(known.end * 1000)}"
        )
    return history, span


@dataclass(slots=True)
class Run:
    """Machines over history: what they said, and how long it took."""

    history: History
    span: Span
    only: Only
    rules: Sequence[Rule]
    asked_per_model_week: float | None  # None: rules only
    events: list[AlertEvent] = field(default_factory=list)
    rows: int = 0
    seconds: float = 0.0
    _models: set[tuple[str, str]] = field(default_factory=set)

    async def steps(self) -> AsyncIterator[AlertEvent]:
        """Each step as it is found, with a progress bar on a terminal."""
        started = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        clocks = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, *clocks, console=console, transient=True, disable=not console.is_terminal) as progress:
            async for event in self._replayed(progress):
                self.events.append(event)
                yield event
        self.seconds = time.monotonic() - started

    async def _replayed(self, progress: Progress) -> AsyncIterator[AlertEvent]:
        machine = Replay(self.rules, self.asked_per_model_week)
        task, shown = progress.add_task(iso(self.span.start * 1000), total=len(self.span)), 0.0
        only = replace(self.only, confidence_bins=asks_confidence_bins(self.rules))
        async for through_ms, models, classes in self.history.windows(self.span, only, AT_ONCE_S):
            self.rows += len(models) + len(classes)
            self._models.update(zip(models.texts["workspace"], models.texts["model_id"], strict=True))
            if time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                at_s = through_ms // 1000
                progress.update(task, completed=at_s - self.span.start, description=iso(through_ms))
            for event in machine.observe(through_ms, models, classes):
                yield event

    def summary(self) -> dict[str, object]:
        """What was looked at, and how many alerts there would have been."""
        fired = [event for event in self.events if begins_to_fire(event)]
        return {
            "from": iso(self.span.start * 1000),
            "to": iso(self.span.end * 1000),
            "windows": len(self.span) * 1000 // WINDOW_MS,
            "rows": self.rows,
            "models": len(self._models),
            "seconds": round(self.seconds, 2),
            "steps": len(self.events),
            "alerts": dict(Counter(event.kind.value for event in fired)),
        }


async def tell(run: Run, as_json: bool) -> None:
    """The steps, as JSON lines as they come (the envelope of inference.alerts), or as a table; then the summary."""
    if as_json:
        async for event in run.steps():
            typer.echo(alert.encode(event).decode())
        typer.echo(" ".join(f"{name}={value}" for name, value in run.summary().items()), err=True)
        return
    events = [event async for event in run.steps()]
    table = Table(box=None, pad_edge=False)
    for heading in ("at", "state", "severity", "kind", "what"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("at", "state"))
    for event in events:
        table.add_row(
            iso(event.at_ms), state_text(event.state), event.severity.value, event.kind.value, escape(event.summary)
        )
    console = Console()
    console.print(table if events else "No alert.")
    found = run.summary()
    console.print(
        f"{found['windows']:,} windows ({found['rows']:,} rows, {found['models']:,} models) "
        f"from {found['from']} to {found['to']} in {found['seconds']} s; alerts: {_by_kind(found['alerts'])}",
        highlight=False,
    )


def _by_kind(counts: object) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "none"


def firings(run: Run) -> list[str]:
    """One line for each rule: when it would have fired, and for how long."""
    out = []
    for rule in run.rules:
        fired = firings_of(run.events, rule.rule_id)
        quiet = "" if rule.enabled else " (switched off)"
        out.append(
            f"{rule.rule_id}{quiet}: " + (f"would have fired {_times(len(fired))}" if fired else "would not have fired")
        )
        for one in fired:
            lasted = "to the end" if one.ended_at_ms is None else duration(one.lasted_s(one.ended_at_ms))
            out.append(f"  {iso(one.first.at_ms)} for {lasted}: {shown(one.first.summary)}")
        out += [f"  {text}" for text in warnings(rule, fired, run.span.start * 1000, run.span.end * 1000)]
    return out


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
