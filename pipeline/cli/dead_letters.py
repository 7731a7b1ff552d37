"""inferwatch dead-letters: the records that were refused; look at them, and send them again."""

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.cli.duration import seconds
from pipeline.cli.running import Here, verb
from pipeline.cli.terminal import escape, lines
from pipeline.config import Settings
from pipeline.core.words import iso
from pipeline.edge.clock import now_ms
from pipeline.edge.operator import dead_letters
from pipeline.edge.store.queries.dead_letters import DeadLetter, Selection, count_to_replay, find
from schemas.rejection import Reason
from schemas.topics import TOPICS

PREVIEW_BYTES = 80

app = typer.Typer(no_args_is_help=True, help="Refused records: list, show, send again.")

_Reason = Annotated[Reason | None, typer.Option("--reason", help="only those refused for this")]
_Topic = Annotated[str | None, typer.Option("--topic", help="only those from this topic, with or without the prefix")]
_Since = Annotated[str | None, typer.Option("--since", help="only what is younger, like 2h")]
_Json = Annotated[bool, typer.Option("--json", help="JSON on standard output")]


@app.command("list")
@verb
async def list_(
    here: Here,
    reason: _Reason = None,
    topic: _Topic = None,
    since: _Since = None,
    limit: Annotated[int, typer.Option(min=1, help="how many, the newest first")] = 50,
    as_json: _Json = False,
) -> None:
    """List refused records, the newest first, with the beginning of their values."""
    found = await find(
        here.store(), _selection(here.settings, reason, topic, since, limit), value_bytes_max=PREVIEW_BYTES
    )
    if as_json:
        typer.echo(orjson.dumps([_as_json(letter) for letter in found]).decode())
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("time", "reason", "field", "topic partition offset", "bytes", "value"):
        table.add_column(heading, justify="right" if heading == "bytes" else "left", overflow="fold")
    for letter in found:
        place = f"{letter.topic} {letter.partition} {letter.offset}"
        beginning = escape(letter.value.decode(errors="backslashreplace"))
        row = (
            iso(letter.time_ms),
            letter.reason,
            escape(letter.field),
            escape(place),
            f"{letter.value_bytes:,}",
            beginning,
        )
        table.add_row(*row)
    Console().print(table if found else "No dead letters.")


@app.command()
@verb
async def show(
    here: Here,
    topic: Annotated[str, typer.Argument(help="with or without the prefix")],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    raw: Annotated[bool, typer.Option("--raw", help="the value's bytes alone, on standard output")] = False,
    as_json: _Json = False,
) -> None:
    """Show one refused record: why, and all of its value that can still be had."""
    topics = [_full_name(here.settings, topic), topic]
    letter = await dead_letters.get(here.kafka, here.store(), topics, partition, offset)
    if raw:
        sys.stdout.buffer.write(letter.value)
        return
    if as_json:
        typer.echo(orjson.dumps(_as_json(letter)).decode())
        return
    console = Console()
    for name, value in (
        ("reason", letter.reason),
        ("field", letter.field or "(the record as a whole)"),
        ("from", f"{letter.topic} partition {letter.partition} offset {letter.offset}"),
        ("time", iso(letter.time_ms)),
        ("key", letter.key.decode(errors="backslashreplace") or "(none)"),
        (
            "bytes",
            f"{letter.value_bytes:,}" + ("" if letter.is_whole else f", the first {len(letter.value):,} of them:"),
        ),
    ):
        console.print(f"[bold]{name:>7}[/]  {escape(value)}", highlight=False)
    console.print()
    console.print(lines(_readable(letter)), markup=False, highlight=False, soft_wrap=True)


@app.command()
@verb
async def replay(
    here: Here,
    reason: _Reason = None,
    topic: _Topic = None,
    since: _Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be sent, and send nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Send refused records to their topic again, after what refused them has been mended.

    Each is sent once: what was sent is noted in the table dead_letter_replays. If this command is killed, the last
    200 at most may be sent again the next time.
    """
    selection = _selection(here.settings, reason, topic, since, limit)
    due = await count_to_replay(here.store(), selection)
    known = f"; {due.before:,} were sent again before" if due.before else ""
    typer.echo(f"{due.records:,} dead letters ({due.bytes:,} bytes) to send again{known}")
    if dry_run or not due.records:
        return
    if not yes:
        typer.confirm("Send them?", abort=True)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sending", total=due.records)

        def advance(done: int) -> None:
            progress.advance(task, done)

        outcome = await dead_letters.replay(here.kafka, here.store(), selection, advance)
    typer.echo(f"{outcome.sent:,} sent again")
    for what, places in (
        ("longer than 64 KiB and no longer on the broker", outcome.gone),
        ("refused by the broker", outcome.refused),
    ):
        if places:
            typer.echo(f"{len(places):,} not sent, {what}: {', '.join(places[:5])}", err=True)
    raise typer.Exit(1 if outcome.gone or outcome.refused else 0)


def _selection(
    settings: Settings, reason: Reason | None, topic: str | None, since: str | None, limit: int | None
) -> Selection:
    return Selection(
        reason=reason.value if reason else None,
        topic=_full_name(settings, topic) if topic else None,
        since_ms=now_ms() - round(seconds(since) * 1000) if since else 0,
        limit=limit,
    )


def _full_name(settings: Settings, topic: str) -> str:
    return settings.topic(topic) if topic in {t.name for t in TOPICS} else topic


def _as_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "reason": letter.reason,
        "field": letter.field,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time_ms": letter.time_ms,
        "key": letter.key.decode(errors="backslashreplace"),
        "value_bytes": letter.value_bytes,
        "value": letter.value.decode(errors="backslashreplace"),
    }


def _readable(letter: DeadLetter) -> str:
    try:
        return orjson.dumps(orjson.loads(letter.value), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return letter.value.decode(errors="backslashreplace")
