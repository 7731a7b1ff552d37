"""Workers that die, fail or freeze at each step of a cut: nothing is lost, nothing doubled."""

from functools import partial
from pathlib import Path

import pytest

from pipeline.config import Settings
from schemas.topics import AGGREGATES, EVENTS
from tests.integration.feed import Feed, Traffic, own_time
from tests.integration.proof import prove, quick
from tests.integration.workers import Action, Fault, Fleet, Step, WorkerUnderTest, eventually, fleet, partitions_of

pytestmark = pytest.mark.integration

STEPS = (Step.NAMING, Step.NAMED, Step.BETWEEN, Step.DONE)
ENDLESS = Traffic(seed=0, events=60_000, rate=120, speed=15, malformed=0.1)


def start_faulty(workers: Fleet, step: Step, action: Action) -> list[WorkerUnderTest]:
    """An aggregator and two recorders, all with a fault at this step: one recorder's lies in each of its big inputs."""
    where = (("aggregator", EVENTS), ("recorder", EVENTS), ("recorder", AGGREGATES))
    return [workers.start(role, Fault(step, action, topic.name, nth=4)) for role, topic in where]


def owned(worker: WorkerUnderTest) -> float:
    """How many partitions a worker has."""
    return worker.metric("inferwatch_partitions", state="assigned")


def owns(worker: WorkerUnderTest, count: int) -> bool:
    """Whether it has just so many."""
    return owned(worker) == count


def is_healthy(worker: WorkerUnderTest) -> bool:
    """Whether it says so."""
    return worker.says("/healthz")[0] == 200


def test_workers_that_die_at_each_step_of_a_cut_seed_21(world: Settings, tmp_path: Path) -> None:
    """SIGKILL; and once an error that nobody knows, which must end the worker too."""
    settings = quick(world)
    own_time(settings)
    with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=21)) as feed:
        workers.start("aggregator")
        workers.start("recorder")
        for step in STEPS:
            workers.wait_struck(*start_faulty(workers, step, Action.KILL))
        failing = start_faulty(workers, Step.BETWEEN, Action.RAISE)
        workers.wait_struck(*failing)
        for worker in failing:
            assert worker.returncode == 1, worker.child.said()[-2000:]
            assert "a fault of the test" in worker.child.said()
        feed.stop()
        prove(settings, workers)


def test_workers_frozen_at_each_step_wake_up_after_their_partitions_went_elsewhere_seed_22(
    world: Settings, tmp_path: Path
) -> None:
    settings = quick(world)
    own_time(settings)
    with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=22)) as feed:
        others = workers.start_both()
        for pair in (STEPS[:2], STEPS[2:]):
            frozen = [worker for step in pair for worker in start_faulty(workers, step, Action.FREEZE)]
            workers.wait_struck(*frozen)
            for worker, count in zip(others, map(partitions_of, ("aggregator", "recorder")), strict=True):
                eventually(partial(owns, worker, count), 60, f"{worker.label} has all partitions")
            for worker in frozen:
                worker.resume()
            for worker in frozen:
                eventually(partial(is_healthy, worker), 60, f"{worker.label} works again")
            workers.end(*frozen)
        feed.stop()
        prove(settings, workers)
