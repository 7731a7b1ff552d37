"""`python -m tests.simulation SCENE SEEDS`: many seeds, or one with every step told."""

import argparse
import sys
import time
from collections import Counter
from functools import partial

import structlog
from rich.console import Console
from rich.progress import track

from pipeline.edge import metrics
from tests.simulation.bugs import BUGS
from tests.simulation.world import SCENES, run

SHOWN_MAX = 20  # violations that are printed


def main() -> int:
    """1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("scene", choices=SCENES, help="which small world")
    parser.add_argument("seeds", type=int, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--bug", choices=[bug for bugs in BUGS.values() for bug in bugs], help="break a rule on purpose"
    )
    parser.add_argument("--trace", action="store_true", help="tell every step")
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    started_s, seen, violations = time.monotonic(), Counter[str](), 0
    bug, tell = BUGS.get(given.scene, {}).get(given.bug), partial(console.print, markup=False)
    seeds = range(given.first, given.first + given.seeds)
    for seed in track(seeds, "seeds", console=Console(stderr=True), disable=given.trace):
        try:
            seen += run(given.scene, seed, tell if given.trace else None, bug)
        except AssertionError as violation:
            violations += 1
            if violations <= SHOWN_MAX:
                console.print(f"seed {seed}: {violation}", markup=False)
    for name, counter in (
        ("cuts_fenced", metrics.CUTS_FENCED),
        ("rows_mended", metrics.ROWS_MENDED),
    ):
        seen[name] = round(sum(s.value for s in next(iter(counter.collect())).samples if s.name.endswith("_total")))
    for name, count in sorted(seen.items()):
        console.print(f"{name:>24} {count:>10,}")
    seconds = time.monotonic() - started_s
    console.print(f"{given.seeds:,} seeds in {seconds:.0f} s, violations: {violations}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
