"""Image, compose file, Prometheus' and Grafana's files say what the code says: roles, ports, names, versions."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from agents.main import RoleName
from deploy.grafana.sql import CLICKHOUSE_TYPE, PLUGIN_VERSION
from pipeline.cli.app import VERBS
from pipeline.cli.up import PROCESSES, ROLES
from pipeline.config import CONFIG_FILE, PREFIX, Settings, load, to_environ
from pipeline.edge import metrics
from pipeline.edge.local.jars import locked_jars
from pipeline.edge.local.kafka import _PROPERTIES
from pipeline.edge.store.migrations import known_migrations
from schemas.topics import TOPICS
from tests.deployment import COMPOSE_FILE, ROOT, image, services
from tests.integration.engines import CLICKHOUSE_IMAGE, KAFKA_IMAGE
from tests.tree import tracked_files

DEPLOY = ROOT / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
PROVISIONING = sorted((DEPLOY / "grafana" / "provisioning").rglob("*.y*ml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = {name: service for name, service in services().items() if service.is_ours}
WEB_PORT = Settings.model_fields["web_port"].default


def deployed() -> Iterator[tuple[Path, str]]:
    """Every text file of the deployment."""
    yield from ((path, path.read_text()) for path in (COMPOSE_FILE, ROOT / ".env"))
    yield from ((path, path.read_text()) for path in tracked_files() if path.is_relative_to(DEPLOY))


def strings(value: Any, key: str) -> Iterator[str]:
    """Every text that stands under `key`, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from strings(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, key)


def test_nothing_is_missing() -> None:
    assert len(RULES) >= 2
    assert len(DASHBOARDS) >= 6
    assert PROVISIONING


# Roles and ports


def test_every_role_is_a_service_of_its_name() -> None:
    workers = {name: service.command[1:] for name, service in OURS.items() if service.command[0] == "worker"}
    assert workers == {role: [role] for role in ROLES}
    assert tuple(RoleName) == ROLES


def test_prometheus_asks_every_role_at_the_port_of_the_settings() -> None:
    [job] = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "inferwatch"]
    [lookup] = job["dns_sd_configs"]
    assert (tuple(lookup["names"]), lookup["port"]) == (PROCESSES, WEB_PORT)
    assert job.get("metrics_path", "/metrics") == "/metrics"


def test_rules_and_dashboards_name_no_other_role() -> None:
    texts = {path.name: path.read_text() for path in (*RULES, *DASHBOARDS)}
    named = {role for text in texts.values() for role in re.findall(r'\brole=\\?"(\w+)\\?"', text)}
    assert named <= set(ROLES)


def test_the_image_serves_its_pages_at_the_port_of_the_settings() -> None:
    assert image().texts("EXPOSE") == [str(WEB_PORT)]
    assert f"or {WEB_PORT})" in image().health[-1]
    assert "'/healthz'" in image().health[-1]
    assert image().environment[PREFIX + "WEB_HOST"] == "0.0.0.0"


def test_services_are_reached_where_they_listen() -> None:
    """A host name with a port, wherever it stands, is a service that has this port."""
    listening = {
        "kafka": set(re.findall(r"://:(\d+)", services()["kafka"].environment["KAFKA_LISTENERS"])),
        "clickhouse": {"8123", "9000"},
        "prometheus": {"9090"},
        "alertmanager": {"9093"},
        "grafana": {"3000"},
    } | {name: {str(WEB_PORT)} for name in PROCESSES}
    assert listening.keys() == services().keys() - {"topics", "tables", "producer"}
    found = {
        (path.name, *address)
        for path, text in deployed()
        for address in re.findall(rf"(?<![a-z]/)\b({'|'.join(listening)}):(\d+)\b", text)  # no image
    }
    assert [one for one in found if one[2] not in listening[one[1]]] == []
    assert {host for _, host, _ in found} >= {"kafka", "clickhouse", "alertmanager"}


# Settings and commands


def test_every_setting_that_is_named_exists() -> None:
    known = to_environ(Settings()).keys() | {CONFIG_FILE}
    named = {
        (path.name, name) for path, text in deployed() for name in re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]", text)
    }
    assert named
    assert [one for one in named if one[1] not in known] == []


