"""What integration tests stand on: one Kafka and one ClickHouse for the session, a world of its own for each test.

    def test_it(world: Settings, kafka: Server, clickhouse: Server) -> None: ...

`world`: settings with topics created and the database migrated, shared with no other test. `kafka` and `clickhouse`
may be killed, frozen and stopped by a test; they are revived before the next one.
"""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from pipeline.config import Settings
from pipeline.edge.kafka.client import admin
from schemas.topics import TOPICS
from tests.asked_once import create_topics
from tests.integration.engines import (
    Container,
    Engines,
    Server,
    container_engines,
    docker_answers,
    embedded_engines,
    world_settings,
)
from tests.integration.image import Installed, installed
from tests.integration.outside import connect, ensure_users, migrate

# Children inherit what we ignore, and behind nohup or in a shell's background these are: the tests send them.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both servers, for the whole session."""
    directory = tmp_path_factory.mktemp("engines")
    running = container_engines() if docker_answers() else embedded_engines(directory)
    yield running
    for server in (running.clickhouse, running.kafka):
        if isinstance(server, Container):
            server.remove()
        else:
            server.kill9()  # nobody needs its data any more
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def installed_image() -> Iterator[Installed]:
    """What deploy/Dockerfile installs, in a folder; made once, in half a minute."""
    with installed() as made:
        yield made


@pytest.fixture
def kafka(engines: Engines) -> Server:
    """The broker; break it as you like."""
    engines.revive()
    return engines.kafka


@pytest.fixture
def clickhouse(engines: Engines) -> Server:
    """ClickHouse; break it as you like."""
    engines.revive()
    return engines.clickhouse


@pytest.fixture
def world(engines: Engines) -> Iterator[Settings]:
    """Settings of this test's own world: topics created, database migrated; removed afterwards."""
    engines.revive()
    settings = world_settings(engines)
    asyncio.run(create_topics(settings))
    migrate(settings)
    if engines.users_by_sql:
        ensure_users(settings)
    yield settings
    engines.revive()
    asyncio.run(_delete_topics(settings))
    with closing(connect(settings, "admin", database="default")) as client:
        client.command(f"DROP DATABASE {settings.clickhouse_database}")


async def _delete_topics(settings: Settings) -> None:
    async with admin(settings) as client:
        there = set(await client.list_topics())
        await client.delete_topics([name for t in TOPICS if (name := settings.topic(t.name)) in there])
