"""Our workers, through crashes, zombies, lost answers and late events: nothing is lost, nothing is counted twice."""

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.bugs import BUGS
from tests.simulation.loop import StuckError
from tests.simulation.world import run, small

SEEDS = 2000
CHUNK = 200
BUG_SEEDS = 400  # by then a bug is seen


@pytest.fixture(autouse=True)
def _small_and_quiet() -> Iterator[None]:
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    with small():
        yield
    structlog.configure(**config)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_event_counts_once(first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            run(seed)
        except AssertionError as violation:
            pytest.fail(f"seed {seed} (python -m tests.simulation 1 --first {seed} --trace): {violation}")


@pytest.mark.parametrize("bug", BUGS)
def test_a_broken_rule_is_seen(bug: str) -> None:
    with BUGS[bug]():
        for seed in range(BUG_SEEDS):
            try:
                run(seed)
            except StuckError:
                raise
            except AssertionError:
                return
    pytest.fail(f"{bug}: not seen in {BUG_SEEDS} seeds")


def test_a_seed_always_tells_the_same_story() -> None:
    first: list[str] = []
    again: list[str] = []
    assert run(7, first.append) == run(7, again.append)
    assert len(first) > 50
    assert first == again
