"""Logs that are not what they seem: offsets without a record, topics made anew, names that went back."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.config import Settings, to_environ
from pipeline.core.audit import Report
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER, Standing
from pipeline.edge.audit.report import Audit
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import client_options
from pipeline.edge.kafka.topic_ids import TopicIds
from pipeline.edge.operator.standings import standings
from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS, METADATA, VISION_EVENTS
from tests import builders
from tests.asked_once import create_topics
from tests.integration import oracle
from tests.integration.groups import commit, committed, delete_group
from tests.integration.outside import kafka_says
from tests.integration.proof import quick
from tests.integration.seeding import delete_topic
from tests.integration.workers import eventually, fleet, hold

pytestmark = pytest.mark.integration


def event(workspace: str, number: int) -> bytes:
    """One that is of now."""
    return builders.event(event_id=str(number), event_time_ms=now_ms(), workspace=workspace)


VALUES: Mapping[str, Callable[[], bytes]] = {
    EVENTS.name: lambda: event("acme", 0),
    HEARTBEATS.name: lambda: builders.heartbeat(sent_at_ms=now_ms()),
    METADATA.name: builders.metadata,
    AGGREGATES.name: lambda: b"{}",  # a dead letter
    ALERTS.name: lambda: b"{}",
    VISION_EVENTS.name: builders.vision_record,
}


async def transaction(settings: Settings, topic: str, partition: int, values: Sequence[bytes], commits: bool) -> None:
    """These records in one transaction, and nothing behind it."""
    producer = AIOKafkaProducer(**client_options(settings), transactional_id=f"{topic}-{partition}-{commits}")
    await producer.start()
    try:
        await producer.begin_transaction()
        for value in values:
            await (await producer.send(settings.topic(topic), value, partition=partition))
        await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()


async def send(settings: Settings, workspace: str, count: int, partitions: int = 2) -> None:
    """Events of now."""
    producer = AIOKafkaProducer(**client_options(settings))
    await producer.start()
    try:
        sent = [
            await producer.send(settings.topic(EVENTS.name), event(workspace, n), partition=n % partitions)
            for n in range(count)
        ]
        for one in sent:
            await one
    finally:
        await producer.stop()


def counted(settings: Settings) -> dict[str, dict[str, int]]:
    """Events by workspace, as rows and as each window table has them."""
    ask = oracle.Tables(settings).ask
    found = {"rows": "SELECT workspace, count() FROM inferences GROUP BY workspace"}
    found |= {
        suffix: f"SELECT workspace, sum(inference_count) FROM model_windows{suffix} GROUP BY workspace"
        for suffix in ("", "_1m", "_1h", "_1d")
    }
    return {what: {str(name): int(n) for name, n in ask(sql)} for what, sql in found.items()}


def are_counted(settings: Settings, wanted: dict[str, int], timeout_s: float = 60) -> None:
    """Everywhere exactly these, and it stays so."""

    def exact() -> bool:
        return all(found == wanted for found in counted(settings).values())

    eventually(exact, timeout_s, f"{wanted} everywhere", lambda: counted(settings))
    hold(3)
    assert exact(), counted(settings)


def audited(settings: Settings) -> Report:
    return kafka_says(settings, lambda kafka: Audit(kafka, wait_s=30).run())


def run_cli(settings: Settings, *words: str) -> tuple[int, str]:
    """A verb: exit code and what was said."""
    environ = os.environ | to_environ(settings)
    command = [sys.executable, "-m", "agents", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, done.stdout + done.stderr


def accept_all(settings: Settings) -> None:
    """An operator goes through what doctor says."""
    lost = in_trouble(settings)
    for stands in lost:
        assert f"accept-gap --role {stands.role} {stands.topic} {stands.partition}" in stands.trouble()
    for role, topic in sorted({(stands.role, stands.topic) for stands in lost}):
        code, said = run_cli(settings, "topics", "accept-gap", "--yes", "--role", role, topic)
        assert code == 0, said


def stand(settings: Settings) -> list[Standing]:
    """Every role, everywhere."""
    return kafka_says(settings, standings)


def in_trouble(settings: Settings) -> list[Standing]:
    return [s for s in stand(settings) if s.problem]


# -- an offset is not a record


def test_what_holds_no_record_at_the_end_of_every_topic_stops_no_role(world: Settings, tmp_path: Path) -> None:
    settings = quick(world).model_copy(update={"stall_s": 12.0})

    async def publish() -> None:
        for topic, value in VALUES.items():
            await transaction(settings, topic, 1, [value() for _ in range(4)], True)
            await transaction(settings, topic, 0, [value() for _ in range(3)], True)
            await transaction(settings, topic, 0, [value() for _ in range(5)], False)

    with fleet(settings, tmp_path) as workers:
        asyncio.run(publish())
        started = [workers.start(role) for role in ("aggregator", "recorder", "detector")]
        workers.wait_ready(*started)
        are_counted(settings, {"acme": 7})
        letters = "SELECT kafka_topic, count() FROM dead_letters GROUP BY kafka_topic"
        found = {str(topic): int(n) for topic, n in oracle.Tables(settings).ask(letters)}
        assert found == {settings.topic(AGGREGATES.name): 7, settings.topic(ALERTS.name): 7}
        eventually(
            lambda: not [s for s in stand(settings) if s.lag and s.topic != settings.topic(AGGREGATES.name)],
            30,
            "nothing waits",
            lambda: [s for s in stand(settings) if s.lag],
        )
        hold(15)  # longer than a partition may stand still with something to read
        for worker in started:
            assert worker.says("/readyz")[0] == 200, worker.says("/readyz")
        code, said = run_cli(settings, "topics", "list", "--json")
        rows = {(row["topic"], row["partition"]): row["roles"] for row in json.loads(said)}
        ours = rows[settings.topic(EVENTS.name), 0]
        assert (code, ours["aggregator"]["lag"], ours["recorder"]["lag"]) == (0, 0, 0)
        report = audited(settings)
        assert [c for c in report.checks if not c.ok and c.name != "windows closed"] == [], report
        workers.end_all()


def test_many_transactions_are_no_missing_records_to_the_audit(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)

    async def publish() -> None:
        producer = AIOKafkaProducer(**client_options(settings), transactional_id="many")
        await producer.start()
        for number in range(80):
            await producer.begin_transaction()
            await (await producer.send(settings.topic(EVENTS.name), event("acme", number), partition=0))
            await (producer.commit_transaction() if number % 4 else producer.abort_transaction())
        await producer.stop()

    with fleet(settings, tmp_path) as workers:
        asyncio.run(publish())
        workers.start_both()
        are_counted(settings, {"acme": 60})
        (rows,) = [check for check in audited(settings).checks if check.name == "rows and dead letters"]
        assert rows.ok, rows
        assert "100 offsets hold no record" in rows.summary
        workers.end_all()


# -- a topic made anew


def make_anew(settings: Settings, topic: str) -> None:
    asyncio.run(delete_topic(settings, settings.topic(topic)))
    asyncio.run(create_topics(settings))


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("then", [60, 600])
def test_events_made_anew_stand_still_until_accepted_and_then_count_once(
    world: Settings, tmp_path: Path, then: int, is_running: bool
) -> None:
    settings = quick(world)
    both = [f"{settings.topic(EVENTS.name)}/{p}" for p in (0, 1)]
    with fleet(settings, tmp_path) as workers:
        aggregator, recorder = workers.start_both()
        asyncio.run(send(settings, "old", 300))
        are_counted(settings, {"old": 300})
        if not is_running:
            workers.end(aggregator, recorder)
        make_anew(settings, EVENTS.name)
        asyncio.run(send(settings, "new", then))
        if not is_running:
            aggregator, recorder = workers.start("aggregator"), workers.start("recorder")
        for worker in (aggregator, recorder):

            def stands(w: Any = worker) -> bool:
                if not w.alive:  # its position lay beyond the end: it ends, and is started again
                    w.asked = True
                    w.spawn()
                said = str(w.says("/readyz")[1])
                return all(f"{where} stands still" in said and "accept-gap" in said for where in both)

            eventually(stands, 60, f"{worker.label} stands still", partial(worker.says, "/readyz"))
        code, said = run_cli(settings, "doctor")
        assert (code, "the topic was made anew" in said) == (1, True), said
        assert counted(settings)["rows"].get("new", 0) == 0
        workers.end(aggregator, recorder)
        accept_all(settings)
        assert in_trouble(settings) == []
        workers.start_both()
        are_counted(settings, {"old": 300, "new": then})
        workers.end_all()


def test_aggregates_made_anew_stand_still_until_accepted_and_no_window_is_lost(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)
    with fleet(settings, tmp_path) as workers:
        aggregator, recorder = workers.start_both()
        asyncio.run(send(settings, "old", 100))
        are_counted(settings, {"old": 100})
        workers.end(aggregator, recorder)
        make_anew(settings, AGGREGATES.name)
        aggregator, recorder = workers.start("aggregator"), workers.start("recorder")
        asyncio.run(send(settings, "new", 200))
        eventually(lambda: "stands still" in str(recorder.says("/readyz")[1]), 60, "it stands still")
        assert "new" not in counted(settings)[""]
        workers.end(recorder)
        accept_all(settings)
        workers.start("recorder")
        are_counted(settings, {"old": 100, "new": 200})
        workers.end_all()


def test_what_stands_still_where_nothing_is_committed_holds_up_nothing_else(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)

    async def beat() -> None:
        for partition in range(HEARTBEATS.partitions):
            await transaction(settings, HEARTBEATS.name, partition, [VALUES[HEARTBEATS.name]()], True)

    def are_rows(wanted: dict[str, int]) -> None:
        eventually(lambda: counted(settings)["rows"] == wanted, 40, f"{wanted}", partial(recorder.says, "/readyz"))

    with fleet(settings, tmp_path) as workers:
        recorder = workers.start("recorder")
        asyncio.run(beat())
        asyncio.run(send(settings, "old", 100, partitions=8))
        are_rows({"old": 100})
        beats = "SELECT uniqExact(kafka_partition) FROM device_heartbeats"
        eventually(lambda: [*oracle.Tables(settings).ask(beats)] == [[HEARTBEATS.partitions]], 20, "the beats are in")
        workers.end(recorder)
        make_anew(settings, HEARTBEATS.name)
        delete_group(settings, RECORDER)
        asyncio.run(send(settings, "new", 200, partitions=8))
        recorder = workers.start("recorder")
        are_rows({"old": 100, "new": 200})
        beats_of = [f"{settings.topic(HEARTBEATS.name)}/{p}" for p in range(HEARTBEATS.partitions)]
        workers.wait_stands_still(recorder, beats_of)
        workers.end_all()


def test_the_broker_says_which_topic_a_name_means(world: Settings) -> None:
    topic = world.topic(METADATA.name)

    async def asked() -> dict[str, str]:
        ids = TopicIds(client_options(world))
        try:
            return dict(await ids.of([topic, "there-is-none"]))
        finally:
            await ids.stop()

    before = asyncio.run(asked())
    assert list(before) == [topic]
    assert len(before[topic]) == 22
    assert asyncio.run(asked()) == before
    make_anew(world, METADATA.name)
    eventually(lambda: asyncio.run(asked()).get(topic, before[topic]) != before[topic], 20, "it has another id")


# -- a name goes back


def test_commits_turned_back_by_any_distance_lose_nothing(world: Settings, tmp_path: Path) -> None:
    settings = quick(world)
    sent = 0
    known: dict[str, list[dict[TopicPartition, OffsetAndMetadata]]] = {AGGREGATOR: [], RECORDER: []}
    with fleet(settings, tmp_path) as workers:
        for back in (1, 2, 3, 1):
            pair = workers.start_both()
            for _ in range(3):
                asyncio.run(send(settings, "acme", 150))
                sent += 150
                are_counted(settings, {"acme": sent})
                for role, names in known.items():
                    names.append(committed(settings, role))
            workers.end(*pair)
            for role, names in known.items():
                commit(settings, role, names[-1 - back])
        workers.start_both()
        asyncio.run(send(settings, "acme", 150))
        are_counted(settings, {"acme": sent + 150})
        for worker in workers.alive("recorder"):
            assert worker.metric("inferwatch_chain_records_total", verdict="gap") == 0
        workers.end_all()


def test_what_a_transaction_holds_open_is_read_once_it_ends(world: Settings, tmp_path: Path) -> None:
    settings = quick(world).model_copy(update={"stall_s": 10.0})

    async def hold_open() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**client_options(settings), transactional_id="slow")
        await producer.start()
        await producer.begin_transaction()
        for number in range(3):
            await (await producer.send(settings.topic(EVENTS.name), event("slow", number), partition=0))
        return producer

    async def play() -> None:
        producer = await hold_open()
        await send(settings, "quick", 10, partitions=1)
        await asyncio.to_thread(workers.start_both)
        await asyncio.to_thread(hold, 14)
        assert counted(settings)["rows"] == {}
        await producer.commit_transaction()
        await producer.stop()

    with fleet(settings, tmp_path) as workers:
        asyncio.run(play())
        are_counted(settings, {"slow": 3, "quick": 10})
        workers.end_all()
