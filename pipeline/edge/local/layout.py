"""What `inferwatch up` remembers in its data directory: the ports it chose and the passwords it made.

DIR/lock, ports.json, secrets.json, endpoints.json, kafka/, clickhouse/, logs/.
"""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipeline.config import PREFIX, ConfigError, Settings, load, to_environ
from pipeline.edge.local import EmbeddedError
from pipeline.edge.local.clickhouse import EmbeddedClickHouse, Passwords
from pipeline.edge.local.directory import is_held, read_json, write_private_json
from pipeline.edge.local.kafka import EmbeddedKafka
from pipeline.edge.local.ports import free_port, is_free
from schemas.roles import WEB

WEB_PORT = 8080  # of the HTTP side, where it is free
SERVER_PORTS = ("kafka", "kafka_controller", "clickhouse_http", "clickhouse_native")
OPTIONS = {
    "kafka": "--kafka-port",
    "clickhouse_http": "--clickhouse-port",
    "clickhouse_native": "--clickhouse-native-port",
    WEB: "--web-port",
}
ENDPOINTS = "endpoints.json"  # there while everything runs
_OF_THE_PROCESS = tuple(PREFIX + field for field in ("WEB_", "LOG_"))
WORKER_OPTION = "--web-port-base"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """The passwords of ClickHouse's users, the key of the API, and what signs sessions."""

    passwords: Passwords
    api_key: str
    session_key: str


def chosen_ports(directory: Path, names: Sequence[str], told: Mapping[str, int]) -> dict[str, int]:
    """A port for each name: the one told, else the one of last time if it is free, else a free one.

    Remembers them. Raises EmbeddedError when one told is in use.
    """
    file = directory / "ports.json"
    stored = read_json(file)
    ports: dict[str, int] = {}
    for name in names:
        if (port := told.get(name)) is None:
            continue
        option = OPTIONS.get(name, WORKER_OPTION)
        if port in ports.values():
            raise EmbeddedError(f"port {port} ({option}) is asked for twice; give each server its own")
        if not is_free(port):
            raise EmbeddedError(
                f"port {port} ({option}) is in use; stop what uses it, or choose another port with {option}"
            )
        ports[name] = port
    for name in names:
        if name not in ports:
            last = stored.get(name, WEB_PORT if name == WEB else None)
            usable = isinstance(last, int) and last not in ports.values() and is_free(last)
            ports[name] = last if isinstance(last, int) and usable else free_port(ports.values())
    if stored | ports != stored:
        write_private_json(file, stored | ports)
    return ports


def kept_secrets(directory: Path) -> Secrets:
    """The secrets of this directory; made at random the first time."""
    file = directory / "secrets.json"
    stored = read_json(file)
    names = ("admin", "writer", "reader", "query", "api_key", "session_key")
    wanted = {name: stored.get(name) or secrets.token_urlsafe(24) for name in names}
    if stored | wanted != stored:
        write_private_json(file, stored | wanted)
    api_key, session_key = wanted.pop("api_key"), wanted.pop("session_key")
    return Secrets(Passwords(**wanted), api_key, session_key)


def servers(
    directory: Path, ports: Mapping[str, int], passwords: Passwords, databases: Sequence[str]
) -> tuple[EmbeddedKafka, EmbeddedClickHouse]:
    """The two servers of a data directory, not started."""
    logs = directory / "logs"
    kafka = EmbeddedKafka(directory / "kafka", ports["kafka"], controller_port=ports["kafka_controller"], logs=logs)
    clickhouse = EmbeddedClickHouse(
        directory / "clickhouse",
        ports["clickhouse_http"],
        native_port=ports["clickhouse_native"],
        passwords=passwords,
        databases=databases,
        logs=logs,
    )
    return kafka, clickhouse


