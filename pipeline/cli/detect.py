"""inferwatch detect: automatic detection and rules over history."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import history
from pipeline.cli.running import Here, verb
from pipeline.edge.operator import plots, rule_file
from pipeline.edge.store.queries.history import Only

app = typer.Typer(no_args_is_help=True, help="Detection over history.")

From = Annotated[str | None, typer.Option("--from", help="2026-07-01T12:00 (UTC), or 7d (ago); from ClickHouse")]
To = Annotated[str | None, typer.Option("--to", help="likewise; as far as there is history unless given")]
Input = Annotated[
    Path | None, typer.Option("--input", help="a directory with model_windows.parquet and class_windows.parquet")
]


@app.callback()
def _several() -> None:
    """Keeps `backtest` a verb of its own."""


@app.command()
@verb
async def backtest(
    here: Here,
    from_: From = None,
    to: To = None,
    directory: Input = None,
    rules: Annotated[Path | None, typer.Option("--rules", help="YAML, as for inferwatch rules apply")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", help="only this one")] = None,
    model: Annotated[str | None, typer.Option("--model", help="only this one")] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option("--false-alarms", min=0.001, max=1000, help="acceptable, per model and week; default: as set"),
    ] = None,
    plot_directory: Annotated[Path | None, typer.Option("--plots", help="a picture of each alert into this")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, as on inference.alerts")] = False,
) -> None:
    """Run the detector's machines over history, and say which alerts they would have raised."""
    wanted = [] if rules is None else rule_file.read(rules)
    if plot_directory is not None:
        plots.check()
    source, span = await history.opened(here, from_, to, directory)
    asked = here.settings.false_alarms_per_model_week if false_alarms is None else false_alarms
    run = history.Run(source, span, Only(workspace, model), wanted, asked)
    await history.tell(run, as_json)
    if plot_directory is not None:
        files = await plots.draw(run.events, source, span, wanted, plot_directory)
        typer.echo(f"{len(files):,} plots in {plot_directory}", err=as_json)
