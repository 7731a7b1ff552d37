"""inferwatch alerts: what is wrong now, who has taken it, and who wants quiet. From Kafka alone."""

import asyncio
import getpass
import uuid
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.alert_table import table_of
from pipeline.cli.duration import seconds
from pipeline.cli.history import state_text
from pipeline.cli.matchers import matcher, matcher_text
from pipeline.cli.running import Here, verb
from pipeline.cli.signals import when_asked_to_end
from pipeline.cli.terminal import escape
from pipeline.config import Settings
from pipeline.core.alerting.told import NoSuchAlertError, objection
from pipeline.core.condition import WATCHDOG
from pipeline.core.notifying.muting import mistakes, preview
from pipeline.core.words import iso, shown
from pipeline.edge.clock import now_ms
from pipeline.edge.operator import alerts as edge
from schemas import silence as silence_schema
from schemas.alert import AlertEvent, AlertState, Severity
from schemas.rejection import Rejected
from schemas.silence import Acknowledgement, Silence

app = typer.Typer(no_args_is_help=True, help="Alerts: list, acknowledge, accept, resolve, silence, follow.")

_Author = Annotated[str | None, typer.Option("--author", help="who; default: the login name")]
_Comment = Annotated[str, typer.Option("--comment", help="why")]
_Json = Annotated[bool, typer.Option("--json", help="JSON on standard output")]

_LEAVE_S = 1.0
_RESOLVED_S = 20.0


@app.command("list")
@verb
async def list_(
    here: Here,
    everything: Annotated[bool, typer.Option("--all", help="resolved ones and the watchdog too")] = False,
    model: Annotated[str | None, typer.Option("--model", help="only those of this model")] = None,
    device: Annotated[str | None, typer.Option("--device", help="only those of this device")] = None,
    severity: Annotated[Severity | None, typer.Option("--severity", help="only those")] = None,
    as_json: _Json = False,
) -> None:
    """List open alerts, the newest first."""
    alerts = await edge.read(here.kafka)
    found = sorted(alerts.steps.values(), key=lambda step: -step.starts_at_ms) if everything else alerts.open
    found = [
        step
        for step in found
        if (everything or step.metric != WATCHDOG)
        and model in (None, step.model_id)
        and device in (None, step.device_id)
        and severity in (None, step.severity)
    ]
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        Console().print(table_of(found, alerts) if found else "No alerts." if everything else "No open alerts.")
    if alerts.refused:
        typer.echo(f"{alerts.refused:,} records of the topic are no alerts", err=True)


@app.command()
@verb
async def ack(
    here: Here,
    fingerprint: Annotated[str, typer.Argument(help="as inferwatch alerts list shows it; its beginning is enough")],
    author: _Author = None,
    comment: _Comment = "",
) -> None:
    """Acknowledge an alert: nobody is told again in this episode unless it gets worse."""
    alerts = await edge.read(here.kafka)
    step = alerts.find(fingerprint)
    taken = alerts.acknowledgement(step)
    if step.state is AlertState.ACKNOWLEDGED or (taken is not None and step.state is not AlertState.RESOLVED):
        by = taken.author if taken is not None else step.evidence.get("acknowledged_by", "somebody")
        typer.echo(f"{step.fingerprint}: already acknowledged by {by}")
        return
    said = await _say(here.settings, step, "taken", author, comment)
    typer.echo(f"{step.fingerprint}: acknowledged by {said.author}: {shown(step.summary)}")


@app.command()
@verb
async def unack(
    here: Here,
    fingerprint: Annotated[str, typer.Argument(help="as inferwatch alerts list shows it; its beginning is enough")],
    author: _Author = None,
    comment: _Comment = "",
) -> None:
    """Give an acknowledged alert back: nobody has it any more, and people are told again while it fires."""
    alerts = await edge.read(here.kafka)
    step = alerts.find(fingerprint)
    said = await _say(here.settings, step, "free", author, comment, alerts.acknowledgement(step))
    typer.echo(f"{step.fingerprint}: given back by {said.author}: {shown(step.summary)}")


@app.command()
@verb
async def accept(
    here: Here,
    fingerprint: Annotated[str, typer.Argument(help="as inferwatch alerts list shows it; its beginning is enough")],
    author: _Author = None,
    comment: _Comment = "",
) -> None:
    """Say of an anomaly that this is normal from now on: it is learned, and the alert ends in a quarter of an hour."""
    step = (await edge.read(here.kafka)).find(fingerprint)
    said = await _say(here.settings, step, "normal", author, comment)
    typer.echo(f"{step.fingerprint}: {said.author} says that this is normal: {shown(step.summary)}")


@app.command()
@verb
async def resolve(
    here: Here,
    fingerprint: Annotated[str, typer.Argument(help="as inferwatch alerts list shows it; its beginning is enough")],
    author: _Author = None,
    comment: _Comment = "",
) -> None:
    """End an alert by hand: of a model or a device that is gone. If it is still wrong, the next look begins another.

    Exit code 1 if no detector does so within a while.
    """
    step = (await edge.read(here.kafka)).find(fingerprint)
    said = await _say(here.settings, step, "over", author, comment)
    if not await edge.is_over(here.kafka, step, _RESOLVED_S):
        raise NoSuchAlertError(
            f"{step.fingerprint}: no detector has ended it within {_RESOLVED_S:.0f} s; if none runs, the next one will"
        )
    typer.echo(f"{step.fingerprint}: resolved by {said.author}: {shown(step.summary)}")


