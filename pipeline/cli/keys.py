"""inferwatch keys: the API keys of the HTTP side."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.duration import seconds
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.edge.clock import now_ms
from pipeline.web.access import admin
from pipeline.web.access.credentials import MadeKey, make_key, rotate_key
from schemas.access import EVERY_WORKSPACE, ApiKey, Scope

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")

_Json = Annotated[bool, typer.Option("--json", help="JSON on standard output")]


@app.command()
@verb
async def create(
    here: Here,
    name: Annotated[str, typer.Argument(help="what it is for, in words")],
    workspace: Annotated[
        str | None, typer.Option("--workspace", help=f"where it is good; {EVERY_WORKSPACE}: everywhere")
    ] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="what it is good for; may be repeated; default: ingest")
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="90d: after that it is refused")] = None,
    as_json: _Json = False,
) -> None:
    """Make a key and show it: only a hash of it is kept."""
    until_ms = None if expires is None else now_ms() + round(seconds(expires) * 1000)
    scopes = list(dict.fromkeys(scope or [Scope.INGEST]))
    made = make_key(name, workspace or here.settings.workspace, scopes, now_ms(), until_ms)
    await admin.put(here.settings, made.key)
    _show(made, as_json)


@app.command("list")
@verb
async def list_(here: Here, as_json: _Json = False) -> None:
    """List the keys: for whom, for what, until when, when used last (to the hour)."""
    found = await admin.read(here.settings, here.kafka)
    if as_json:
        typer.echo(orjson.dumps([_told(key, found.used_ms.get(key.id)) for key in found.keys.values()]).decode())
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("key", "for", "workspace", "may", "made", "until", "used"):
        table.add_column(heading, overflow="fold")
    for key in found.keys.values():
        times = (key.created_at_ms, key.expires_at_ms, found.used_ms.get(key.id))
        table.add_row(
            key.id,
            escape(key.name),
            escape(key.workspace),
            ", ".join(scope.value for scope in key.scopes),
            *(
                "" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
                for at_ms in times
            ),
        )
    Console().print(table if found.keys else "No keys.")


@app.command()
@verb
async def rotate(
    here: Here,
    key_id: Annotated[str, typer.Argument(help="which, as inferwatch keys list shows it")],
    grace: Annotated[
        str, typer.Option("--grace", help="how long the present secret is good yet; 0s: not at all")
    ] = "1d",
    as_json: _Json = False,
) -> None:
    """Give a key a new secret and show it."""
    found = await admin.read(here.settings, here.kafka)
    made = rotate_key(found.key(key_id), now_ms(), round(seconds(grace) * 1000))
    await admin.put(here.settings, made.key)
    _show(made, as_json)


@app.command()
@verb
async def revoke(
    here: Here, key_id: Annotated[str, typer.Argument(help="which, as inferwatch keys list shows it")]
) -> None:
    """Take a key back: a second later it is refused everywhere."""
    found = await admin.read(here.settings, here.kafka)
    await admin.delete(here.settings, found.key(key_id))
    typer.echo(f"{key_id}: revoked")


def _show(made: MadeKey, as_json: bool) -> None:
    if as_json:
        typer.echo(orjson.dumps(_told(made.key, None) | {"api_key": made.text}).decode())
        return
    typer.echo(made.text)
    typer.echo("this is the only time that it is shown", err=True)


def _told(key: ApiKey, used_at_ms: int | None) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "workspace": key.workspace,
        "scopes": [scope.value for scope in key.scopes],
        "created_at_ms": key.created_at_ms,
        "expires_at_ms": key.expires_at_ms,
        "used_at_ms": used_at_ms,
    }
