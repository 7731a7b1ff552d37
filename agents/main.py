"""The command `inferwatch`: the operator's verbs, and the workers."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from pipeline.cli.app import app, run
from pipeline.cli.data_dir import DataDir, settings_for_verb
from schemas.roles import ROLE_NAMES

RoleName = StrEnum("RoleName", {name.upper(): name for name in ROLE_NAMES})  # type: ignore[misc]


@app.command("worker")
def worker(role: Annotated[RoleName, typer.Argument(help="what the worker does")], data_dir: DataDir = None) -> None:
    """Run one worker until it is told to stop (SIGTERM). Run as many of a role as there are partitions, if need be.

    It answers /metrics, /healthz and /readyz on INFERWATCH_WEB_HOST:INFERWATCH_WEB_PORT.
    """
    # Faust reads sys.argv and takes a second to import: only a worker pays for it.
    from agents.app import run as run_worker
    from agents.world import real_world
    from pipeline.edge import logs

    settings = settings_for_verb(data_dir)
    logs.configure(settings, role=role.value)
    run_worker(*import_module(f"agents.{role.value}").make(settings, real_world(settings)))


def main() -> None:
    """The entry point."""
    run()


if __name__ == "__main__":
    main()
