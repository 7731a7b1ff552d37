"""The doctor on real engines: what it finds, and that one failing question does not stop the others."""

import asyncio
import json

import pytest
from aiokafka.structs import TopicPartition
from pydantic import SecretStr
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.core.ledger.names import RecorderName
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import write_compacted
from pipeline.edge.operator.doctor import Line, examine
from pipeline.edge.store.migrations import known_migrations
from schemas.topics import AGGREGATES, EVENTS, METADATA, RULES
from tests.integration import seeding
from tests.integration.outside import connect, kafka_says

pytestmark = pytest.mark.integration

WITHOUT_WORKERS = {"aggregator workers", "recorder workers"}


def examined(settings: Settings) -> dict[str, Line]:
    async def lines(kafka: Kafka) -> dict[str, Line]:
        return {line.name: line async for line in examine(kafka)}

    return kafka_says(settings, lines)


def wrong(lines: dict[str, Line]) -> set[str]:
    return {name for name, line in lines.items() if not line.ok}


def test_all_is_well_but_for_the_workers_that_do_not_run(world: Settings) -> None:
    lines = examined(world)
    assert wrong(lines) - {"disk default", "kafka disk 1"} == WITHOUT_WORKERS, lines
    assert "GB free" in lines["kafka disk 1"].text
    assert lines["detached parts"].text == "none"
    assert "inferwatch worker recorder" in lines["recorder workers"].text
    assert lines["reader"].text.endswith("may select, and nothing else")
    assert lines["query"].text == "query may select, in one workspace at a time"
    assert "up to date" in lines["tables"].text


def test_a_kafka_that_is_away_does_not_keep_clickhouse_from_being_asked(world: Settings) -> None:
    lines = examined(world.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}))
    assert "does not answer" in lines["kafka"].text
    assert lines["tables"].ok


def test_a_clickhouse_that_is_away_does_not_keep_kafka_from_being_asked(world: Settings) -> None:
    lines = examined(world.model_copy(update={"clickhouse_url": "http://127.0.0.1:1"}))
    assert "does not answer (connection refused); check INFERWATCH_CLICKHOUSE_URL" in lines["clickhouse"].text
    assert lines[world.topic(EVENTS.name)].ok


def test_topics_that_are_not_as_they_should_be_are_told(world: Settings) -> None:
    events, metadata = world.topic(EVENTS.name), world.topic(METADATA.name)
    asyncio.run(seeding.alter_topic(world, events, {"retention.ms": "1000", "message.timestamp.type": "CreateTime"}))
    asyncio.run(seeding.delete_topic(world, metadata))
    lines = examined(world)
    assert "retention.ms is 1000" in lines[events].text
    assert "message.timestamp.type is CreateTime" in lines[events].text
    assert "inferwatch topics create" in lines[metadata].text


def test_rules_and_recipients_that_can_never_work_are_told(world: Settings) -> None:
    fine = examined(world)
    assert (fine["rules"].text, fine["recipients"].ok) == ("0 rules", True)
    asyncio.run(write_compacted(world, world.topic(RULES.name), {b"odd": b"{"}))
    lines = examined(world.model_copy(update={"notify_recipients": SecretStr("mailto:x pagerduty:default")}))
    assert "odd cannot be read, and nobody heeds it (not_json" in lines["rules"].text
    assert all(said in lines["recipients"].text for said in ("mailto:x: ", "INFERWATCH_PAGERDUTY_KEY is not set"))
    assert {"rules", "recipients"} <= wrong(lines)


def test_a_database_without_tables_is_told(world: Settings) -> None:
    lines = examined(world.model_copy(update={"clickhouse_database": world.clickhouse_database + "_none"}))
    assert "inferwatch migrate" in lines["tables"].text


def test_missing_migrations_are_told(world: Settings) -> None:
    client = connect(world, "admin")
    last = known_migrations()[-1].version
    client.command(f"ALTER TABLE schema_migrations DELETE WHERE version = {last}", settings={"mutations_sync": 2})
    client.close()
    assert "inferwatch migrate" in examined(world)["tables"].text


def test_partitions_that_stand_still_are_told_with_what_to_do(world: Settings) -> None:
    events = TopicPartition(world.topic(EVENTS.name), 0)
    aggregates = TopicPartition(world.topic(AGGREGATES.name), 3)
    asyncio.run(seeding.publish(world, events.topic, {0: [b"{}"] * 5}))
    kafka_says(world, lambda b: b.commit_for_empty_group("recorder", events, 1, RecorderName(1, 1, 0).metadata()))
    asyncio.run(seeding.delete_records(world, events, 3))
    kafka_says(world, lambda b: b.commit_for_empty_group("recorder", aggregates, 0, "somebody else's"))
    lines = examined(world)
    accept = f"inferwatch topics accept-gap --role recorder {events.topic} 0"
    assert accept in lines[f"recorder {events.topic}/0"].text
    assert "not ours" in lines[f"recorder {aggregates.topic}/3"].text


def test_many_dead_letters_are_told(world: Settings) -> None:
    client = connect(world, "writer")
    letters = [seeding.dead_letter(world.topic(EVENTS.name), 0, offset, now_ms(), b"{") for offset in range(5)]
    seeding.insert(client, "dead_letters", letters)
    client.close()
    line = examined(world)["dead letters"]
    assert (line.ok, "not_json 5" in line.text) == (False, True)


def test_the_command_says_ok_or_what_to_do(world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"], report["lines"][0]["name"]) == (1, False, "settings")


def test_settings_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERWATCH_NO_SUCH", "1")
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["lines"]) == (
        1,
        [{"name": "settings", "ok": False, "text": "INFERWATCH_NO_SUCH: no such setting"}],
    )