def settings_for(base: Settings, bootstrap: str, url: str, passwords: Passwords) -> Settings:
    """`base`, pointed at a Kafka and a ClickHouse of our own."""
    return base.model_copy(
        update={
            "kafka_bootstrap": bootstrap,
            "kafka_security_protocol": "PLAINTEXT",
            "topic_replication": 1,
            "clickhouse_url": url,
            "clickhouse_user": "writer",
            "clickhouse_password": SecretStr(passwords.writer),
            "clickhouse_admin_user": "admin",
            "clickhouse_admin_password": SecretStr(passwords.admin),
            "clickhouse_reader_user": "reader",
            "clickhouse_reader_password": SecretStr(passwords.reader),
            "clickhouse_query_user": "query",
            "clickhouse_query_password": SecretStr(passwords.query),
        }
    )


def web_settings(base: Settings, directory: Path, secrets: Secrets) -> Settings:
    """`base` with what the HTTP side in a directory is told besides."""
    return base.model_copy(
        update={
            "web_api_key": SecretStr(secrets.api_key),
            "web_session_key": SecretStr(secrets.session_key),
            "web_once_links": True,
            "web_metrics_open": True,  # on 127.0.0.1
            "web_spool_dir": directory / "spool",
            "images_url": base.images_url or str(directory / "images"),
        }
    )


def running_settings(directory: Path, base: Settings) -> Settings:
    """`base`, pointed at the `up` that runs in a directory, and with what that one was started with.

    Raises EmbeddedError when none runs there.
    """
    found = _running(directory)
    try:
        told = load(found["settings"])
        same = base.model_copy(update={field: getattr(told, field) for field in told.model_fields_set})
        return settings_for(same, found["kafka"], found["clickhouse"]["http"], kept_secrets(directory).passwords)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise EmbeddedError(
            f"{directory / ENDPOINTS} is of another version ({error!r}); restart inferwatch up"
        ) from error


def running_web(directory: Path) -> str:
    """The address of the HTTP side that runs in a directory. Raises EmbeddedError when none does."""
    web = _running(directory).get("web")
    if not isinstance(web, str):
        raise EmbeddedError(f"inferwatch up runs in {directory} without its HTTP side")
    return web


def _running(directory: Path) -> dict[str, Any]:
    found = read_json(directory / ENDPOINTS) if is_held(directory) else {}
    if not found:
        start = f"inferwatch up --data-dir {shlex.quote(str(directory))}"
        raise EmbeddedError(f"no inferwatch up is ready in {directory}; start it: {start}")
    return found


def is_up(directory: Path) -> bool:
    """Does an `up` run there, and is it ready?"""
    return is_held(directory) and (directory / ENDPOINTS).exists()


def _told(settings: Settings) -> dict[str, str]:
    """What an `up` was given, as INFERWATCH_* variables: what differs from the defaults and is no secret."""
    secret = {PREFIX + field.upper() for field, value in settings if isinstance(value, SecretStr)}
    default = to_environ(load({}))
    given = {name: text for name, text in to_environ(settings).items() if text != default[name] and name not in secret}
    return {name: text for name, text in given.items() if not name.startswith(_OF_THE_PROCESS)}


def endpoints(
    settings: Settings, web: str | None, api_key: str, pids: Mapping[str, int], metrics: Mapping[str, str]
) -> dict[str, Any]:
    """What endpoints.json holds. `web`: the address of the HTTP side, `api_key`: one that may everything there."""

    def login(user: str, password: SecretStr) -> dict[str, str]:
        return {
            "http": settings.clickhouse_url,
            "user": user,
            "password": password.get_secret_value(),
            "database": settings.clickhouse_database,
        }

    return {
        "kafka": settings.kafka_bootstrap,
        "clickhouse": login(settings.clickhouse_admin_user, settings.clickhouse_admin_password),
        "reader": login(settings.clickhouse_reader_user, settings.clickhouse_reader_password),
        "web": web,
        "workspace": settings.workspace,
        "api_key": api_key,
        "pids": dict(pids),
        "workers": {role: {"metrics": url} for role, url in metrics.items()},
        "settings": _told(settings),
    }
