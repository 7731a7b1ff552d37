"""inferwatch users: the people of the HTTP side, and what each may do where."""

import sys
from typing import Annotated

import msgspec
import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.data_dir import DEFAULT, DataDir
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.edge.clock import now_ms
from pipeline.edge.local.layout import kept_secrets, running_web
from pipeline.web.access import admin, once
from pipeline.web.access.credentials import hash_password
from schemas.access import SignedOut, User, UserRole, decode, encode, record_key
from schemas.rejection import Rejected

app = typer.Typer(no_args_is_help=True, help="People: create, list, give roles, set a password, sign out, delete.")

PASSWORD_LENGTH_MIN = 12

_Json = Annotated[bool, typer.Option("--json", help="JSON on standard output")]
_Name = Annotated[str, typer.Argument(help="who: a name or a mail address")]
_Roles = Annotated[list[str], typer.Option("--role", help="WORKSPACE=viewer|operator|admin; *=... everywhere")]


@app.command()
@verb
async def create(here: Here, name: _Name, roles: _Roles, as_json: _Json = False) -> None:
    """Make a person known; asks for a password (or reads it from standard input)."""
    found = await admin.read(here.settings, here.kafka)
    if name in found.users:
        raise typer.BadParameter(f"there is a user {name} already")
    user = User(name=name, roles=_roles(roles), created_at_ms=now_ms(), password_hash=hash_password(_password()))
    await _put(here, user, as_json)


@app.command("list")
@verb
async def list_(here: Here, as_json: _Json = False) -> None:
    """List the people and their roles."""
    found = await admin.read(here.settings, here.kafka)
    if as_json:
        typer.echo(orjson.dumps([_told(user) for user in found.users.values()]).decode())
        return
    table = Table("user", "may", box=None, pad_edge=False)
    for user in found.users.values():
        table.add_row(escape(user.name), escape(", ".join(f"{w}={r.value}" for w, r in user.roles.items())))
    Console().print(table if found.users else "No users.")


@app.command()
@verb
async def grant(here: Here, name: _Name, roles: _Roles, as_json: _Json = False) -> None:
    """Give a person these roles, in place of those before."""
    user = (await admin.read(here.settings, here.kafka)).user(name)
    await _put(here, msgspec.structs.replace(user, roles=_roles(roles)), as_json)


@app.command()
@verb
async def password(here: Here, name: _Name, as_json: _Json = False) -> None:
    """Set a person's password; asks for it (or reads it from standard input)."""
    user = (await admin.read(here.settings, here.kafka)).user(name)
    await _put(here, msgspec.structs.replace(user, password_hash=hash_password(_password())), as_json)


@app.command()
@verb
async def delete(here: Here, name: _Name) -> None:
    """Forget a person."""
    await admin.delete(here.settings, (await admin.read(here.settings, here.kafka)).user(name))
    typer.echo(f"{name}: deleted")


@app.command("sign-out")
@verb
async def sign_out(
    here: Here, who: Annotated[str, typer.Argument(help="a name; oidc/NAME: whom the provider vouches for")]
) -> None:
    """End all sessions of a person, in every browser."""
    named = who if who.startswith("oidc/") else f"user/{who}"
    await admin.put(here.settings, SignedOut(who=named, until_ms=now_ms()))
    typer.echo(f"{who}: signed out")


@app.command()
def link(data_dir: DataDir = None) -> None:
    """Print a link that signs in once, as who started `inferwatch up` here; good for ten minutes."""
    directory = data_dir or DEFAULT
    typer.echo(once.link(running_web(directory), kept_secrets(directory).session_key, now_ms()))


async def _put(here: Here, user: User, as_json: bool) -> None:
    if isinstance(why := decode(record_key(user), encode(user)), Rejected):
        raise typer.BadParameter(f"{why.field or 'user'} is {why.reason.value}")
    await admin.put(here.settings, user)
    typer.echo(orjson.dumps(_told(user)).decode() if as_json else f"{user.name}: done")


def _roles(given: list[str]) -> dict[str, UserRole]:
    roles = {}
    for text in given:
        workspace, _, role = text.rpartition("=")
        if not workspace or role not in {one.value for one in UserRole}:
            raise typer.BadParameter(f"{text}: expected WORKSPACE=viewer, WORKSPACE=operator or WORKSPACE=admin")
        roles[workspace] = UserRole(role)
    return roles


def _password() -> str:
    if sys.stdin.isatty():
        text: str = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if len(text) < PASSWORD_LENGTH_MIN:
        raise typer.BadParameter(f"a password has at least {PASSWORD_LENGTH_MIN} characters")
    return text


def _told(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "roles": {workspace: role.value for workspace, role in user.roles.items()},
        "created_at_ms": user.created_at_ms,
        "password": user.password_hash is not None,
    }
