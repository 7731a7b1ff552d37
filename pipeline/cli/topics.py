"""inferwatch topics: the Kafka topics, how far each role has read them, and what to do when records were lost."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli.moment import moment_s
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape
from pipeline.core.ledger.resume import Problem
from pipeline.core.ledger.standing import AGGREGATOR, READS, RECORDER, Standing
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.group.standings import accept_gap as accept
from pipeline.edge.kafka.group.standings import rewind as rewind_recorder
from pipeline.edge.operator.standings import standings
from schemas.topics import PARTITIONS_MAX, TOPICS

app = typer.Typer(no_args_is_help=True, help="Kafka topics: create, list with lag, grow, rewind, accept a gap.")


class ExactRole(StrEnum):
    """The roles that keep positions."""

    AGGREGATOR = AGGREGATOR
    RECORDER = RECORDER


@app.command()
@verb
async def create(
    here: Here,
    as_json: Annotated[bool, typer.Option("--json", help="the names of those created, as JSON")] = False,
) -> None:
    """Create the topics that are missing. Those that are there stay as they are (see inferwatch doctor)."""
    created = await here.kafka.create_topics()
    if as_json:
        typer.echo(orjson.dumps({"created": created}).decode())
        return
    for line in [f"created {name}" for name in created] or ["all topics are there"]:
        typer.echo(line)


@app.command("list")
@verb
async def list_(
    here: Here,
    partitions: Annotated[bool, typer.Option("--partitions", help="a line for every partition")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every partition, as JSON")] = False,
) -> None:
    """List the topics: offsets on the kafka, and how many records each role has still to take."""
    names = [here.settings.topic(topic.name) for topic in TOPICS]
    logs = await here.kafka.ends(names)
    standing = {(s.role, s.topic, s.partition): s for s in await standings(here.kafka)}
    if as_json:
        rows = [
            {
                "topic": tp.topic,
                "partition": tp.partition,
                "first_offset": first,
                "next_offset": end,
                "roles": {
                    role: {"offset": s.next_offset if s.name else None, "lag": s.lag, "problem": _problem(s)}
                    for role in READS
                    if (s := standing.get((role, tp.topic, tp.partition)))
                },
            }
            for tp, (first, end) in logs.items()
        ]
        typer.echo(orjson.dumps(rows).decode())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    offsets = ("partition", "first", "next") if partitions else ("partitions",)
    for heading in (*offsets, "records"):
        table.add_column(heading, justify="right")
    for role in READS:
        table.add_column(f"{role} lag", justify="right")
    for name in names:
        mine = [(tp.partition, *ends) for tp, ends in logs.items() if tp.topic == name]
        if not mine:
            table.add_row(escape(name), "[red]missing[/]")
        elif partitions:
            for partition, first, end in mine:
                lags = [_lag([s] if (s := standing.get((role, name, partition))) else []) for role in READS]
                table.add_row(escape(name), str(partition), f"{first}", f"{end}", f"{end - first:,}", *lags)
        else:
            of_role = [[s for (r, topic, _), s in standing.items() if (r, topic) == (role, name)] for role in READS]
            count = sum(end - first for _, first, end in mine)
            table.add_row(escape(name), str(len(mine)), f"{count:,}", *map(_lag, of_role))
    console = Console()
    console.print(table)
    for s in standing.values():
        if s.problem:
            console.print(f"[red]{s.role}[/] {escape(s.topic)} partition {s.partition}: {s.problem.value}")


@app.command()
@verb
async def grow(
    here: Here,
    topic: Annotated[str, typer.Argument(help="with or without the prefix")],
    partitions: Annotated[int, typer.Argument(min=1, max=PARTITIONS_MAX, help="how many it shall have; never fewer")],
) -> None:
    """Give a topic more partitions, so that more workers can share it. Running workers take them in within a minute."""
    found = [t for t in TOPICS if topic in (t.name, here.settings.topic(t.name))]
    if not found or not found[0].can_grow:
        names = " and ".join(t.name for t in TOPICS if t.can_grow)
        raise typer.BadParameter(f"{names} can grow: the detector's state lives with the keys of the others")
    name = here.settings.topic(found[0].name)
    there = await here.kafka.grow(name, partitions)
    if there > partitions:
        typer.echo(f"{name} has {there} partitions, and Kafka cannot take any away", err=True)
        raise typer.Exit(1)
    typer.echo(f"{name} has {partitions} partitions" + (f", it had {there}" if there < partitions else " already"))


@app.command("accept-gap")
@verb
async def accept_gap(
    here: Here,
    role: Annotated[ExactRole, typer.Option(help="whose position to move")],
    topic: Annotated[str, typer.Argument(help="with or without the prefix")],
    partition: Annotated[int | None, typer.Argument(min=0, help="all that stand still, unless given")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Accept that a log is not what a role had read: records left Kafka unread, or the topic was made anew.

    Only for partitions that stand still for that reason, and only while no worker of the role runs.
    """
    names = {topic, here.settings.topic(topic)}
    found = [s for s in await standings(here.kafka, [role.value]) if s.topic in names]
    found = [s for s in found if partition in (None, s.partition)]
    if not found:
        raise typer.BadParameter(f"the {role.value} reads no such partition of {topic}")
    lost = [s for s in found if s.problem not in (None, Problem.FOREIGN)]
    if not lost:
        (why,) = {s.problem.value if s.problem else "nothing is missing" for s in found[:1]}
        typer.echo(f"{topic}: {why}; there is nothing to accept", err=True)
        raise typer.Exit(1)
    for standing in lost:
        typer.echo(standing.trouble())
    if not yes:
        typer.confirm(f"Let the {role.value} go on there?", abort=True)
    for standing in lost:
        await accept(here.kafka, standing)
        where = f"{standing.topic} partition {standing.partition}"
        typer.echo(f"accepted: the {role.value} goes on at offset {standing.goes_on_at} of {where}")
    typer.echo("start its workers")


@app.command()
@verb
async def rewind(
    here: Here,
    since: Annotated[str, typer.Option(help="what came since, like 26h, or 2026-07-01T12:00")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Have the recorder look again at what Kafka still holds, and put into ClickHouse exactly what is missing there.

    After ClickHouse was restored from a backup, or lost tables. Only while no recorder runs.
    """
    since_s = moment_s(since, now_ms())
    if not yes:
        typer.confirm(f"Let the recorder look again at all since {datetime.fromtimestamp(since_s, UTC)}?", abort=True)
    again = await rewind_recorder(here.kafka, since_s * 1000)
    typer.echo(f"{sum(again.values()):,} records of {len(again)} partitions are looked at again; start the recorders")


def _problem(s: Standing) -> str | None:
    return s.problem.value if s.problem else None


def _lag(found: list[Standing]) -> str:
    if not found:
        return ""
    lag = f"{sum(s.lag for s in found):,}"
    return f"[red]{lag} (stands still)[/]" if any(s.problem for s in found) else lag