@pytest.mark.parametrize("name", OURS)
def test_a_services_environment_is_one_that_can_be_used(name: str) -> None:
    settings = load(image().environment | OURS[name].environment)
    assert settings.kafka_bootstrap == "kafka:19092" or name == "tables"


@pytest.mark.parametrize("name", OURS)
def test_a_services_command_is_a_verb(name: str) -> None:
    assert OURS[name].command[0] in {*VERBS, "worker"}


def test_grafana_comes_in_as_the_reader() -> None:
    tables = services()["tables"].environment
    sources = [source for path in PROVISIONING for source in yaml.safe_load(path.read_text()).get("datasources") or []]
    [source] = [source for source in sources if source["type"] == CLICKHOUSE_TYPE]
    grafana = services()["grafana"].environment

    def given(text: object) -> str:
        return re.sub(r"\$\{?(\w+)\}?", lambda found: grafana[found[1]], str(text))

    data = source["jsonData"]
    assert given(data["username"]) == tables["INFERWATCH_CLICKHOUSE_READER_USER"]
    assert given(source["secureJsonData"]["password"]) == tables["INFERWATCH_CLICKHOUSE_READER_PASSWORD"]
    assert given(data["defaultDatabase"]) == Settings().clickhouse_database
    assert [given(data[name]) for name in ("host", "port", "protocol")] == ["clickhouse", "8123", "http"]
    assert data["version"] == PLUGIN_VERSION


# Versions


def test_one_kafka() -> None:
    [jar] = [jar for jar in locked_jars() if jar.coordinates.startswith("org.apache.kafka:kafka_2.13:")]
    assert services()["kafka"].says["image"] == KAFKA_IMAGE == f"apache/kafka:{jar.coordinates.split(':')[-1]}"


def test_one_clickhouse() -> None:
    """The image's branch is that of the embedded engine."""
    branch = ".".join(version("chdb-core").split(".")[:2])
    assert services()["clickhouse"].says["image"] == CLICKHOUSE_IMAGE == f"clickhouse/clickhouse-server:{branch}"


def test_one_version_of_ours() -> None:
    ours = PROJECT["project"]["version"]
    assert dict(text.split("=") for text in image().texts("ARG"))["VERSION"] == ours
    assert {service.says["image"] for service in OURS.values()} == {f"inferwatch:{ours}"}


def test_one_python() -> None:
    """The image has the oldest Python that we support, which is the one that mypy and the tests know best."""
    python = image().arguments["PYTHON"]
    assert re.fullmatch(rf"{re.escape(PROJECT['tool']['mypy']['python_version'])}\.\d+-slim-\w+", python)
    assert all("${PYTHON}" in text for stage in range(len(image().stages)) for text in image().texts("FROM", stage))


def test_grafana_and_its_plugin_are_new_enough_for_the_dashboards() -> None:
    grafana = services()["grafana"]
    [sdk] = [r for r in PROJECT["project"]["optional-dependencies"]["dev"] if r.startswith("grafana-foundation-sdk")]
    written_for = sdk.rsplit("!", 1)[1].split(".")[:2]
    runs = str(grafana.says["image"]).split(":")[1].split(".")[:2]
    assert list(map(int, runs)) >= list(map(int, written_for))
    assert grafana.environment["GF_PLUGINS_PREINSTALL_SYNC"] == f"{CLICKHOUSE_TYPE}@{PLUGIN_VERSION}"


def test_kafka_takes_records_as_large_as_the_topics_do_and_no_topic_by_mistake() -> None:
    environment = services()["kafka"].environment
    embedded = dict(line.split("=", 1) for line in _PROPERTIES.splitlines() if not line.startswith("#"))
    same = ("auto.create.topics.enable", "message.max.bytes", "offsets.topic.num.partitions", "process.roles")
    for name in same:
        assert environment["KAFKA_" + name.upper().replace(".", "_")] == embedded[name]
    assert int(embedded["message.max.bytes"]) >= max(topic.record_bytes_max for topic in TOPICS)


# Names of topics, metrics, tables


