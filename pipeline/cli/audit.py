"""inferwatch audit: proves on the live system that nothing is lost and nothing counted twice."""

from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.duration import seconds
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.core.audit import FINDINGS_MAX, Report
from pipeline.core.words import iso
from pipeline.edge.clock import now_ms
from pipeline.trial.sent import SentRecords, decode
from pipeline.trial.sent_audit import audit_of


@verb
async def audit(
    here: Here,
    wait: Annotated[str, typer.Option(help="how long what is on its way may take, like 60s")] = "60s",
    since: Annotated[str | None, typer.Option(help="only what is younger, like 2h; default: all that is kept")] = None,
    sent: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="a file of produce --verify to compare with")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report as JSON on standard output")] = False,
) -> None:
    """Prove that every event is recorded once and every complete window is exact, in Kafka and ClickHouse.

    Exit code 0: as promised. 1: something is missing, doubled or different. 3: Kafka or ClickHouse is not there.
    """
    progress = Console(stderr=True)
    with progress.status("asking Kafka and ClickHouse") as status:
        report = await audit_of(
            here.kafka,
            _sent(sent) if sent else None,
            wait_s=seconds(wait),
            since_ms=now_ms() - round(seconds(since) * 1000) if since else 0,
            tell=lambda text: status.update(escape(text)),
        ).run()
    if as_json:
        typer.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report)
    raise typer.Exit(0 if report.ok else 1)


def _sent(path: Path) -> SentRecords:
    try:
        return decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise typer.BadParameter(f"--sent: {path} is not a file of produce --verify: {error}") from error


def _print(report: Report) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "found"):
        table.add_column(heading, overflow="fold")
    for check in report.checks:
        mark = "[green]ok[/]" if check.ok else "[red]wrong[/]"
        table.add_row(check.name, mark, escape(check.summary))
        for finding in check.findings:
            table.add_row("", "", f"[dim]{escape(finding.text)}[/]")
        if check.wrong > FINDINGS_MAX and len(check.findings) == FINDINGS_MAX:
            table.add_row("", "", "[dim]...[/]")
    console.print(table)
    if report.complete_through_ms:
        console.print(f"Windows are complete, and compared, through {iso(report.complete_through_ms)}.")
    else:
        console.print("No window is complete yet: the aggregator has not named a cut in every partition.")
    wrong = sum(not check.ok for check in report.checks)
    console.print("[green]Clean.[/]" if report.ok else f"[red]{wrong} of {len(report.checks)} checks failed.[/]")
