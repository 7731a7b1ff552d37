"""`python -m tests.performance.detect`: delays against an oracle, false alarms against those asked for, the cost."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.core.detection.signals import CHANNELS, Channel
from tests.performance.detect import cost, month, nab
from tests.performance.detect.experiment import MISSED_WINDOWS, Outcome, Size, cold_start, run
from tests.performance.detect.workload import FAULTS, GROSS
from tests.performance.figures import Figure, table

CONSOLE = Console()
COLD_MINUTES = (10, 20, 60, 240)
USUAL = ("cost", "cold", "clean", "dirty")


def main() -> None:
    """Run what was asked for and print it."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m tests.performance.detect", description=__doc__)
    parser.add_argument("--streams", type=int, default=usual.streams)
    parser.add_argument("--learn-days", type=int, default=usual.learn_days)
    parser.add_argument("--test-days", type=int, default=usual.test_days)
    parser.add_argument("--injections", type=int, default=usual.injections)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--nab", type=Path, help="a copy of the NAB repository; it is only read")
    parser.add_argument("--only", choices=[*USUAL, "month", "nab"], action="append")
    parser.add_argument("--days", type=int, default=30, help="of the month")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()
    only = asked.only or [*USUAL, *(["nab"] if asked.nab else [])]
    size = Size(asked.streams, asked.learn_days, asked.test_days, asked.injections)
    figures: list[Figure] = []
    if "cost" in only:
        figures += cost.figures()
    if "month" in only:
        with tempfile.TemporaryDirectory() as directory:
            figures += month.figures(Path(directory), asked.days, asked.seed)
    if "cold" in only:
        _print_cold(asked.seed)
    for world in ("clean", "dirty"):
        if world in only:
            figures += _world(world, size, asked.seed + (world == "dirty"))
    if "nab" in only:
        figures += [
            Figure("nab", profile, score, "", 65.0 if profile == "standard" else None, more=True)
            for profile, score, _ in nab.report(asked.nab)
        ]
    CONSOLE.print(table(figures, "automatic detection"))
    if asked.json:
        asked.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=1))


def _world(name: str, size: Size, seed: int) -> list[Figure]:
    with Progress(console=CONSOLE, transient=True) as progress:
        task = progress.add_task(f"{name} world, seed {seed}", total=size.learn_days + size.test_days)
        outcome = run(size, seed, dirty=name == "dirty", progress=lambda: progress.advance(task))
    title = f"{name} world: {size}, seed {seed}; delays in windows of 10 s, missed counts as {MISSED_WINDOWS}"
    CONSOLE.print(_delays(outcome, title))
    CONSOLE.print(_false_alarms(outcome, size, name))
    ratios = [np.mean(outcome.delays[f]) / np.mean(outcome.oracle_delays[f]) for f in outcome.oracle_delays]
    weeks = outcome.model_weeks
    by_channel = outcome.false_alarms / (weeks * size.asked / CHANNELS)
    figures = [
        Figure(name, "false alarms per model-week", float(outcome.false_alarms.sum() / weeks), f"asked {size.asked:g}"),
        Figure(name, "realised / asked, lowest channel", float(by_channel.min()), ".5 to 2"),
        Figure(name, "realised / asked, highest channel", float(by_channel.max()), ".5 to 2", 2.0),
    ]
    if ratios:
        figures += [
            Figure(name, "delay / oracle, median fault", float(np.median(ratios)), "x", 1.6),
            Figure(name, "delay / oracle, worst fault", float(np.max(ratios)), "x", 2.2),
        ]
    return figures + [
        Figure(name, f"mean delay of {fault}", float(np.mean(outcome.delays[fault])), "windows", 3.0) for fault in GROSS
    ]


def _delays(outcome: Outcome, title: str) -> Table:
    out = Table(title=title, title_justify="left")
    for column in ("fault", "mean", "median", "p90", "missed", "oracle", "ratio", "seen first by"):
        out.add_column(column, justify="left" if column in ("fault", "seen first by") else "right")
    for fault in FAULTS:
        delays = np.array(outcome.delays[fault])
        best = np.mean(outcome.oracle_delays[fault]) if fault in outcome.oracle_delays else None
        names = outcome.members[fault]
        winner = max(sorted(set(names)), key=names.count) if names else ""
        out.add_row(
            str(fault),
            f"{delays.mean():.1f}",
            f"{np.median(delays):.0f}",
            f"{np.quantile(delays, 0.9):.0f}",
            f"{np.mean(delays == MISSED_WINDOWS):.0%}",
            "-" if best is None else f"{best:.1f}",
            "-" if best is None else f"{delays.mean() / best:.2f}",
            winner,
        )
    return out


def _false_alarms(outcome: Outcome, size: Size, name: str) -> Table:
    asked = outcome.model_weeks * size.asked / CHANNELS
    out = Table(title=f"{name} world: false alarms in {outcome.model_weeks:g} model-weeks", title_justify="left")
    for column in ("channel", "asked", "realised", "ratio", *(f"day {day + 1}" for day in range(7))):
        out.add_column(column, justify="left" if column == "channel" else "right")
    rows: list[tuple[str, float, float, Any]] = [
        (Channel(c).name.lower(), asked, outcome.false_alarms[c], outcome.cold_alarms[:, c]) for c in range(CHANNELS)
    ]
    rows.append(("all", asked * CHANNELS, outcome.false_alarms.sum(), outcome.cold_alarms.sum(axis=1)))
    for channel, wanted, got, cold in rows:
        # Of the first week, while everything is learned: per model and week.
        days = [f"{7 * alarms / size.streams:.2f}" for alarms in cold]
        out.add_row(channel, f"{wanted:.1f}", f"{got:.0f}", f"{got / wanted:.2f}", *days)
    out.caption = "day n: of a model's life, per model and week"
    return out


def _print_cold(seed: int) -> None:
    out = Table(title=f"faults right after the start, seed {seed}: mean delay in windows", title_justify="left")
    out.add_column("world and fault")
    for minutes in COLD_MINUTES:
        out.add_column(f"after {minutes} min", justify="right")
    for dirty in (False, True):
        delays = cold_start(32, seed, COLD_MINUTES, GROSS, dirty=dirty)
        for fault in GROSS:
            means = [f"{np.mean(delays[minutes, fault]):.1f}" for minutes in COLD_MINUTES]
            out.add_row(f"{'dirty' if dirty else 'clean'} {fault}", *means)
    CONSOLE.print(out)


if __name__ == "__main__":
    main()
