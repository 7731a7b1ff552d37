"""inferwatch rules: the thresholds that people watch."""

from pathlib import Path
from typing import Annotated

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli import history
from pipeline.cli.detect import From, Input, To
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.config import Settings
from pipeline.core.notifying.recipients import named
from pipeline.core.notifying.routing import each_address
from pipeline.core.rules.wording import quantity
from pipeline.core.words import duration, shown
from pipeline.edge.kafka import compacted as rules
from pipeline.edge.notification.outcome import Sent
from pipeline.edge.notification.rehearsal import rehearse
from pipeline.edge.operator import rule_file
from pipeline.edge.store.queries.history import Only
from schemas.rejection import Rejected
from schemas.rule import Rule

app = typer.Typer(no_args_is_help=True, help="Alert rules: list, apply from YAML, delete, test against history.")

_REACHED = "a test message was taken"
_Json = Annotated[bool, typer.Option("--json", help="JSON on standard output")]


@app.command("list")
@verb
async def list_(
    here: Here,
    workspace: Annotated[str | None, typer.Option("--workspace", help="only those of this workspace")] = None,
    as_json: _Json = False,
) -> None:
    """List the rules that are in force, and those that are switched off."""
    found = await rules.read_rules(here.kafka)
    sound = [r for r in found.values() if isinstance(r, Rule) and workspace in (None, r.workspace)]
    if as_json:
        typer.echo(msgspec.json.encode(sound).decode())
    else:
        Console().print(_table(sound) if sound else "No rules.")
    for key, rule in found.items():
        if isinstance(rule, Rejected):
            typer.echo(f"{shown(key)}: not a rule: {rule.reason.value} {shown(rule.field)}".rstrip(), err=True)


@app.command()
@verb
async def apply(
    here: Here,
    file: Annotated[Path, typer.Argument(help="YAML: a rule, or a list of them")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, and change nothing")] = False,
    test: Annotated[bool, typer.Option("--test", help="send a test message to each recipient, from here")] = False,
    as_json: _Json = False,
) -> None:
    """Put the rules of a file in force, each in place of the one with its rule_id. Others stay as they are."""
    wanted = rule_file.read(file)
    known = await rules.read_rules(here.kafka)
    for rule in wanted:
        other = known.get(rule.rule_id)
        if isinstance(other, Rule) and other.workspace != rule.workspace:
            raise rule_file.RuleFileError(
                f"{file}: rule_id {rule.rule_id} belongs to the workspace {other.workspace}; choose another one"
            )
    changed = [rule for rule in wanted if known.get(rule.rule_id) != rule]
    if changed and not dry_run:
        await rules.put_rules(here.settings, changed)
    outcome = {
        rule.rule_id: "unchanged" if rule not in changed else "changed" if rule.rule_id in known else "created"
        for rule in wanted
    }
    reached = await _reached(here.settings, wanted) if test else {}
    if as_json:
        told = {"recipients": reached} if test else {}
        typer.echo(orjson.dumps({"dry_run": dry_run, "rules": outcome, **told}).decode())
    else:
        for rule_id, what in outcome.items():
            typer.echo(f"{rule_id}: " + (f"would be {what}" if dry_run and what != "unchanged" else what))
        for recipient, what in reached.items():
            typer.echo(f"{recipient}: {what}")
    raise typer.Exit(1 if any(what != _REACHED for what in reached.values()) else 0)


async def _reached(settings: Settings, wanted: list[Rule]) -> dict[str, str]:
    """What became of a test message to each recipient of the rules, and of rules without one."""
    defaults = settings.default_recipients.recipients
    recipients = each_address(one for rule in wanted for one in rule.recipients or defaults)
    return {
        shown(named(recipient)): _REACHED if isinstance(outcome, Sent) else f"not sent: {shown(outcome.reason)}"
        for recipient, outcome in (await rehearse(settings, recipients)).items()
    }


@app.command()
@verb
async def delete(
    here: Here,
    rule_ids: Annotated[list[str], typer.Argument(help="which, as inferwatch rules list shows them")],
) -> None:
    """Delete rules. Their open alerts are resolved."""
    known = await rules.read_rules(here.kafka)
    missing = [rule_id for rule_id in rule_ids if rule_id not in known]
    await rules.delete_rules(here.settings, [rule_id for rule_id in rule_ids if rule_id in known])
    for rule_id in rule_ids:
        typer.echo(f"{rule_id}: there is no such rule" if rule_id in missing else f"{rule_id}: deleted")
    raise typer.Exit(1 if missing else 0)


@app.command("test")
@verb
async def would_fire(
    here: Here,
    file: Annotated[Path, typer.Argument(help="YAML: a rule, or a list of them")],
    from_: From = None,
    to: To = None,
    directory: Input = None,
    as_json: _Json = False,
) -> None:
    """Replay history against the rules of a file, in force or not yet, and say when each would have fired."""
    wanted = rule_file.read(file)
    source, span = await history.opened(here, from_, to, directory)
    run = history.Run(source, span, Only(), wanted, asked_per_model_week=None)
    if as_json:
        await history.tell(run, as_json)
        return
    async for _ in run.steps():
        pass
    for line in history.firings(run):
        typer.echo(line)


def _table(found: list[Rule]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("rule", "workspace", "about", "fires when", "over", "for", "severity", "to"):
        table.add_column(heading, overflow="fold")
    for r in found:
        about = r.model_id or "each model"
        about += f" on {r.device_id}" if r.device_id is not None else ""
        about += f", class {r.class_name}" if r.class_name is not None else ""
        cells = (
            r.rule_id,
            r.workspace,
            about,
            f"{r.metric.value} {r.operator.value} {quantity(r.metric, r.threshold)}",
            duration(r.window_s),
            duration(r.hold_s) if r.hold_s else "",
            r.severity.value if r.enabled else "switched off",
            # Only the kind of address: the rest may hold a key.
            ", ".join(sorted({recipient.split(":")[0] for recipient in r.recipients})),
        )
        table.add_row(*map(escape, cells), style=None if r.enabled else "dim")
    return table
