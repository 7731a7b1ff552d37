"""inferwatch migrate: ClickHouse's tables, views, retention and users, as this version wants them."""

from typing import Annotated

import orjson
import typer
from rich.console import Console

from pipeline.cli.running import Here, verb
from pipeline.edge.store.migrations import known_migrations
from pipeline.edge.store.migrations import migrate as migrate_database
from pipeline.edge.store.users import ensure_users


@verb
async def migrate(
    here: Here,
    users: Annotated[
        bool,
        typer.Option("--users", help="also create or update the users that write, read, and ask for the HTTP side"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="what was done, as JSON on standard output")] = False,
) -> None:
    """Create or update the tables and views in ClickHouse. Safe to run again, and by two at once."""
    applied = await migrate_database(here.settings)
    about_users = await ensure_users(here.settings) if users else []
    if as_json:
        done = {"database": here.settings.clickhouse_database, "applied": applied, "users": about_users}
        typer.echo(orjson.dumps(done).decode())
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for line in applied or [
        f"{here.settings.clickhouse_database} is up to date ({len(known_migrations())} migrations)"
    ]:
        console.print(line)
    for line in about_users:
        console.print(line)
