"""Our workers, through crashes, zombies, lost answers and late events: nothing is lost, nothing is counted twice."""

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.bugs import BUGS
from tests.simulation.loop import StuckError
from tests.simulation.world import SCENES, run

SEEDS = 2000
CHUNK = 200
BUG_SEEDS = 1000  # by then a bug is seen


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.configure(**config)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
@pytest.mark.parametrize("scene", SCENES)
def test_every_promise_is_kept(scene: str, first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            run(scene, seed)
        except AssertionError as violation:
            pytest.fail(f"seed {seed} (python -m tests.simulation {scene} 1 --first {seed} --trace): {violation}")


@pytest.mark.slow
@pytest.mark.planted
@pytest.mark.parametrize(("scene", "bug"), [(scene, bug) for scene, bugs in BUGS.items() for bug in bugs])
def test_a_broken_rule_is_seen(scene: str, bug: str) -> None:
    for seed in range(BUG_SEEDS):
        try:
            run(scene, seed, bug=BUGS[scene][bug])
        except StuckError:
            raise
        except AssertionError:
            return
    pytest.fail(f"{bug}: not seen in {BUG_SEEDS} seeds")


@pytest.mark.parametrize("scene", SCENES)
def test_a_seed_always_tells_the_same_story(scene: str) -> None:
    first: list[str] = []
    again: list[str] = []
    assert run(scene, 7, first.append) == run(scene, 7, again.append)
    assert len(first) > 50
    assert first == again
