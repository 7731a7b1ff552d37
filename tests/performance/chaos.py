"""`make chaos`: a long run under SIGKILLs, and the proof that nothing was lost, doubled or changed by them.

Kafka, ClickHouse and a worker of each role under a supervisor as with `inferwatch up`, and a second worker of each role
beside it; the load generator sends; random processes of all these are killed. Then two judges look at the result:
`inferwatch audit --sent`, and the oracle of the integration tests, which shares no code with the pipeline.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.config import Settings, load, to_environ
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.stack import Stack
from pipeline.edge.local.worker import Worker
from tests.integration import oracle
from tests.integration.workers import Fleet, WorkerUnderTest

ROLES = ("aggregator", "recorder")
UP_S = 90.0  # for what was killed to be up again
PRODUCE_S_MAX = 3600.0
STALLED_S = 180.0  # nothing moves for so long: it will not come


@dataclass
class Outcome:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    sent: dict[str, object] = field(default_factory=dict)
    produce_s: float = 0.0
    drain_s: float = 0.0
    audit_code: int = -1
    audit_said: str = ""
    report: oracle.Report = field(default_factory=oracle.Report)
    notices: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Both judges say so."""
        return self.audit_code == 0 and self.report.clean


def main() -> int:
    """0 when nothing was lost or doubled; 1 when something was; 2 when the run itself did not come to its end."""
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="inferwatch-chaos-"))
    outcome = Outcome()
    ended = False
    try:
        asyncio.run(_run(options, directory, outcome))
        ended = True
    except (TimeoutError, AssertionError, subprocess.SubprocessError) as error:
        Console(stderr=True).print(f"the run did not come to its end: {error!r}", style="red", markup=False)
    finally:
        if options.keep or not (ended and outcome.clean):
            Console(stderr=True).print(f"kept: {directory}", highlight=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    _print(options, outcome)
    return 2 if not ended else 0 if outcome.clean else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.performance.chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rate", type=float, default=12_000, help="events/s; 0: as fast as possible")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    return parser.parse_args()


async def _run(options: argparse.Namespace, directory: Path, outcome: Outcome) -> None:
    base = load({}).model_copy(update={"session_timeout_ms": 6000, "clickhouse_insert_timeout_s": 10.0})
    say = Console(stderr=True).print
    async with Stack(directory / "data", roles=ROLES, settings=base, notice=outcome.notices.append) as stack:
        fleet = Fleet(stack.settings, directory / "logs")
        try:
            for role in ROLES:
                fleet.start(role)
            started = time.monotonic()
            produce = _produce(options, stack.settings, directory)
            try:
                await _kill(options, stack, fleet, outcome)
                await asyncio.to_thread(produce.wait, PRODUCE_S_MAX)
            finally:
                produce.kill()
                produce.wait()
            outcome.produce_s = time.monotonic() - started
            outcome.sent = json.loads((directory / "produced.json").read_text() or "{}")
            say(f"produced: {outcome.sent}", markup=False)
            started = time.monotonic()
            want = await asyncio.to_thread(oracle.expected, stack.settings)
            await asyncio.to_thread(oracle.wait, stack.settings, want, STALLED_S)
            outcome.drain_s = time.monotonic() - started
            await asyncio.to_thread(_audit, stack.settings, directory, outcome)
            outcome.report = await asyncio.to_thread(oracle.Tables(stack.settings).compare, want)
        finally:
            for worker in fleet.workers:
                worker.kill9()


def _environ(settings: Settings) -> dict[str, str]:
    return os.environ | to_environ(settings)


def _produce(options: argparse.Namespace, settings: Settings, directory: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "agents", "produce", "--json", "--events", str(options.events)]
    command += ["--rate", str(options.rate), "--seed", str(options.seed), "--verify", str(directory / "sent.json")]
    command += ["--malformed", "0.01", "--late", "0.02", "--duplicate", "0.01", "--errors", "0.02"]
    with (directory / "produced.json").open("wb") as out, (directory / "produce.log").open("wb") as log:
        return subprocess.Popen(command, env=_environ(settings), stdout=out, stderr=log)


async def _kill(options: argparse.Namespace, stack: Stack, fleet: Fleet, outcome: Outcome) -> None:
    """Kills one after another, now and then two at once; most of the time all is up again before the next."""
    chance = random.Random(options.seed)
    say = Console(stderr=True).print
    for number in range(1, options.kills + 1):
        if number == 1 or chance.random() < 0.75:
            await _wait_up(stack, fleet)
            await asyncio.sleep(chance.uniform(0.5, 3))
        victims: list[Engine] = [w for w in fleet.workers if w.alive]
        victims += [engine for engine in _engines(stack) if engine.alive]
        victim = chance.choice(victims)
        await asyncio.to_thread(victim.kill9)
        name = victim.name if not isinstance(victim, WorkerUnderTest) else f"second {victim.name}"
        outcome.kills[name] += 1
        say(f"kill {number}: {name}", highlight=False)
        if isinstance(victim, WorkerUnderTest):  # the others are started again by their supervisor
            fleet.start(victim.name)
    await _wait_up(stack, fleet)


def _engines(stack: Stack) -> list[Engine]:
    assert stack.kafka is not None
    assert stack.clickhouse is not None
    return [stack.kafka, stack.clickhouse, *stack.workers.values()]


async def _wait_up(stack: Stack, fleet: Fleet) -> None:
    """All servers answer and all workers live; they may be behind."""
    deadline = time.monotonic() + UP_S
    wanted = [*_engines(stack), *(worker for worker in fleet.workers if not worker.asked)]
    while not all([await asyncio.to_thread(_is_up, engine) for engine in wanted]):
        if time.monotonic() > deadline:
            down = [engine.name for engine in wanted if not _is_up(engine)]
            raise TimeoutError(f"not up again within {UP_S:.0f} s: {down}")
        await asyncio.sleep(0.2)


def _is_up(engine: Engine) -> bool:
    return engine.alive and (engine.healthy() if isinstance(engine, Worker) else engine.answers())


def _audit(settings: Settings, directory: Path, outcome: Outcome) -> None:
    command = [sys.executable, "-m", "agents", "audit", "--wait", "180s", "--sent", str(directory / "sent.json")]
    done = subprocess.run(command, env=_environ(settings), capture_output=True, text=True, timeout=1800, check=False)
    outcome.audit_code, outcome.audit_said = done.returncode, done.stdout + done.stderr
    (directory / "audit.txt").write_text(outcome.audit_said)


def _print(options: argparse.Namespace, outcome: Outcome) -> None:
    report = outcome.report
    table = Table(title=f"chaos, seed {options.seed}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name in ("sent", "acknowledged", "unknown", "duplicates"):
        table.add_row(name, f"{outcome.sent.get(name, '?'):,}" if outcome.sent else "?")
    for name, count in sorted(outcome.kills.items()):
        table.add_row(f"killed: {name}", str(count))
    table.add_row("killed", str(outcome.kills.total()))
    table.add_row("produced and killed, s", f"{outcome.produce_s:.0f}")
    table.add_row("until the oracle had read all, and all was in, s", f"{outcome.drain_s:.0f}")
    for name, count in report.counts.items():
        table.add_row(f"rows compared: {name}", f"{count:,}")
    table.add_row("audit --sent", {0: "clean", -1: "not run"}.get(outcome.audit_code, "NOT CLEAN"))
    table.add_row("oracle", "clean" if report.counts and report.clean else f"NOT CLEAN {dict(report.wrong)}")
    console = Console()
    console.print(table)
    if outcome.audit_code > 0:
        console.print(outcome.audit_said, markup=False, highlight=False)
    for finding in report.findings:
        console.print(finding, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
