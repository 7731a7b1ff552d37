"""`python -m tests.performance.campaign`: faults around the ledger, and the proof that nothing was lost or doubled.

Real Kafka and ClickHouse, an aggregator and two recorders. A round is some faults of faults.py with SIGKILLs between
them; then all settles and the oracle of the integration tests, which shares no code with the
pipeline, recounts every row and window of all that was ever sent. The seed decides the faults, not the moments at which
they meet the workers.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from pipeline.edge.clock import now_ms
from tests.integration import oracle
from tests.performance import system
from tests.performance.campaign.faults import FOLLOWING, OPENING
from tests.performance.campaign.scene import Scene

FAULTS = {**OPENING, **FOLLOWING}
ROUND_MAX = 5  # faults between two judgements


@dataclass
class Outcome:
    """What happened."""

    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)  # workers that ended by themselves, by role
    wrong: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)  # at the last judgement
    findings: list[str] = field(default_factory=list)
    judged: int = 0


def main() -> int:
    """0 when nothing was lost or doubled; 1 when something was; 2 when the run itself did not come to its end."""
    options = _options()
    for name in ("aiokafka", "aiohttp.server"):  # they complain of each fault
        logging.getLogger(name).setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix="inferwatch-campaign-"))
    outcome, say = Outcome(), Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    started, ended = datetime.fromtimestamp(now_ms() / 1000, UTC), False
    try:
        with system.engines() as (running, _):
            world = system.world(running)
            system.make(world)
            with Scene(world, directory, options.seed) as scene:
                try:
                    _play(options, scene, outcome, say)
                finally:
                    outcome.ended = scene.ended
        ended = True
    except (TimeoutError, AssertionError):
        say.print(f"seed {options.seed}: the run did not come to its end")
        traceback.print_exc()
    finally:
        if ended and not outcome.wrong and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say.print(f"kept: {directory}")
    if options.json:
        found = {"began": started.isoformat(timespec="seconds"), "seed": options.seed, "whole": ended} | vars(outcome)
        with options.json.open("a") as file:
            file.write(json.dumps(found) + "\n")
    _print(options, outcome)
    return 2 if not ended else 1 if outcome.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.performance.campaign", description=__doc__)
    parser.add_argument("--faults", type=int, default=60, help="so many, and the round is ended")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="no new round after so long")
    parser.add_argument("--only", nargs="*", metavar="CLASS", help="classes of faults; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the outcome there, too")
    parser.add_argument("--keep", action="store_true", help="keep the workers' logs")
    return parser.parse_args()


def _play(options: argparse.Namespace, scene: Scene, outcome: Outcome, say: Console) -> None:
    end = time.monotonic() + 60 * options.minutes
    scene.send(300)
    _judge(scene.settle(), "before the first round", outcome, say)
    number = 0
    while outcome.faults.total() < options.faults and time.monotonic() < end and not outcome.wrong:
        number += 1
        began, played = time.monotonic(), _round(options, scene, number, outcome)
        report = scene.settle()
        _judge(report, f"seed {options.seed}, round {number}: " + "; ".join(played), outcome, say)
        done, verdict = outcome.faults.total(), "clean" if report.clean else "NOT CLEAN"
        took_s = time.monotonic() - began
        say.print(f"{done}/{options.faults}, round {number}, {took_s:.0f} s, {verdict}: {'; '.join(played)}")
    if not outcome.wrong:
        _judge(scene.finish(), f"seed {options.seed}, at the end", outcome, say)


def _round(options: argparse.Namespace, scene: Scene, number: int, outcome: Outcome) -> list[str]:
    """Some faults, with kills between them; what they were."""
    chance = Random(f"{options.seed}:{number}")
    wanted = set(options.only or FAULTS)
    opening, following = ([name for name in sorted(some) if name in wanted] for some in (OPENING, FOLLOWING))
    names = [chance.choice(opening)] if opening and (not following or chance.random() < 0.6) else []
    if following:
        names += chance.choices(following, k=chance.randint(2, ROUND_MAX))
    played = []
    for name in names:
        said = FAULTS[name](scene, chance)
        outcome.faults[name] += 1
        played.append(f"{name} ({said})")
        scene.note_names()
        if name != "kill -9" and chance.random() < 0.4 and (victim := scene.kill()):
            outcome.faults["kill -9"] += 1
            played.append(f"kill -9 ({victim})")
    return played


def _judge(report: oracle.Report, when: str, outcome: Outcome, say: Console) -> None:
    outcome.judged += 1
    outcome.wrong += report.wrong
    outcome.compared = report.counts
    if not report.clean:
        outcome.findings += [when, *report.findings]
        say.print(f"VIOLATION, {when}\n{report}")


def _print(options: argparse.Namespace, outcome: Outcome) -> None:
    table = Table(title=f"campaign, seed {options.seed}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for name, count in sorted(outcome.faults.items()):
        table.add_row(name, str(count))
    table.add_row("faults", str(outcome.faults.total()))
    table.add_row("judgements", str(outcome.judged))
    for role, count in sorted(outcome.ended.items()):
        table.add_row(f"ended by itself: {role}", str(count))
    for name, count in outcome.compared.items():
        table.add_row(f"rows compared: {name}", f"{count:,}")
    table.add_row("oracle", f"NOT CLEAN {dict(outcome.wrong)}" if outcome.wrong else "clean")
    console = Console()
    console.print(table)
    for finding in outcome.findings:
        console.print(finding, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
