"""Every setting, read once: environment `INFERWATCH_*` over an optional TOML file over these defaults.

All mistakes are reported together, an unknown name is a mistake, and no secret is ever printed.
A secret NAME may also be given as NAME_FILE, the path of a file that holds it.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.core.alerting.ourselves import OurLimits
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.notifying.notifier import NotifierPolicy
from pipeline.core.notifying.routing import Defaults
from schemas.event import TimeLimits

PREFIX = "INFERWATCH_"
CONFIG_FILE = PREFIX + "CONFIG_FILE"


class ConfigError(Exception):
    """Settings that cannot be used; the text lists every mistake, one a line."""


class Settings(BaseSettings):
    """The settings of every process. The field `kafka_bootstrap` is INFERWATCH_KAFKA_BOOTSTRAP."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    # Kafka
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma-separated")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism, with a SASL_* protocol"
    )
    kafka_sasl_username: str = Field("", description="SASL user")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="SASL password")
    kafka_ssl_cafile: Path | None = Field(None, description="CA certificate(s), PEM; default: the system's")
    kafka_ssl_certfile: Path | None = Field(None, description="client certificate, PEM")
    kafka_ssl_keyfile: Path | None = Field(None, description="client key, PEM")
    topic_prefix: str = Field("", pattern=r"^[a-zA-Z0-9._-]*$", description="put before every topic name")
    topic_replication: int = Field(1, ge=1, le=32767, description="replicas of topics that we create; 3 in production")
    group_prefix: str = Field("inferwatch", min_length=1, description="consumer groups are PREFIX-ROLE")
    session_timeout_ms: int = Field(
        10_000, ge=6000, le=300_000, description="a silent worker loses its partitions after this"
    )

    # ClickHouse
    clickhouse_url: str = Field("http://127.0.0.1:8123", description="HTTP(S) address of ClickHouse")
    clickhouse_database: str = Field(
        "inferwatch", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="database of every table"
    )
    clickhouse_cluster: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="cluster on whose replicas migrations make the tables, replicated; default: one server",
    )
    clickhouse_user: str = Field("default", description="user that the workers insert as")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="its password")
    clickhouse_admin_user: str = Field("", description="user for migrations; default: clickhouse_user")
    clickhouse_admin_password: SecretStr = Field(SecretStr(""), description="its password")
    clickhouse_reader_user: str = Field("inferwatch_reader", description="user for Grafana and people")
    clickhouse_reader_password: SecretStr = Field(SecretStr(""), description="its password")
    clickhouse_ca_file: Path | None = Field(None, description="CA certificate(s) for https, PEM; default: the system's")
    clickhouse_insert_timeout_s: float = Field(
        30.0, gt=0, le=600, description="an insert without an answer by then has an unknown outcome"
    )

    # what is accepted, windows, cuts
    event_age_days_max: int = Field(30, ge=1, le=365, description="older events are refused")
    event_ahead_s_max: int = Field(60, ge=0, le=3600, description="events further in the future are refused")
    lateness_ms: int = Field(
        2000, ge=0, le=600_000, description="a window closes this long after its end, in the log's time"
    )
    cut_rows_max: int = Field(
        50_000, ge=1, le=500_000, description="the recorder cuts at this many records of one partition"
    )
    cut_age_ms: int = Field(400, ge=10, le=60_000, description="the recorder cuts records that waited this long")
    poll_ms: int = Field(100, ge=1, le=5000, description="pause between polls without a backlog")
    buffer_mb: int = Field(128, ge=8, le=65_536, description="raw records that one worker holds at most")
    stall_s: int = Field(300, ge=10, description="a worker with lag but no progress for this long ends itself")

    # alerting
    false_alarms_per_model_week: float = Field(
        1.0, gt=0, le=1000, description="false alarms of automatic detection that are acceptable"
    )
    dead_letter_share_max: float = Field(
        0.01, gt=0, lt=1, description="a larger share of refused events is an alert, from 20 of them on"
    )
    dead_letter_window_s: int = Field(300, ge=10, le=86_400, description="the time over which that share is taken")
    standstill_s: int = Field(
        60, ge=10, le=86_400, description="records that wait so long for an aggregator or a recorder are an alert"
    )

    # how long ClickHouse keeps what
    ttl_inferences_days: int = Field(30, ge=1, description="single inferences, metadata, heartbeats, dead letters")
    ttl_windows_days: int = Field(7, ge=1, description="10-second windows")
    ttl_windows_1m_days: int = Field(90, ge=1, description="1-minute windows")
    ttl_windows_1h_days: int = Field(730, ge=1, description="1-hour windows; 1-day windows are kept for ever")

    # heartbeats
    heartbeat_page_beats: int = Field(
        12, ge=5, le=1000, description="a device that missed so many beats is a page, whatever was learned of it"
    )
    heartbeat_learned: bool = Field(True, description="page earlier where a device's own longest gaps allow it")

    # who is told, and how
    notify_recipients: SecretStr = Field(
        SecretStr(""), description="recipients of alerts whose rule names nobody, separated by blanks"
    )
    watchdog_recipients: SecretStr = Field(
        SecretStr(""), description="a dead-man service: told every minute that inferwatch lives"
    )
    group_wait_s: float = Field(5.0, ge=0, le=3600, description="how long an alert waits for others of its cause")
    group_interval_s: float = Field(60.0, ge=1, le=86_400, description="between messages about one cause")
    repeat_interval_s: float = Field(14_400.0, ge=60, description="until an alert that still fires is told again")
    storm_max: int = Field(
        20, ge=1, le=1000, description="messages a minute to one recipient; what is more goes into one"
    )
    notify_give_up_s: float = Field(3600.0, ge=1, description="a notification is tried for so long")
    notify_networks: str = Field(
        "", description="networks (CIDR, comma-separated) that webhooks may reach although they are not public"
    )
    public_url: str = Field("", description="address of the console as people reach it, for links in messages")
    smtp_host: str = Field("", description="mail server")
    smtp_port: int = Field(587, ge=1, le=65_535, description="its port")
    smtp_security: Literal["starttls", "tls", "plain"] = Field("starttls", description="how to talk to it")
    smtp_user: str = Field("", description="user at the mail server; empty: no login")
    smtp_password: SecretStr = Field(SecretStr(""), description="its password")
    smtp_from: str = Field("inferwatch@localhost", min_length=1, description="sender of mail")
    smtp_ca_file: Path | None = Field(None, description="CA certificate(s) for it, PEM; default: the system's")
    alertmanager_url: str = Field("", description="address of the recipient alertmanager")
    pagerduty_key: SecretStr = Field(SecretStr(""), description="integration key of the recipient pagerduty:default")
    pagerduty_url: str = Field(
        "https://events.pagerduty.com/v2/enqueue", description="PagerDuty's Events API v2; other regions have their own"
    )
    webhook_secret: SecretStr = Field(SecretStr(""), description="signs webhooks (HMAC-SHA256); empty: no signature")

    # the process
    workspace: str = Field("default", min_length=1, max_length=256, description="workspace of demo and produce")
    web_host: str = Field("127.0.0.1", description="address that /metrics, /healthz and /readyz listen on")
    web_port: int = Field(6066, ge=1, le=65_535, description="their port")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, JSON elsewhere")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("clickhouse_url", "alertmanager_url", "pagerduty_url", "public_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # or raises
            raise ValueError("expected http://host:port or https://host:port")
        if parts.username or parts.password:
            raise ValueError("put no user and password into an address")
        return url.rstrip("/")

    @field_validator("notify_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for one in filter(None, map(str.strip, text.split(","))):
            ip_network(one)  # or raises
        return text

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands in: it has already put environment, files and defaults in order."""
        return (init_settings,)

    @property
    def time_limits(self) -> TimeLimits:
        """How far an event's time may lie from its record's."""
        return TimeLimits(age_ms_max=self.event_age_days_max * 86_400_000, ahead_ms_max=self.event_ahead_s_max * 1000)

    @property
    def heartbeat_policy(self) -> HeartbeatPolicy:
        """When a silence is a page."""
        return HeartbeatPolicy(page_beats=self.heartbeat_page_beats, learned=self.heartbeat_learned)

    @property
    def our_limits(self) -> OurLimits:
        """When we say that something is wrong with us."""
        return OurLimits(
            refused_share_max=self.dead_letter_share_max,
            refused_window_ms=self.dead_letter_window_s * 1000,
            standstill_ms=self.standstill_s * 1000,
        )

    @property
    def notifier_policy(self) -> NotifierPolicy:
        """How long to wait before people are told, and how often they are."""
        return NotifierPolicy(
            group_wait_ms=round(self.group_wait_s * 1000),
            group_interval_ms=round(self.group_interval_s * 1000),
            repeat_ms=round(self.repeat_interval_s * 1000),
            storm_max=self.storm_max,
        )

    @property
    def default_recipients(self) -> Defaults:
        """Who hears of what no rule sends to somebody."""
        return Defaults(
            recipients=self.notify_recipients.get_secret_value().split(),
            watchdog_recipients=self.watchdog_recipients.get_secret_value().split(),
        )

    def topic(self, name: str) -> str:
        """A topic's name on the broker."""
        return self.topic_prefix + name

    def group(self, role: str) -> str:
        """A role's consumer group."""
        return f"{self.group_prefix}-{role}"


def load(environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings: `overrides` over `environ` (default: the process's) over the file INFERWATCH_CONFIG_FILE.

    An empty text, wherever it stands, means "not given". Raises ConfigError with all mistakes, one a line.
    """
    environ = os.environ if environ is None else environ
    mistakes: list[str] = []
    given = _from_file(environ.get(CONFIG_FILE), mistakes)
    given |= _from_variables(environ, mistakes)
    given |= {field: _Given(value, field) for field, value in (overrides or {}).items()}
    try:
        settings = Settings(**{field: one.value for field, one in given.items() if one.value != ""})
    except ValidationError as invalid:
        for mistake in invalid.errors(include_input=False, include_url=False):
            field = str(mistake["loc"][0]) if mistake["loc"] else ""
            what = "no such setting" if mistake["type"] == "extra_forbidden" else mistake["msg"]
            mistakes.append(f"{given[field].name if field in given else field}: {what}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return settings


def to_environ(settings: Settings) -> dict[str, str]:
    """The settings as INFERWATCH_* variables, secrets included: what a child process is started with.

    Every variable is there, if need be empty, so that laid over any environment it gives these settings.
    """
    out = {CONFIG_FILE: ""}
    for field, value in settings:
        variable = PREFIX + field.upper()
        if isinstance(value, SecretStr):
            out[variable], out[variable + "_FILE"] = value.get_secret_value(), ""
        else:
            out[variable] = "" if value is None else str(value)
    return out


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and the name under which the user gave it."""

    value: Any
    name: str


def _from_file(path: str | None, mistakes: list[str]) -> dict[str, _Given]:
    if not path:
        return {}
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        mistakes.append(f"{CONFIG_FILE}: {error}")
        return {}
    return _with_secrets({field: _Given(value, f"{path}: {field}") for field, value in table.items()}, mistakes)


def _from_variables(environ: Mapping[str, str], mistakes: list[str]) -> dict[str, _Given]:
    given = {
        name.removeprefix(PREFIX).lower(): _Given(text, name)
        for name, text in environ.items()
        if name.startswith(PREFIX) and name != CONFIG_FILE and text != ""
    }
    return _with_secrets(given, mistakes)


def _with_secrets(given: dict[str, _Given], mistakes: list[str]) -> dict[str, _Given]:
    """What one source gives, with the secret itself in place of each secret_file."""
    out: dict[str, _Given] = {}
    for field, one in given.items():
        secret = field.removesuffix("_file")
        if secret == field or not _is_secret(secret) or one.value == "":
            out.setdefault(field, one)
        elif secret in given and given[secret].value != "":
            mistakes.append(f"{one.name}: {given[secret].name} is given too")
        else:
            try:
                out[secret] = _Given(Path(one.value).read_text(encoding="utf-8").rstrip("\r\n"), one.name)
            except (OSError, ValueError, TypeError) as error:
                mistakes.append(f"{one.name}: {error}")
    return out


def _is_secret(field: str) -> bool:
    info = Settings.model_fields.get(field)
    return info is not None and info.annotation is SecretStr
