"""inferwatch web: the HTTP side."""

import gc
from typing import Annotated

import typer

from pipeline.cli.running import Here, verb
from pipeline.cli.signals import when_asked_to_end
from pipeline.edge import logs
from schemas.roles import WEB


@verb
async def web(
    here: Here,
    parts: Annotated[
        str,
        typer.Option(
            help="parts, comma-separated; default: all (ingest, session, console, images, vision, roboflow, query)"
        ),
    ] = "",
) -> None:
    """Take in events over HTTP, and answer questions, until it is told to stop (SIGTERM).

    Run as many as are needed: it keeps no state but what Roboflow servers sent and Kafka has not yet
    (INFERWATCH_WEB_SPOOL_DIR). It listens on INFERWATCH_WEB_HOST:INFERWATCH_WEB_PORT, and answers
    /metrics, /healthz and /readyz there, too.
    """
    from pipeline.web.process import PARTS, run

    names = [name.strip() for name in parts.split(",") if name.strip()] or list(PARTS)
    if unknown := sorted(set(names) - PARTS.keys()):
        raise typer.BadParameter(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    logs.configure(here.settings, role=WEB)
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)  # requests come and go by the thousand, none in a cycle
    await run(here.settings, names, when_asked_to_end)
