"""inferwatch doctor: is everything set up, reachable and keeping up? One line each, and what to do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from pipeline.cli.data_dir import DataDir, settings_for_verb
from pipeline.cli.running import run
from pipeline.cli.terminal import escape
from pipeline.config import ConfigError
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.local import EmbeddedError
from pipeline.edge.operator.doctor import Line, examine


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="the lines as JSON on standard output")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check settings, Kafka, topics, ClickHouse, tables, users, workers and clocks; say what to do.

    Exit code 0: all is well. 1: something is not.
    """
    lines = run(_examine(data_dir, as_json))
    wrong = sum(not line.ok for line in lines)
    if as_json:
        report = {"ok": not wrong, "lines": [{"name": i.name, "ok": i.ok, "text": i.text} for i in lines]}
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    raise typer.Exit(1 if wrong else 0)


async def _examine(data_dir: Path | None, as_json: bool) -> list[Line]:
    lines: list[Line] = []
    console = Console()
    async for line in _lines(data_dir):
        lines.append(line)
        if not as_json:
            mark = "[green]ok[/]   " if line.ok else "[red]wrong[/]"
            console.print(f"{mark}  [bold]{escape(line.name)}[/]: {escape(line.text)}", highlight=False, soft_wrap=True)
    return lines


async def _lines(data_dir: Path | None) -> AsyncIterator[Line]:
    try:
        settings = settings_for_verb(data_dir)
    except (ConfigError, EmbeddedError) as error:
        for mistake in str(error).splitlines():
            yield Line("settings", False, mistake)
        return
    yield Line("settings", True, "read without a mistake")
    async with Kafka(settings) as kafka:
        async for line in examine(kafka):
            yield line
