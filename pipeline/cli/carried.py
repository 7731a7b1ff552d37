"""inferwatch import: events that were carried here on a disk."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.edge.clock import SystemClock
from pipeline.edge.kafka.batches import Batches
from pipeline.edge.store.queries.known import known_ids
from pipeline.web.ingest.carried import NOTES, REFUSED, Carried, Import, sizes
from pipeline.web.ingest.intake import Intake
from pipeline.web.ingest.kinds import kinds


@verb
async def import_(
    here: Here,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="the spool directory of a Python client, as it was copied"
        ),
    ],
) -> None:
    """Bring in the events of a client's spool that was carried here, each once.

    It may be stopped and run again, also on another copy: what is recorded already is not sent a second time. DIR must
    be writable: imported.json there says which files are done, refused.jsonl which events are refused, and why.
    """
    clock, kind = SystemClock(), kinds(here.settings.time_limits)["events"]
    batches = Batches(here.kafka, here.settings.ingest_answer_s)
    known = partial(known_ids, here.store())
    carried = Import(directory, kind, here.settings.topic(kind.topic.name), Intake(batches, clock), known, clock)
    files = carried.files()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task("", total=sum(sizes(files)))
            for number, file in enumerate(files, 1):
                shown.update(task, description=f"{number}/{len(files)} {escape(file.name)}")
                await carried.bring(file, lambda size: shown.advance(task, size))
    finally:
        _tell(carried.carried, len(files), directory)
        await batches.close()
    if carried.carried.refused:
        raise typer.Exit(1)


def _tell(carried: Carried, files: int, directory: Path) -> None:
    typer.echo(f"{carried.sent} events sent, {carried.known} were here already, from {files} files")
    if not files:
        typer.echo(f"nothing is left to do in {escape(str(directory))}: see {NOTES} there")
    for reason, (count, first) in carried.refused.items():
        typer.echo(f"{count} refused: {reason}, first at {escape(first)}; all of them in {REFUSED}", err=True)
