"""A broker that dies, or is silent for longer than a session: members lose their partitions, no record is lost."""

from pathlib import Path

import pytest

from pipeline.config import Settings
from tests.integration.engines import Server
from tests.integration.feed import Feed, Traffic, own_time
from tests.integration.proof import prove, quick
from tests.integration.workers import Fleet, eventually, fleet, hold

pytestmark = pytest.mark.integration

ENDLESS = Traffic(seed=0, events=60_000, rate=200, speed=15, malformed=0.05)


def commits(workers: Fleet) -> list[float]:
    """OffsetCommits that the broker has acknowledged to each worker."""
    return [worker.metric("inferwatch_commits_total") for worker in workers.workers]


def wait_for_work(workers: Fleet) -> None:
    """Every worker names cuts again."""
    before = commits(workers)
    eventually(
        lambda: all(now > then for now, then in zip(commits(workers), before, strict=True)),
        60,
        "all name cuts again",
        lambda: [(w.label, before, commits(workers), w.says("/readyz")) for w in workers.workers],
    )


def test_a_broker_that_is_killed_and_then_frozen_beyond_the_session_seed_41(
    world: Settings, kafka: Server, tmp_path: Path
) -> None:
    settings = quick(world)
    own_time(settings)
    with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=41)) as feed:
        workers.start_both()
        workers.start_both()
        wait_for_work(workers)
        for _ in range(2):
            kafka.kill9()
            kafka.start()
            wait_for_work(workers)
        kafka.pause()
        hold(9)  # sessions are 6 s
        for worker in workers.workers:
            assert worker.says("/healthz")[0] == 200
        kafka.resume()
        wait_for_work(workers)
        feed.stop()
        prove(settings, workers)
