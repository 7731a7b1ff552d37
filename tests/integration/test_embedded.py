"""The embedded servers themselves: what a second `up` finds, what a killed one leaves, who may do what."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.edge.kafka.client import client_options
from pipeline.edge.store.client import ClickHouseUnavailable
from schemas.topics import AGGREGATES
from tests.integration.engines import Engines, Server
from tests.integration.outside import connect
from tests.integration.up import UP, gone, running, wait_until

pytestmark = pytest.mark.integration


async def send(settings: Settings, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(**client_options(settings), max_request_size=4_000_000) as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def first_record(settings: Settings, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(
        topic, **client_options(settings), auto_offset_reset="earliest", fetch_max_bytes=8_000_000
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), 20)
        value: bytes | None = record.value
        return value


def ask(settings: Settings, role: Any, sql: str) -> Any:
    with closing(connect(settings, role)) as client:
        return client.command(sql)


def test_a_second_up_finds_everything_again_and_a_killed_one_leaves_no_orphan(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    topic = AGGREGATES.name
    with running(directory) as up:
        first = up.endpoints
        assert stat.S_IMODE(up.file.stat().st_mode) == 0o600
        assert first.keys() == {
            *("kafka", "clickhouse", "reader", "web", "workspace", "api_key", "pids", "workers", "settings")
        }
        settings = up.settings(directory)
        ask(settings, "admin", "CREATE TABLE mine (n UInt32) ENGINE = MergeTree ORDER BY n")
        ask(settings, "writer", "INSERT INTO mine VALUES (7)")
        asyncio.run(send(settings, topic, b"x" * 3_900_000))
        second_one = subprocess.run(
            [sys.executable, "-c", UP, "--data-dir", str(directory)], capture_output=True, text=True, check=False
        )
        assert f"data directory already in use by pid {up.process.pid}" in second_one.stderr
        up.process.kill()
        up.process.wait()
        wait_until(lambda: all(map(gone, first["pids"].values())), "no orphan is left", 10)
    with running(directory) as up:
        assert {**up.endpoints, "pids": {}} == {**first, "pids": {}}  # same ports, users and passwords
        assert ask(settings, "reader", "SELECT n FROM mine") == 7
        assert asyncio.run(first_record(settings, topic)) == b"x" * 3_900_000

        pids = up.endpoints["pids"]
        os.kill(pids["clickhouse"], signal.SIGKILL)
        wait_until(lambda: up.endpoints["pids"]["clickhouse"] != pids["clickhouse"], "ClickHouse is started again")
        wait_until(lambda: answers(settings), "and answers")
        assert ask(settings, "reader", "SELECT n FROM mine") == 7

        pids = up.endpoints["pids"]
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(40) == 0
        assert all(map(gone, pids.values()))
        assert not up.file.exists()


def answers(settings: Settings) -> bool:
    try:
        connect(settings, "reader").close()
    except ClickHouseUnavailable:
        return False
    return True


def test_users_may_do_what_their_names_say_and_no_more(world: Settings, engines: Engines) -> None:
    ask(world, "admin", "CREATE TABLE mine (n UInt32) ENGINE = MergeTree ORDER BY n")
    ask(world, "writer", "INSERT INTO mine VALUES (1)")
    assert ask(world, "reader", "SELECT count() FROM mine") == 1
    for role, sql in [
        ("reader", "INSERT INTO mine VALUES (2)"),
        ("reader", "SELECT 1 SETTINGS max_memory_usage = 0"),
        ("reader", "SELECT 1 SETTINGS max_execution_time = 0"),
        ("reader", "SELECT * FROM file('/etc/hostname', 'LineAsString')"),
        ("writer", "DROP TABLE mine"),
        ("writer", "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')"),
    ]:
        with pytest.raises(ClickHouseError):
            ask(world, role, sql)
    for nobody in (
        {"clickhouse_user": "default", "clickhouse_password": SecretStr("")},
        {"clickhouse_user": "nobody"},
    ):
        with pytest.raises(ClickHouseUnavailable):
            connect(world.model_copy(update=nobody), "writer", database="default")


def test_servers_that_were_killed_frozen_or_stopped_come_back_with_their_data(
    world: Settings, kafka: Server, clickhouse: Server
) -> None:
    topic = world.topic(AGGREGATES.name)
    ask(world, "admin", "CREATE TABLE mine (n UInt32) ENGINE = MergeTree ORDER BY n")
    ask(world, "writer", "INSERT INTO mine VALUES (7)")
    asyncio.run(send(world, topic, b"kept"))
    for server in (kafka, clickhouse):
        server.kill9()
        assert not server.alive
        server.start()
        server.pause()
        server.resume()
    assert asyncio.run(first_record(world, topic)) == b"kept"
    assert ask(world, "reader", "SELECT n FROM mine") == 7
    clickhouse.stop()
    assert not answers(world)
    clickhouse.start()
    assert answers(world)
