"""The command `inferwatch`: the operator's verbs, and the workers."""

from enum import StrEnum
from typing import Annotated

import typer

from pipeline import config
from pipeline.cli.app import app, run
from pipeline.edge import logs


class RoleName(StrEnum):
    """The kinds of worker."""

    AGGREGATOR = "aggregator"
    RECORDER = "recorder"
    DETECTOR = "detector"
    NOTIFIER = "notifier"


@app.command("worker")
def worker(role: Annotated[RoleName, typer.Argument(help="what the worker does")]) -> None:
    """Run one worker until it is told to stop (SIGTERM). Run as many of a role as there are partitions, if need be.

    It answers /metrics, /healthz and /readyz on INFERWATCH_WEB_HOST:INFERWATCH_WEB_PORT.
    """
    # Faust reads sys.argv and takes a second to import: only a worker pays for it.
    from agents import aggregator, detector, notifier, recorder
    from agents.app import run as run_worker
    from agents.world import real_world

    settings = config.load()
    logs.configure(settings, role=role.value)
    make = {
        RoleName.AGGREGATOR: aggregator.make,
        RoleName.RECORDER: recorder.make,
        RoleName.DETECTOR: detector.make,
        RoleName.NOTIFIER: notifier.make,
    }[role]
    run_worker(*make(settings, real_world(settings)))


def main() -> None:
    """The entry point."""
    run()


if __name__ == "__main__":
    main()
