"""`make bench`: measures, prints a table, and with --json FILE keeps the figures for a script."""

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
import psutil
from rich.console import Console

from pipeline.edge.clock import now_ms
from tests.performance import (
    bench_alerts,
    bench_catch_up,
    bench_detector,
    bench_kernel,
    bench_live,
    bench_memory,
    bench_web,
    system,
)
from tests.performance.figures import Figure, VoidRunError, table

BENCHES = ("kernel", "catch-up", "live", "memory", "detector", "alerts", "web")

Run = Callable[[], list[Figure]]


def main() -> int:
    """0; 1 when a run was void."""
    options = _options()
    console, progress = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)
    about = _about()
    figures: list[Figure] = []
    void: list[str] = []
    for name, run in _runs(options):
        with progress.status(name):
            try:
                figures += run()
            except VoidRunError as error:
                void.append(f"{name}: {error}")
    console.print(table(figures, f"{about['date']}  {about['machine']}\n{about['command']}"))
    for text in void:
        console.print(f"[red]void:[/] {text}", highlight=False)
    if options.json:
        document = {**about, "figures": [figure.as_json() for figure in figures], "void": void}
        options.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 1 if void else 0


def _runs(options: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    if "kernel" in options.benches:
        yield "kernel", bench_kernel.run
    if set(options.benches) == {"kernel"}:
        return
    with system.engines() as (running, directory):
        if "catch-up" in options.benches:
            load = bench_catch_up.Load(options.events, options.span)
            yield "catch-up", partial(bench_catch_up.run, running, directory, load)
        if "live" in options.benches:
            for rate in options.rates:
                yield f"live, {rate:,} events/s", partial(bench_live.run, running, directory, rate, options.seconds)
        if "memory" in options.benches:
            yield "memory", partial(bench_memory.run, running, directory, options.minutes)
        if "detector" in options.benches:
            for series in options.series:
                name = f"detector, {series:,} series"
                yield name, partial(bench_detector.run, running, directory, series, options.seconds)
        if "web" in options.benches:
            yield "web", partial(bench_web.run, running, directory, options.seconds)
        if "alerts" in options.benches:
            yield "alerts", partial(bench_alerts.run, running, directory, options.seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.performance", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"which of {', '.join(BENCHES)}; default: all")
    parser.add_argument("--events", type=int, default=1_000_000, help="catch-up: how many")
    parser.add_argument(
        "--span", type=int, default=600, help="catch-up: seconds of event time that they are spread over"
    )
    parser.add_argument("--rates", type=int, nargs="+", default=[2_000, 10_000, 20_000], help="live: events/s")
    parser.add_argument("--seconds", type=int, default=60, help="live, detector, alerts, web: how long")
    parser.add_argument("--series", type=int, nargs="+", default=[70_000, 100_000], help="detector: how many")
    parser.add_argument("--minutes", type=float, default=0.5, help="memory: how long ClickHouse is away")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    if unknown := set(options.benches) - set(BENCHES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options.benches = options.benches or list(BENCHES)
    return options


def _about() -> dict[str, str]:
    model = next(
        (line.split(":")[1].strip() for line in _cpu_info() if line.startswith("model name")), platform.machine()
    )
    memory_gb = psutil.virtual_memory().total / (1 << 30)
    return {
        "date": datetime.fromtimestamp(now_ms() / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores ({model}), {memory_gb:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; load before: {os.getloadavg()[0]:.1f}",
        "command": shlex.join(["python", "-m", "tests.performance", *sys.argv[1:]]),
    }


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
