"""Dead letters on real engines: listed, shown whole, sent again once."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.operator import dead_letters
from pipeline.edge.operator.dead_letters import HEADER
from pipeline.edge.store.client import ClickHouse
from pipeline.edge.store.queries.dead_letters import Selection, ToReplay, count_to_replay
from schemas.topics import EVENTS, HEARTBEATS
from tests.integration import seeding
from tests.integration.outside import ask, connect, kafka_says

pytestmark = pytest.mark.integration

LONG = b"[" * 100_000
BINARY = b'{"workspace":"\xff\xfe"}'

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def client(world: Settings) -> Iterator[Client]:
    with closing(connect(world, "writer")) as client:
        yield client


@pytest.fixture
def command(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["dead-letters", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


def refuse(settings: Settings, client: Client, values: list[bytes], topic: str = EVENTS.name) -> list[int]:
    """Publishes to partition 0 and records as refused; the offsets."""
    name = settings.topic(topic)
    published = asyncio.run(seeding.publish(settings, name, {0: values}))
    for partition, offset, time_ms, value in published:
        rows = [("not_json", "", name, partition, offset, time_ms, b"cam-1", value[:65_536], len(value))]
        place = ("kafka_topic", "kafka_partition", "kafka_offset", "kafka_time")
        columns = ("reason", "field", *place, "key", "value", "value_bytes")
        client.insert("dead_letters", rows, columns)
    return [offset for _, offset, _, _ in published]


def everything(settings: Settings, topic: str = EVENTS.name) -> list[ConsumerRecord]:
    """All records of a topic."""

    async def read(kafka: Kafka) -> list[ConsumerRecord]:
        ends = await kafka.ends([settings.topic(topic)])
        return [record for tp, span in ends.items() for record in (await kafka.read(tp, *span))[0]]

    return kafka_says(settings, read)


def replay(
    settings: Settings, selection: Selection | None = None, on_lot: Callable[[int], None] = lambda _: None
) -> dead_letters.Replayed:
    async def run() -> dead_letters.Replayed:
        async with Kafka(settings) as kafka, ClickHouse(settings, "writer") as store:
            return await dead_letters.replay(kafka, store, selection or Selection(), on_lot)

    return asyncio.run(run())


async def to_replay(settings: Settings) -> ToReplay:
    async with ClickHouse(settings, "writer") as store:
        return await count_to_replay(store, Selection())


def test_a_replay_has_the_value_the_key_and_says_what_it_repeats(world: Settings, client: Client) -> None:
    offsets = refuse(world, client, [BINARY, LONG])
    assert replay(world).sent == 2
    again = [record for record in everything(world) if record.headers]
    assert sorted(record.value for record in again) == sorted([BINARY, LONG])
    assert {record.key for record in again} == {b"cam-1"}
    places = {f"{world.topic(EVENTS.name)}/0/{offset}".encode() for offset in offsets}
    assert {dict(record.headers)[HEADER] for record in again} == places


def test_nothing_is_replayed_twice(world: Settings, client: Client) -> None:
    refuse(world, client, [b"{", b"["])
    assert replay(world).sent == 2
    refuse(world, client, [b"}"])
    assert asyncio.run(to_replay(world)) == ToReplay(records=1, bytes=1, before=2)
    assert replay(world).sent == 1
    assert replay(world).sent == 0
    assert len(everything(world)) == 6


def test_a_long_replay_goes_lot_by_lot_up_to_its_limit(world: Settings, client: Client) -> None:
    refuse(world, client, [b"{"] * (dead_letters.LOT + 50))
    lots: list[int] = []
    limit = dead_letters.LOT + 20
    outcome = replay(world, Selection(limit=limit), lots.append)
    assert (outcome.sent, lots) == (limit, [dead_letters.LOT, 20])
    assert replay(world).sent == 30


def test_only_what_was_selected_is_replayed(world: Settings, client: Client) -> None:
    refuse(world, client, [b"{"])
    refuse(world, client, [b"["], HEARTBEATS.name)
    assert replay(world, Selection(reason="too_large")).sent == 0
    assert replay(world, Selection(topic=world.topic(HEARTBEATS.name))).sent == 1
    assert len(everything(world, HEARTBEATS.name)) == 2


def test_a_long_value_that_left_the_broker_is_told_and_not_sent(world: Settings, client: Client) -> None:
    (offset,) = refuse(world, client, [LONG])
    cut_log(world, EVENTS.name, offset + 1)
    outcome = replay(world)
    assert (outcome.sent, outcome.gone) == (0, [f"{world.topic(EVENTS.name)}/0/{offset}"])


def test_a_short_value_is_replayed_though_it_left_the_broker(world: Settings, client: Client) -> None:
    (offset,) = refuse(world, client, [BINARY])
    cut_log(world, EVENTS.name, offset + 1)
    assert replay(world).sent == 1


def test_the_command_lists_shows_and_replays(world: Settings, client: Client, command: Command) -> None:
    offsets = refuse(world, client, [BINARY, b'{"a":1}'])
    code, out = command("list", "--json")
    listed: list[dict[str, Any]] = json.loads(out)
    assert (code, sorted(letter["offset"] for letter in listed)) == (0, offsets)
    code, out = command("show", EVENTS.name, "0", str(offsets[1]))
    assert (code, '"a": 1' in out, "not_json" in out) == (0, True, True)
    code, out = command("replay", "--dry-run")
    assert (code, len(everything(world))) == (0, 2)
    code, out = command("replay")  # asks, and nobody answers
    assert (code, len(everything(world))) == (1, 2)
    code, out = command("replay", "--yes")
    assert (code, len(everything(world))) == (0, 4)
    assert ask(client, "SELECT count() FROM dead_letter_replays") == [(2,)]


def test_the_raw_value_is_shown_byte_by_byte(world: Settings, client: Client, command: Command) -> None:
    (offset,) = refuse(world, client, [LONG])
    code, out = command("show", EVENTS.name, "0", str(offset), "--raw")
    assert (code, out.encode()) == (0, LONG)


def test_there_is_no_dead_letter_where_there_is_none(command: Command) -> None:
    with pytest.raises(dead_letters.NoSuchDeadLetterError, match="there is no dead letter"):
        command("show", EVENTS.name, "0", "7")


def cut_log(settings: Settings, topic: str, before: int) -> None:
    """Partition 0 begins at `before`, as retention would have it."""
    asyncio.run(seeding.delete_records(settings, TopicPartition(settings.topic(topic), 0), before))


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_has_no_letter_for_something_ends_no_list(
    world: Settings, client: Client, encoding: str
) -> None:
    refuse(world, client, ["каска 安全帽 \x1b[2J".encode()])
    environ = os.environ | to_environ(world) | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run(
        [sys.executable, "-m", "agents.main", "dead-letters", "list"],
        env=environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"\\u5b89" in ran.stdout
    assert b"\x1b[2J" not in ran.stdout
