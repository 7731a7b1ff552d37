"""`inferwatch up`: everything on this machine, by one command, until it is stopped."""

import asyncio
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.cli import running
from pipeline.cli.data_dir import DEFAULT
from pipeline.cli.signals import tell, when_asked_to_end
from pipeline.edge.clock import now_ms
from pipeline.edge.local import Progress as Step
from pipeline.edge.local.layout import kept_secrets
from pipeline.edge.local.stack import Stack
from pipeline.web.access import once
from schemas.roles import ROLE_NAMES, WEB

ROLES = ROLE_NAMES
PROCESSES = (*ROLES, WEB)

Port = Annotated[int | None, typer.Option(min=1, max=65_535, help="default: a free one, the same the next time")]


def up(
    data_dir: Annotated[Path, typer.Option(help="where everything is kept")] = DEFAULT,
    kafka_port: Port = None,
    clickhouse_port: Port = None,
    clickhouse_native_port: Port = None,
    web_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="of the HTTP side; default: 8080 where it is free")
    ] = None,
    web_port_base: Annotated[
        int | None,
        typer.Option(min=1, max=65_000, help="/metrics of the first worker; the others follow (default: free ones)"),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help=f"a process to leave out, to run it by hand: {', '.join(PROCESSES)}")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print problems only")] = False,
) -> None:
    """Starts Kafka, ClickHouse and the workers here, and keeps them running until Ctrl-C.

    What runs where is written to DATA_DIR/endpoints.json once everything is ready; logs are in DATA_DIR/logs.
    The same directory finds all its data again the next time.
    """
    told = {
        "kafka": kafka_port,
        "clickhouse_http": clickhouse_port,
        "clickhouse_native": clickhouse_native_port,
        WEB: web_port,
    }
    if web_port_base is not None:
        told |= {role: web_port_base + number for number, role in enumerate(ROLES)}
    ports = {name: port for name, port in told.items() if port is not None}
    left_out = set(without or ())
    if unknown := sorted(left_out - set(PROCESSES)):
        raise typer.BadParameter(f"--without {unknown[0]}: there are {', '.join(PROCESSES)}")
    started = tuple(name for name in PROCESSES if name not in left_out)
    running.run(run(data_dir, ports, started, quiet=quiet))


async def run(data_dir: Path, ports: dict[str, int], processes: tuple[str, ...], *, quiet: bool) -> None:
    """Starts the stack, stays until it is asked to end, stops it. A second signal stops it at once."""
    out, problems = Console(quiet=quiet), Console(stderr=True)
    steps = Steps(out)
    stack = Stack(
        data_dir,
        roles=processes,
        ports=ports,
        progress=steps,
        notice=lambda text: tell(problems, f"[yellow]![/] {escape(text)}"),
    )
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            stack.kill()
        asked.set()

    when_asked_to_end(on_signal)
    try:
        with steps.shown:
            starting = asyncio.ensure_future(stack.start())
            waiting = asyncio.ensure_future(asked.wait())
            await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
            if asked.is_set():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        if not asked.is_set():
            await starting  # raises what went wrong
            out.print(addresses(stack))
            out.print(commands(stack), highlight=False, soft_wrap=True)
            await waiting
        tell(out, "stopping: workers, ClickHouse, Kafka …")
    finally:  # also when nobody is there any more to read what is printed
        await stack.stop()


def addresses(stack: Stack) -> Table:
    """What runs where, for people."""
    here = stack.endpoints()
    table = Table(title="inferwatch is up", title_justify="left", show_header=False, title_style="bold green")
    table.add_row("Kafka", here["kafka"])
    if here["web"] is not None:
        table.add_row("HTTP side", here["web"])
    table.add_row("ClickHouse (HTTP)", here["clickhouse"]["http"])
    table.add_row("for Grafana and people", f"user {here['reader']['user']}, database {here['reader']['database']}")
    for role, worker in here["workers"].items():
        table.add_row(f"{role} metrics", worker["metrics"])
    table.add_row("all of this, with passwords", escape(str(stack.endpoints_file)))
    table.add_row("logs", escape(str(stack.directory / "logs")))
    table.add_row("to stop", f"Ctrl-C, or kill {os.getpid()}")
    return table


def commands(stack: Stack) -> str:
    """How to ask it, while it runs: where it is by default, every verb finds it by itself."""
    is_found = stack.directory == DEFAULT.absolute()
    there = "" if is_found else f" --data-dir {shlex.quote(str(stack.directory))}"
    here = stack.endpoints()
    ask = f"ask it: inferwatch doctor{there}, inferwatch alerts tail{there}, and every other verb likewise"
    send = f"send to it: export INFERWATCH_URL={here['web']} INFERWATCH_API_KEY={here['api_key']}"
    if here["web"] is None:
        return escape(ask)
    link = once.link(here["web"], kept_secrets(stack.directory).session_key, now_ms())
    again = f"inferwatch users link{there}"
    return escape(f"{ask}\n{send}\nsign in, once and within ten minutes ({again} makes another link): {link}")


class Steps:
    """The steps of starting: bars on a terminal, else one line for each step that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self.shown = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __call__(self, step: Step) -> None:
        """The stack's progress callback; any thread may call it."""
        total = step.total or None
        if step.step not in self._tasks:
            self._tasks[step.step] = self.shown.add_task(step.step, total=total, detail="")
        self.shown.update(self._tasks[step.step], completed=step.done, total=total, detail=step.detail)
        if not self._console.is_terminal and step.done == step.total > 0:
            self._console.print(f"{step.step} {step.detail}".rstrip())
