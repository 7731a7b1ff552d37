"""inferwatch topics on a real broker: what is listed, and how a gap is accepted."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.core.ledger.names import AggregatorName, Position, RecorderName
from pipeline.core.ledger.resume import Problem
from pipeline.core.ledger.standing import Standing
from pipeline.edge.kafka.client import GroupInUseError
from pipeline.edge.kafka.group.standings import accept_gap, standings
from schemas.topics import AGGREGATES, EVENTS
from tests import asked_once as kafka
from tests.integration import seeding
from tests.integration.outside import kafka_says

pytestmark = pytest.mark.integration

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["topics", *arguments])
        return result.exit_code, result.output

    return run


@pytest.fixture
def gap(world: Settings) -> Settings:
    """Partition 0 of events: both roles are done up to 4, the log starts at 7 and ends at 10."""
    events = TopicPartition(world.topic(EVENTS.name), 0)
    asyncio.run(seeding.publish(world, events.topic, {0: [b"{}"] * 10}))
    aggregated = AggregatorName(4, 5, 1000, 6, 2000, 8, 1)
    recorded = RecorderName(4, 6, 1, {0: Position(1, 2, 3)})
    asyncio.run(kafka.commit_for_empty_group(world, "aggregator", events, 4, aggregated.metadata()))
    asyncio.run(kafka.commit_for_empty_group(world, "recorder", events, 4, recorded.metadata()))
    asyncio.run(seeding.delete_records(world, events, 7))
    return world


def test_missing_topics_are_created_once(world: Settings, command: Command) -> None:
    assert command("create", "--json") == (0, '{"created":[]}\n')


def test_a_topic_grows_but_does_not_shrink(world: Settings, command: Command) -> None:
    name = world.topic(EVENTS.name)
    assert command("grow", EVENTS.name, "12") == (0, f"{name} has 12 partitions, it had 8\n")
    assert command("grow", name, "12") == (0, f"{name} has 12 partitions already\n")
    assert command("grow", name, "3")[0] == 1
    assert len(asyncio.run(kafka.ends(world, [name]))) == 12


def test_topics_whose_keys_must_stay_where_they_are_do_not_grow(world: Settings, command: Command) -> None:
    code, out = command("grow", AGGREGATES.name, "16")
    assert (code, "can grow" in out) == (2, True)


def test_the_list_says_how_far_every_role_is(world: Settings, command: Command) -> None:
    asyncio.run(seeding.publish(world, world.topic(EVENTS.name), {1: [b"{}"] * 3}))
    code, out = command("list", "--json")
    rows = {(row["topic"], row["partition"]): row for row in json.loads(out)}
    row = rows[world.topic(EVENTS.name), 1]
    assert (code, row["next_offset"], row["roles"]["recorder"]["lag"]) == (0, 3, 3)
    assert command("list", "--partitions")[0] == 0


def test_a_gap_is_seen_and_counted(gap: Settings) -> None:
    found = {s.role: s for s in kafka_says(gap, lambda k: standings(gap, k)) if s.problem}
    assert {(role, s.problem, s.lost) for role, s in found.items()} == {
        ("aggregator", Problem.GAP, 3),
        ("recorder", Problem.GAP, 3),
    }


def test_an_accepted_gap_lets_the_role_go_on_where_the_log_starts(gap: Settings, command: Command) -> None:
    for role in ("aggregator", "recorder"):
        code, out = command("accept-gap", "--role", role, EVENTS.name, "0", "--yes")
        assert (code, "3 offsets (4..6) are lost" in out) == (0, True)
    assert not [s for s in kafka_says(gap, lambda k: standings(gap, k)) if s.problem]
    names = {
        s.role: s.name
        for s in kafka_says(gap, lambda k: standings(gap, k))
        if (s.topic, s.partition) == (gap.topic(EVENTS.name), 0)
    }
    aggregated = names["aggregator"]
    assert isinstance(aggregated, AggregatorName)
    assert replace(aggregated, topic_id="") == AggregatorName(7, 7, 2000, 7, 2000, 0, 2)
    assert aggregated.topic_id
    recorded = names["recorder"]
    assert isinstance(recorded, RecorderName)
    assert (recorded.from_offset, recorded.to_offset, recorded.chain) == (7, 7, {0: Position(1, 2, 3)})


def test_a_gap_is_not_accepted_unasked(gap: Settings, command: Command) -> None:
    assert command("accept-gap", "--role", "recorder", EVENTS.name, "0")[0] == 1
    assert [s for s in kafka_says(gap, lambda k: standings(gap, k, ["recorder"])) if s.problem]


def test_where_nothing_is_missing_there_is_nothing_to_accept(gap: Settings, command: Command) -> None:
    command("accept-gap", "--role", "recorder", EVENTS.name, "0", "--yes")
    code, out = command("accept-gap", "--role", "recorder", EVENTS.name, "0", "--yes")
    assert (code, "nothing to accept" in out) == (1, True)


def test_a_gap_cannot_be_accepted_while_a_worker_runs(gap: Settings) -> None:
    async def with_a_member() -> None:
        events = gap.topic(EVENTS.name)
        consumer = AIOKafkaConsumer(
            events, **kafka.client_options(gap), group_id=gap.group("recorder"), enable_auto_commit=False
        )
        await consumer.start()
        try:
            await asyncio.wait_for(consumer.getmany(timeout_ms=200), 10)
            at = await kafka.committed(gap, "recorder")
            with pytest.raises(GroupInUseError, match="stop the recorder workers first"):
                await kafka.commit_for_empty_group(gap, "recorder", TopicPartition(events, 0), 7, "")
            assert await kafka.committed(gap, "recorder") == at
        finally:
            await consumer.stop()

    asyncio.run(with_a_member())


def aggregator_of(world: Settings, tp: TopicPartition) -> Standing:
    """Where it stands."""
    found = kafka_says(world, lambda k: standings(world, k, ["aggregator"]))
    return next(s for s in found if (s.topic, s.partition) == tp)


def test_a_topic_made_anew_is_accepted_too(world: Settings) -> None:
    events = TopicPartition(world.topic(EVENTS.name), 0)
    asyncio.run(seeding.publish(world, events.topic, {0: [b"{}"] * 2}))
    name = AggregatorName(40, 50, 1000, 50, 1000, 8, 0)
    asyncio.run(kafka.commit_for_empty_group(world, "aggregator", events, 40, name.metadata()))
    standing = aggregator_of(world, events)
    assert standing.problem is Problem.SHORT
    kafka_says(world, lambda k: accept_gap(k, standing))
    standing = aggregator_of(world, events)
    assert (standing.problem, standing.lag) == (None, 2)
