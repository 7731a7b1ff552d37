"""The real Kafka and ClickHouse under the integration tests: containers where a Docker engine answers, else embedded.

TEST_ENGINES=embedded or TEST_ENGINES=containers decides it by hand.
"""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

from pipeline.config import Settings, load
from pipeline.edge.local.clickhouse import Passwords
from pipeline.edge.local.kafka import live_brokers
from pipeline.edge.local.layout import SERVER_PORTS, servers, settings_for
from pipeline.edge.local.ports import HOST, free_port, free_ports
from pipeline.edge.store.client import ClickHouseUnavailable
from tests.integration.outside import connect

KAFKA_IMAGE = "apache/kafka:4.4.0"
CLICKHOUSE_IMAGE = "clickhouse/clickhouse-server:26.9"
DEPLOYED = Path(__file__).parents[2] / "deploy" / "clickhouse" / "config.d" / "inferwatch.xml"
# Of the tests, each world the next one: row policies of the embedded server know only whole names.
DATABASES = [f"iw_world_{number}" for number in range(16)]
OTHER_DATABASES = "iw_*"  # what a test makes beside
_next_database = cycle(DATABASES)


class Server(Protocol):
    """A server that a test may break. It comes back on the same port, with the same data."""

    @property
    def alive(self) -> bool:
        """Does its process run?"""

    def start(self, timeout_s: float = 60) -> None:
        """Starts it (again) and waits until it answers."""

    def stop(self) -> bool:
        """Stops it in order."""

    def kill9(self) -> None:
        """Ends it at once."""

    def pause(self) -> None:
        """Freezes it: connections stay open, nothing is answered."""

    def resume(self) -> None:
        """Lets it go on."""


class Container:
    """A Server in a container."""

    def __init__(self, container: Any, answers: Callable[[], bool]) -> None:
        self._container, self._answers, self._started = container, answers, False

    @property
    def _docker(self) -> Any:
        return self._container.get_wrapped_container()

    @property
    def alive(self) -> bool:
        if not self._started:
            return False
        self._docker.reload()
        return str(self._docker.status) in ("running", "paused")

    def start(self, timeout_s: float = 60) -> None:
        if self._started:
            self._docker.start()
        else:
            self._container.start()
            self._started = True
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            assert time.monotonic() < deadline, f"{self._container.image} does not answer"
            time.sleep(0.1)

    def stop(self) -> bool:
        self._docker.stop(timeout=15)
        return True

    def kill9(self) -> None:
        self._docker.kill()
        self._docker.wait()

    def pause(self) -> None:
        self._docker.pause()

    def resume(self) -> None:
        self._docker.reload()
        if self._docker.status == "paused":
            self._docker.unpause()

    def remove(self) -> None:
        """Ends it for good."""
        self._container.stop()


@dataclass(frozen=True)
class Engines:
    """Both servers, and settings that reach them. `users_by_sql`: the server's own users are made by the migrations."""

    kafka: Server
    clickhouse: Server
    settings: Settings
    users_by_sql: bool

    def revive(self) -> None:
        """Both run again, whatever the last test did to them."""
        for server in (self.kafka, self.clickhouse):
            if server.alive:
                server.resume()
            else:
                server.start()


def embedded_engines(directory: Path) -> Engines:
    """The embedded servers, started in `directory`."""
    ports = dict(zip(SERVER_PORTS, free_ports(len(SERVER_PORTS)), strict=True))
    passwords = Passwords(*(secrets.token_urlsafe(12) for _ in range(4)))
    kafka, clickhouse = servers(directory, ports, passwords, [*DATABASES, OTHER_DATABASES])
    kafka.prepare()
    kafka.spawn()  # ClickHouse starts while it does
    clickhouse.start()
    kafka.wait_ready()
    settings = settings_for(load({}), kafka.bootstrap, clickhouse.url, passwords)
    return Engines(kafka, clickhouse, settings, users_by_sql=False)


def container_engines() -> Engines:
    """The servers' own images. Ports are fixed, so that a restarted container has the same address."""
    from testcontainers.core.container import DockerContainer

    kafka_port, http_port = free_ports(2)
    passwords = Passwords(*(secrets.token_urlsafe(12) for _ in range(4)))
    settings = settings_for(load({}), f"{HOST}:{kafka_port}", f"http://{HOST}:{http_port}", passwords)
    kafka = DockerContainer(KAFKA_IMAGE).with_bind_ports(kafka_port, kafka_port)
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "LISTENERS": f"PLAINTEXT://:{kafka_port},CONTROLLER://:29093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{kafka_port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "8",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }.items():
        kafka.with_env(f"KAFKA_{name}", value)
    clickhouse = (
        DockerContainer(CLICKHOUSE_IMAGE)
        .with_bind_ports(8123, http_port)
        .with_env("CLICKHOUSE_USER", "admin")
        .with_env("CLICKHOUSE_PASSWORD", passwords.admin)
        .with_env("CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT", "1")
        .with_volume_mapping(str(DEPLOYED), "/etc/clickhouse-server/config.d/inferwatch.xml", "ro")
    )
    engines = Engines(
        Container(kafka, lambda: _kafka_answers(kafka_port)),
        Container(clickhouse, lambda: _clickhouse_answers(settings)),
        settings,
        users_by_sql=True,
    )
    engines.kafka.start(300)  # the first time with a download
    engines.clickhouse.start(300)
    return engines


def docker_answers() -> bool:
    """Is there a Docker engine, and testcontainers to use it?"""
    if (told := os.environ.get("TEST_ENGINES", "")) in ("embedded", "containers"):
        return told == "containers"
    try:
        import docker  # type: ignore[import-untyped]
        import testcontainers.core.container  # noqa: F401
    except ImportError:
        return False
    try:
        docker.from_env(timeout=3).ping()
    except (docker.errors.DockerException, OSError):
        return False
    return True


def world_settings(engines: Engines) -> Settings:
    """Settings that share nothing with another test's: own topics, groups, database and web port."""
    mark = secrets.token_hex(4)
    return engines.settings.model_copy(
        update={
            "topic_prefix": f"{mark}.",
            "group_prefix": f"iw-{mark}",
            "clickhouse_database": next(_next_database),
            "session_timeout_ms": 6000,
            "web_port": free_port(),
        }
    )


def _kafka_answers(port: int) -> bool:
    try:
        return bool(live_brokers(port))
    except (OSError, ValueError):
        return False


def _clickhouse_answers(settings: Settings) -> bool:
    try:
        connect(settings, "admin", database="default").close()
    except ClickHouseUnavailable:
        return False
    return True