def test_every_topic_that_is_named_exists() -> None:
    known = {topic.name for topic in TOPICS}
    named = {
        (path.name, name) for path, text in deployed() for name in re.findall(r"\binference\.[a-z][a-z-]+\b", text)
    }
    assert [one for one in named if one[1] not in known] == []


def samples() -> dict[str, set[str]]:
    """The names under which our metrics are scraped, with their labels."""
    ends = {
        "counter": ("_total", "_created"),
        "histogram": ("_bucket", "_sum", "_count", "_created"),
        "gauge": ("",),
        "info": ("_info",),
    }
    known: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            for end in ends[family.type]:
                known[family.name + end] = set(metric._labelnames)
    return known


def expressions() -> list[tuple[str, str]]:
    """Every expression for Prometheus, with its file."""
    texts = [(path.name, yaml.safe_load(path.read_text())) for path in (*RULES, *DASHBOARDS)]
    return [(name, expression) for name, value in texts for expression in strings(value, "expr")]


def test_every_metric_that_is_named_exists() -> None:
    known = samples().keys() | {name for path in RULES for name in strings(yaml.safe_load(path.read_text()), "record")}
    named = {
        (file, name)
        for file, text in expressions()
        for name in re.findall(r"(?<![\w:])inferwatch[\w:]*", re.sub(r'"[^"]*"', '""', text))
    }
    assert len({name for _, name in named}) >= 10
    assert [one for one in named if one[1] not in known] == []


def test_every_label_that_is_asked_for_exists() -> None:
    anybody = {"job", "instance", "role"}
    wrong = {
        (file, name, label)
        for file, text in expressions()
        for name, matchers in re.findall(r"\b(inferwatch_\w+)\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", re.sub(r'"[^"]*"', "", matchers))
        if label not in samples()[name] | anybody | ({"le"} if name.endswith("_bucket") else set())
    }
    assert wrong == set()


def tables() -> dict[str, str]:
    """Every table and view, with the SQL that makes it."""
    made: dict[str, str] = {}
    for migration in known_migrations():
        for statement in migration.statements(Settings()):
            if found := re.match(
                r"CREATE (?:OR REPLACE )?(?:MATERIALIZED )?(?:TABLE|VIEW) (?:IF NOT EXISTS )?(\w+)", statement
            ):
                made[found[1]] = statement
    return made


def queries() -> list[tuple[str, str]]:
    """Every SQL text of the dashboards and of Grafana's alert rules, with its file."""
    texts = [(path.name, json.loads(path.read_text())) for path in DASHBOARDS]
    texts += [(path.name, yaml.safe_load(path.read_text())) for path in PROVISIONING]
    keys = ("rawSql", "query", "definition")
    return [(name, sql) for name, value in texts for key in keys for sql in strings(value, key) if "SELECT" in sql]


def test_every_table_that_is_asked_exists() -> None:
    asked = {
        (name, table)
        for name, sql in queries()
        for table in re.findall(r"(?:\bFROM|(?<!ARRAY )\bJOIN)\s+([a-z_][\w.]*)", sql)
        if not re.search(rf"\b{re.escape(table)} AS \(", sql) and not table.startswith(("system.", "numbers"))
    }
    assert len({table for _, table in asked}) >= 5
    assert [one for one in asked if one[1] not in tables()] == []


def test_every_column_that_is_asked_for_exists() -> None:
    """Every name in the SQL that is no function, no alias and no variable stands in schemas/clickhouse.

    That each query gives what it should is seen on a real ClickHouse, in tests/integration.
    """
    known = {word for sql in tables().values() for word in re.findall(r"\w+", sql)}
    unknown = set()
    for name, sql in queries():
        if "system." in sql:
            continue
        bare = re.sub(r"--.*|'[^']*'|\"[^\"]*\"|\$\{[^}]*\}|\$\w+", " ", sql)  # no comments, texts, variables
        given = set(re.findall(r"\bAS (\w+)", bare)) | set(re.findall(r"\b(\w+) (?:->|=>)", bare))
        words = set(re.findall(r"(?<![\w.])[a-z_]\w*\b(?!\s*\()", bare))
        unknown |= {(name, word) for word in words - known - given}
    assert unknown == set()
