"""The services of docker-compose.yml find one another, do their work, and end in order."""

import asyncio
import http.client
import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from pipeline.config import Settings, load
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import client_options
from pipeline.edge.local.ports import HOST
from pipeline.edge.store.users import statements_for_users
from schemas.topics import EVENTS
from tests.integration.composition import Composition, composition
from tests.integration.image import Installed
from tests.integration.outside import ask, connect
from tests.integration.workers import eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def everything(installed_image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """All services, as `docker compose --profile "*" up` starts them."""
    with composition(tmp_path_factory.mktemp("compose"), installed_image) as running:
        yield running


@pytest.fixture
def composed(everything: Composition) -> Iterator[Composition]:
    """The same; none of them may end by itself meanwhile."""
    everything.check()
    yield everything
    if not everything.stopped:
        everything.check()


@pytest.fixture
def settings(composed: Composition) -> Settings:
    """As `tables` has them, and Kafka as a program on this machine finds it."""
    environ = composed.environment(composed.services["tables"])
    return load(environ | {"INFERWATCH_KAFKA_BOOTSTRAP": f"{HOST}:{composed.kafka_ports[9092]}"})


def test_every_service_is_healthy_by_its_own_check(composed: Composition) -> None:
    checked = [service for service in composed.services.values() if service.health]
    assert {"kafka", "clickhouse", "aggregator", "recorder", "detector", "notifier", "web"} <= {s.name for s in checked}
    assert {s.name: composed.healthy(s) for s in checked} == {s.name: True for s in checked}


def test_an_event_goes_in_and_its_row_comes_out(composed: Composition, settings: Settings) -> None:
    """In by the port for this machine's programs, out with the rights and the password that Grafana has."""
    event_id = uuid.uuid4().hex
    event = {
        "event_id": event_id,
        "event_time_ms": now_ms(),
        "workspace": "compose",
        "model_id": "helmets/3",
        "device_id": "cam-7",
        "latency_ms": 43.2,
        "predictions": [{"class": "person", "confidence": 0.91}],
    }

    async def publish() -> None:
        async with AIOKafkaProducer(**client_options(settings)) as producer:
            await producer.send_and_wait(EVENTS.name, orjson.dumps(event), key=b"cam-7")

    asyncio.run(publish())
    client = connect(settings, "reader")
    try:
        rows = "SELECT model_id, latency_ms FROM inference_details WHERE event_id = {id:String}"
        eventually(lambda: bool(ask(client, rows, {"id": event_id})), 30, "the row", lambda: composed.said("recorder"))
        assert ask(client, rows, {"id": event_id}) == [("helmets/3", 43.2)]
        windows = "SELECT sum(inference_count) FROM model_windows_1h WHERE workspace = 'compose'"
        eventually(lambda: ask(client, windows) == [(1,)], 60, "the window", lambda: composed.said("aggregator"))
        synthetic = "SELECT uniqExact(model_id) FROM inferences WHERE workspace = 'default'"
        eventually(lambda: ask(client, synthetic) == [(4,)], 30, "the producer's", lambda: composed.said("producer"))
    finally:
        client.close()


def test_a_key_is_made_and_an_event_goes_in_over_http(composed: Composition) -> None:
    web = composed.services["web"]
    made = composed.run(web, ["keys", "create", "tests", "--workspace", "compose", "--json"])
    key = orjson.loads(made)["api_key"]
    connection = http.client.HTTPConnection(HOST, composed.ports["web"], timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def taken() -> bool:  # a second or two after it was made
        connection.request("POST", "/v1/compose/events", b'{"model_id":"by http"}', headers)
        return connection.getresponse().read() == b'{"accepted":1,"results":[]}'

    eventually(taken, 20, "the key is known", lambda: composed.said("web"))
    connection.close()


def test_the_admin_may_do_everything_and_nobody_comes_in_without_a_password(
    composed: Composition, settings: Settings
) -> None:
    client = connect(settings, "admin")
    try:
        assert ask(client, "SELECT currentUser()") == [("admin",)]
        [(rights,)] = ask(client, "SELECT count() FROM system.grants WHERE user_name = 'admin' AND grant_option")
        assert rights > 0
        client.command("SYSTEM FLUSH LOGS")
        [(engine,)] = ask(client, "SELECT engine_full FROM system.tables WHERE name = 'query_log'")
        assert "toIntervalDay(7)" in engine
    finally:
        client.close()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{settings.clickhouse_url}/?query=SELECT%201", timeout=5)


def test_the_sql_that_makes_the_users_is_what_clickhouse_understands(settings: Settings) -> None:
    """The embedded engine parses it, but has no place to keep users: on a real ClickHouse it has not been run here."""
    statements, report = statements_for_users(settings)
    assert [line.split(":")[0] for line in report] == ["writer", "reader", "query"]
    client = connect(settings, "admin")
    try:
        for statement in statements:
            [(formatted,)] = ask(client, "SELECT formatQuerySingleLine({sql:String})", {"sql": statement})
            assert formatted.split()[0] in ("CREATE", "ALTER", "GRANT")
    finally:
        client.close()


def prometheus_says(composed: Composition, path: str) -> Any:
    with urllib.request.urlopen(f"http://{HOST}:{composed.ports['prometheus']}/api/v1/{path}", timeout=5) as answer:
        return json.load(answer)["data"]


def test_prometheus_sees_every_worker_and_finds_its_alertmanager(composed: Composition) -> None:
    if not {"prometheus", "alertmanager"} <= composed.services.keys():
        pytest.skip("no Prometheus here: install the Debian packages prometheus and prometheus-alertmanager")

    def workers() -> dict[str, str]:
        targets = prometheus_says(composed, "targets")["activeTargets"]
        return {t["labels"]["role"]: t["health"] for t in targets if t["labels"]["job"] == "inferwatch"}

    up = dict.fromkeys(composed.worker_names, "up")
    eventually(lambda: workers() == up, 30, "all targets are up", lambda: (workers(), composed.said("prometheus")))
    assert prometheus_says(composed, "rules")["groups"]
    [alertmanager] = prometheus_says(composed, "alertmanagers")["activeAlertmanagers"]
    assert f":{composed.ports['alertmanager']}/" in alertmanager["url"]


def test_grafana_runs_too(composed: Composition) -> None:
    pytest.skip("Grafana is neither in Debian nor on a package registry: its service was not run")


def test_all_end_in_order(composed: Composition) -> None:
    """The last of this module: workers first, then what they need."""
    codes = composed.stop()
    ours = {name: 0 for name, service in composed.services.items() if service.is_ours and not service.runs_once}
    assert {name: codes[name] for name in ours} == ours
    assert None not in codes.values()
