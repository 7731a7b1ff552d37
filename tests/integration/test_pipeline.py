"""The pipeline on the real engines: what goes in comes out, once and exact; also when Kafka forgets."""

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.config import Settings, to_environ
from pipeline.core.ledger.names import RecorderName
from pipeline.edge.clock import now_ms
from schemas.rejection import Reason
from schemas.topics import EVENTS
from tests import asked_once as kafka
from tests.integration import oracle
from tests.integration.feed import Feed, Traffic, own_time
from tests.integration.groups import commit, committed, delete_group, delete_records
from tests.integration.proof import prove, quick
from tests.integration.workers import WorkerUnderTest, eventually, fleet

pytestmark = pytest.mark.integration


def test_all_is_once_and_exact_while_workers_come_and_go_seed_11(world: Settings, tmp_path: Path) -> None:
    """Timestamps of the broker, windows closing as time passes; two workers of a role, one of which goes and comes."""
    settings = quick(world)
    feed = Feed(settings, Traffic(seed=11, events=4500, rate=250, speed=1, late=0.03, duplicate=0.03, malformed=0.04))
    with fleet(settings, tmp_path) as workers:
        first = workers.start_both()
        feed.start()
        second = workers.start_both()
        workers.end(*first)
        third = workers.start_both()
        workers.wait_ready(*second, *third)
        for worker in (*second, *third):
            assert worker.says("/healthz")[0] == 200
            assert worker.metric("inferwatch_partitions", state="failed") == 0
        eventually(lambda: workers.own_all("aggregator"), 30, "each partition has one aggregator")
        eventually(lambda: workers.own_all("recorder"), 30, "each partition has one recorder")
        feed.join()
        want = prove(settings, workers)
    assert want.reasons.keys() == {reason.value for reason in Reason}


def test_what_kafka_forgets_is_not_done_twice_seed_12(world: Settings, tmp_path: Path) -> None:
    """Commits that are lost, turned back by 100, or gone with their group: the tables and the topics know."""
    settings = quick(world)
    own_time(settings)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        feed = Feed(settings, Traffic(seed=12, events=3000, rate=400)).start()
        eventually(lambda: feed.sent > 1500, 30, "half is sent")
        old = committed(settings, "recorder")
        feed.join()
        prove(settings, workers)

        # Kafka comes back with an older state of the group; for events it was turned back to the middle of a cut.
        events = {tp: at for tp, at in committed(settings, "recorder").items() if tp.topic.endswith(EVENTS.name)}
        turned = {}
        for tp, at in events.items():
            name, back = RecorderName.parse(at.offset, at.metadata), max(0, at.offset - 100)
            name = RecorderName(back, back, now_ms(), topic_id=name.topic_id)
            turned[tp] = OffsetAndMetadata(back, name.metadata())
        commit(settings, "recorder", old | turned)
        Feed(settings, Traffic(seed=13, events=400, rate=800)).start().join()
        workers.start_both()
        prove(settings, workers)

        for role in ("aggregator", "recorder"):
            delete_group(settings, role)
        Feed(settings, Traffic(seed=14, events=400, rate=800)).start().join()
        workers.start_both()
        prove(settings, workers)


def test_new_partitions_are_taken_in_while_events_come_seed_16(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        workers.start_both()
        feed = Feed(settings, Traffic(seed=16, events=60_000, rate=200, speed=1)).start()
        eventually(lambda: feed.sent > 1000, 30, "events come")
        assert asyncio.run(kafka.grow(settings, settings.topic(EVENTS.name), 11)) == 8
        eventually(lambda: workers.own_all("aggregator", more=3), 60, "the aggregators have the new partitions")
        eventually(lambda: workers.own_all("recorder", more=3), 60, "the recorders have the new ones")
        feed.stop()
        Feed(settings, Traffic(seed=17, events=1000, rate=400, speed=1)).start().join()  # knows of them from the start
        want = prove(settings, workers)
    assert {partition for partition, *_ in want.rows["inferences"]} == set(range(11))


def test_a_gap_stands_still_until_it_is_accepted_and_the_others_go_on_seed_15(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)
    own_time(settings)
    gone, foreign = TopicPartition(settings.topic(EVENTS.name), 2), TopicPartition(settings.topic(EVENTS.name), 5)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        Feed(settings, Traffic(seed=15, events=1200, rate=800)).start().join()
        prove(settings, workers)
        ours = committed(settings, "recorder")
        done = ours[gone].offset
        Feed(settings, Traffic(seed=16, events=1200, rate=2000)).start().join()
        log = oracle.read_log(settings)
        start = (done + log[EVENTS.name, 2][-1].offset) // 2
        assert start > done
        delete_records(settings, EVENTS.name, 2, start)
        commit(settings, "recorder", {foreign: OffsetAndMetadata(ours[foreign].offset, "somebody else's")})

        aggregator, recorder = workers.start("aggregator"), workers.start("recorder")

        def fails(worker: WorkerUnderTest, count: int) -> bool:
            return worker.metric("inferwatch_partitions", state="failed") == count

        for worker, where in ((aggregator, [gone]), (recorder, [gone, foreign])):
            workers.wait_stands_still(worker, [f"{tp.topic}/{tp.partition}" for tp in where])
            assert worker.says("/healthz")[0] == 200
            count = len(where)
            eventually(partial(fails, worker, count), 10, "it is counted")
        others = {
            tp: records[-1].offset + 1 for tp, records in log.items() if tp[0] == EVENTS.name and tp[1] not in (2, 5)
        }
        eventually(
            lambda: all(
                committed(settings, "recorder")[TopicPartition(settings.topic(topic), p)].offset == end
                for (topic, p), end in others.items()
            ),
            30,
            "the other partitions are recorded",
        )
        assert "accept-gap" in recorder.says("/readyz")[1]["why"][0]
        assert accept_gap(settings, "recorder", 2)[0] == 1  # it runs
        workers.end(aggregator, recorder)
        assert accept_gap(settings, "recorder", 5)[0] == 1  # what is not ours is not a gap
        commit(settings, "recorder", {foreign: ours[foreign]})
        for role in ("recorder", "aggregator"):
            code, said = accept_gap(settings, role, 2)
            assert code == 0, said
        workers.start_both()
        log[EVENTS.name, 2] = [r for r in log[EVENTS.name, 2] if not done <= r.offset < start]
        prove(settings, workers, log)


def accept_gap(settings: Settings, role: str, partition: int) -> tuple[int, str]:
    """The operator's word: exit code and what was said."""
    command = [sys.executable, "-m", "agents", "topics", "accept-gap", "--role", role, "--yes"]
    done = subprocess.run(
        [*command, EVENTS.name, str(partition)],
        env=os.environ | to_environ(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
