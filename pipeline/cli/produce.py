"""inferwatch produce: realistic detection events at a chosen rate, for trials, benchmarks and proofs."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.cli.duration import seconds
from pipeline.cli.running import Here, verb
from pipeline.cli.signals import when_asked_to_end
from pipeline.edge.kafka.publish import publishing
from pipeline.trial.load import Load, Pace
from pipeline.trial.sent import SentRecords, encode
from pipeline.trial.workload import Workload, WorkloadSpec

_REFRESH_S = 0.25
_RATE_OVER_S = 3.0
_SILENT_AFTER = 8  # refreshes without an acknowledgement


@verb
async def produce(
    here: Here,
    rate: Annotated[float, typer.Option(min=0, help="events/s; 0: as fast as possible")] = 1000.0,
    events: Annotated[int | None, typer.Option(min=1, help="end after so many records")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="end after a time, like 60s or 5m")] = None,
    seed: Annotated[int, typer.Option(min=0, max=0xFFFFFFFF, help="the same seed sends the same events")] = 1,
    workspace: Annotated[str | None, typer.Option(help="default: INFERWATCH_WORKSPACE")] = None,
    models: Annotated[int, typer.Option(min=1, max=10_000, help="how many models")] = 8,
    devices: Annotated[
        int, typer.Option(min=1, max=100_000, help="how many devices; each runs one model, or several")
    ] = 64,
    classes: Annotated[int, typer.Option(min=1, max=10_000, help="how many classes are detected")] = 20,
    late: Annotated[float, typer.Option(min=0, max=1, help="share that happened 5 s to 2 days ago")] = 0.0,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="share that is sent twice")] = 0.0,
    malformed: Annotated[
        float, typer.Option(min=0, max=1, help="share that must be refused, for every reason in turn")
    ] = 0.0,
    errors: Annotated[float, typer.Option(min=0, max=1, help="share of inferences that failed")] = 0.0,
    daily: Annotated[bool, typer.Option("--daily", help="the rate follows the hour of the day (UTC)")] = False,
    heartbeats: Annotated[bool, typer.Option(help="every device also sends heartbeats")] = True,
    heartbeat_interval: Annotated[str, typer.Option(help="how often")] = "10s",
    verify: Annotated[
        Path | None, typer.Option(dir_okay=False, help="write what was acknowledged, for audit --sent")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the summary as JSON on standard output")] = False,
) -> None:
    """Send realistic detection events to Kafka, until the end that was asked for, or Ctrl-C."""
    if daily and not rate:
        raise typer.BadParameter("--daily needs a --rate above 0")
    if verify and not verify.absolute().parent.is_dir():
        raise typer.BadParameter(f"--verify: there is no directory {verify.absolute().parent}")
    spec = WorkloadSpec(
        seed=seed,
        workspace=workspace or here.settings.workspace,
        models=models,
        devices=devices,
        classes=classes,
        late=late,
        duplicate=duplicate,
        malformed=malformed,
        errors=errors,
    )
    pace = Pace(
        rate, daily, events, seconds(for_) if for_ else None, seconds(heartbeat_interval) if heartbeats else None
    )
    await _send(here, spec, pace, verify, as_json)


async def _send(here: Here, spec: WorkloadSpec, pace: Pace, verify: Path | None, as_json: bool) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the progress line tells when Kafka is silent
    progress_console = Console(stderr=True)
    await here.kafka.create_topics()
    with progress_console.status("drawing the pool of events"):
        workload = Workload(spec)
    async with publishing(here.settings) as publisher:
        load = Load(here.settings, workload, pace, publisher)
        when_asked_to_end(load.stop)
        shown = asyncio.create_task(_show(load, pace, progress_console))
        start = time.monotonic()
        try:
            await load.run()
        finally:  # what is known is worth as much after a failure
            took_s = time.monotonic() - start
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
            _report(load, took_s, verify, as_json)


def _report(load: Load, took_s: float, verify: Path | None, as_json: bool) -> None:
    sent = load.result()
    if verify:
        verify.write_bytes(encode(sent))
    summary = _summary(sent, load, took_s)
    if as_json:
        typer.echo(orjson.dumps(summary).decode())
    else:
        Console().print(_table(summary))


class _Counts(ProgressColumn):
    """sent, rate, acknowledged, in flight."""

    def render(self, task: Task) -> Text:
        fields = task.fields
        return Text(
            f"sent {fields['sent']:,}  {fields['rate']:,.0f}/s  acknowledged {fields['acknowledged']:,}  "
            f"in flight {fields['in_flight']:,}{'  Kafka does not answer' if fields['silent'] else ''}"
        )


async def _show(load: Load, pace: Pace, console: Console) -> None:
    """The progress line, until cancelled."""
    total = pace.event_count if pace.seconds is None else pace.seconds
    columns: list[ProgressColumn] = [TextColumn("produce"), _Counts(), TimeElapsedColumn()]
    if total is not None:
        columns += [BarColumn(bar_width=20), TextColumn("left"), TimeRemainingColumn()]
    start = time.monotonic()
    seen: list[tuple[float, int, int]] = []  # (time, sent, acknowledged)
    with Progress(*columns, console=console, refresh_per_second=4, transient=True) as progress:
        task = progress.add_task("", total=total, sent=0, rate=0, acknowledged=0, in_flight=0, silent=False)
        while True:
            now = time.monotonic()
            seen = [*(point for point in seen if now - point[0] <= _RATE_OVER_S), (now, load.sent, load.acknowledged)]
            rate = (seen[-1][1] - seen[0][1]) / max(seen[-1][0] - seen[0][0], _REFRESH_S)
            done = load.sent if pace.seconds is None else now - start
            progress.update(
                task,
                completed=done,
                sent=load.sent,
                rate=rate,
                acknowledged=load.acknowledged,
                in_flight=load.in_flight,
                silent=load.in_flight and len(seen) > _SILENT_AFTER and seen[-1][2] == seen[-_SILENT_AFTER][2],
            )
            await asyncio.sleep(_REFRESH_S)


def _summary(sent: SentRecords, load: Load, took_s: float) -> dict[str, object]:
    return {
        "topic": sent.topic,
        "seed": sent.seed,
        "sent": load.sent,
        "acknowledged": sent.record_count,
        "unknown": sum(batch.record_count for batch in sent.unknown),
        "duplicates": sent.duplicate_count,
        "malformed": sent.refused,
        "heartbeats": load.heartbeat_count,
        "seconds": round(took_s, 3),
        "events_per_second": round(sent.record_count / took_s, 1),
    }


def _table(summary: dict[str, object]) -> Table:
    table = Table(title="produced", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in summary.items():
        if isinstance(value, dict):
            for reason, count in value.items():
                table.add_row(f"{name}: {reason}", f"{count:,}")
        elif isinstance(value, int | float) and name != "seed":
            table.add_row(name.replace("_", " "), f"{value:,}")
        else:
            table.add_row(name, str(value))
    return table