@app.command()
@verb
async def silence(
    here: Here,
    match: Annotated[
        list[str],
        typer.Option(
            "--match",
            help="name=value, name=~regex, != or !~; all must hold. A name: a label, or model_id, "
            "device_id, class, severity, kind, metric, workspace, rule_id, fingerprint",
        ),
    ],
    for_: Annotated[str, typer.Option("--for", help="how long from now on, like 2h")],
    kind: Annotated[Literal["silence", "maintenance"], typer.Option("--kind")] = "silence",
    author: _Author = None,
    comment: _Comment = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would hit now, and change nothing")] = False,
) -> None:
    """Keep alerts quiet for a while; says which open ones that are."""
    start_ms = now_ms()
    value = Silence(
        id=f"{kind}-{uuid.uuid4().hex[:8]}",
        matchers=[matcher(text) for text in match],
        starts_at_ms=start_ms,
        ends_at_ms=start_ms + round(seconds(for_) * 1000),
        author=_login(author),
        kind=kind,
        comment=comment,
    )
    wrong = mistakes(value)
    if wrong:
        raise typer.BadParameter("; ".join(wrong))
    _check(value)
    alerts = await edge.read(here.kafka)
    hits = [step for step in preview(value, alerts.open) if step.metric != WATCHDOG]
    if hits:
        Console().print(table_of(hits, alerts))
    typer.echo(f"{len(hits):,} open alerts " + ("would be quiet" if dry_run else "are quiet"))
    if not dry_run:
        await edge.put_silence(here.settings, value)
        typer.echo(f"{value.id}: until {iso(value.ends_at_ms)}")


@app.command()
@verb
async def silences(
    here: Here,
    everything: Annotated[bool, typer.Option("--all", help="those too that are over")] = False,
    as_json: _Json = False,
) -> None:
    """List silences and maintenance windows."""
    now = now_ms()
    found = [s for s in (await edge.read_silences(here.kafka)).values() if everything or s.ends_at_ms > now]
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "until", "matches", "author", "comment"):
        table.add_column(heading, overflow="fold")
    for one in sorted(found, key=lambda s: s.ends_at_ms):
        matches = ", ".join(map(matcher_text, one.matchers))
        table.add_row(*map(escape, (one.id, iso(one.ends_at_ms), matches, one.author, one.comment)))
    Console().print(table if found else "No silences.")


@app.command()
@verb
async def expire(
    here: Here,
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="as inferwatch alerts silences shows it")],
) -> None:
    """End a silence or a maintenance window now."""
    await edge.delete_silence(here.kafka, silence_id)
    typer.echo(f"{silence_id}: expired")


@app.command()
@verb
async def tail(here: Here, as_json: Annotated[bool, typer.Option("--json", help="JSON lines")] = False) -> None:
    """Follow alerts: one line for each step, until Ctrl-C."""
    console, ended = Console(), asyncio.Event()

    def show(step: AlertEvent) -> None:
        if as_json:
            typer.echo(msgspec.json.encode(step).decode())
        elif step.metric != WATCHDOG:
            line = f"{iso(step.at_ms)}  {state_text(step.state)}  {step.severity.value}  {step.fingerprint}  "
            console.print(line + escape(step.summary), highlight=False, soft_wrap=True)

    if console.is_terminal and not as_json:
        Console(stderr=True).print("following inference.alerts; Ctrl-C ends it", style="dim")
    when_asked_to_end(ended.set)
    following = asyncio.create_task(edge.follow(here.kafka, show, ended))
    asked = asyncio.create_task(ended.wait())
    await asyncio.wait({following, asked}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({following}, timeout=_LEAVE_S)  # a broker that does not answer holds nobody up
    following.cancel()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    with suppress(asyncio.CancelledError):
        await following


async def _say(
    settings: Settings,
    step: AlertEvent,
    what: silence_schema.Says,
    author: str | None,
    comment: str,
    taken: Acknowledgement | None = None,
) -> Acknowledgement:
    """Puts what a person says of an episode where the detector hears it. Raises NoSuchAlertError."""
    if why := objection(what, step, taken):
        raise NoSuchAlertError(f"{step.fingerprint} {why}")
    said = Acknowledgement(
        id=silence_schema.acknowledgement_id(step.fingerprint, step.episode),
        author=_login(author),
        at_ms=now_ms(),
        comment=comment,
        says=what,
    )
    _check(said)
    await edge.put_silence(settings, said)
    return said


def _check(value: Silence | Acknowledgement) -> None:
    """What the readers of the topic would refuse."""
    decoded = silence_schema.decode(silence_schema.encode(value))
    if isinstance(decoded, Rejected):
        raise typer.BadParameter(f"{decoded.field}: {decoded.reason.value}")


def _login(author: str | None) -> str:
    if author:
        return author
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name
        raise typer.BadParameter("who are you? say --author") from None
