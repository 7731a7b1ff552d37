"""The settings of each room, in a section of its own: names, limits, defaults, meanings, and what is made of them.

`Settings` (in loading.py) is all of them together, so a function says by its parameter which room's it reads.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from pipeline.core.alerting.ourselves import OurLimits
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.notifying.policy import NotifierPolicy
from pipeline.core.notifying.routing import Defaults
from schemas.event import TimeLimits


class Section(BaseModel):
    """Settings that belong together. A value never changes, and a name that is none is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """How Kafka is reached, and what topics and groups are called."""

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

    def topic(self, name: str) -> str:
        """A topic's name on the broker."""
        return self.topic_prefix + name

    def group(self, role: str) -> str:
        """A role's consumer group."""
        return f"{self.group_prefix}-{role}"


class StoreSettings(Section):
    """How ClickHouse is reached, as whom, and how long it keeps what."""

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
    clickhouse_query_user: str = Field(
        "inferwatch_query", description="user that the HTTP side asks as, in one workspace at a time"
    )
    clickhouse_query_password: SecretStr = Field(SecretStr(""), description="its password")
    clickhouse_ca_file: Path | None = Field(None, description="CA certificate(s) for https, PEM; default: the system's")
    clickhouse_insert_timeout_s: float = Field(
        30.0, gt=0, le=600, description="an insert without an answer by then has an unknown outcome"
    )
    ttl_inferences_days: int = Field(30, ge=1, description="single inferences, metadata, heartbeats, dead letters")
    ttl_windows_days: int = Field(7, ge=1, description="10-second windows")
    ttl_windows_1m_days: int = Field(90, ge=1, description="1-minute windows")
    ttl_windows_1h_days: int = Field(730, ge=1, description="1-hour windows; 1-day windows are kept for ever")

    @field_validator("clickhouse_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        return web_address(url)


class WorkerSettings(Section):
    """What workers accept, when they cut, and how much they hold."""

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

    @property
    def time_limits(self) -> TimeLimits:
        """How far an event's time may lie from its record's."""
        return TimeLimits(age_ms_max=self.event_age_days_max * 86_400_000, ahead_ms_max=self.event_ahead_s_max * 1000)


class DetectionSettings(Section):
    """When something is an alert."""

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
    heartbeat_page_beats: int = Field(
        12, ge=5, le=1000, description="a device that missed so many beats is a page, whatever was learned of it"
    )
    heartbeat_learned: bool = Field(True, description="page earlier where a device's own longest gaps allow it")

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


class NotificationSettings(Section):
    """Who is told, when, and through what."""

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

    @field_validator("alertmanager_url", "pagerduty_url", "public_url")
    @classmethod
    def _are_addresses(cls, url: str) -> str:
        return web_address(url)

    @field_validator("notify_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for one in filter(None, map(str.strip, text.split(","))):
            ip_network(one)  # or raises
        return text

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


class TrialSettings(Section):
    """Trying it out."""

    workspace: str = Field("default", min_length=1, max_length=256, description="workspace of demo and produce")


class WebSettings(Section):
    """Where a process answers over HTTP."""

    web_host: str = Field(
        "127.0.0.1", description="address that a process listens on: the HTTP side, and /metrics, /healthz, /readyz"
    )
    web_port: int = Field(6066, ge=1, le=65_535, description="its port")


class HttpSettings(Section):
    """The HTTP side, `inferwatch web`: what it takes in, how much, from whom."""

    web_api_key: SecretStr = Field(
        SecretStr(""), description="a key that may everything, besides those of `inferwatch keys`: for the first steps"
    )
    web_metrics_open: bool = Field(False, description="/metrics of the HTTP side is for everybody who can reach it")
    web_origins: str = Field(
        "", description="origins (https://app.example.com, comma-separated, or *) whose pages may call the HTTP side"
    )
    ingest_buffer_mb: int = Field(
        64, ge=17, le=65_536, description="bodies that one HTTP process holds at most; what comes then gets a 503"
    )
    ingest_answer_s: float = Field(
        8.0, gt=0, le=300, description="a request that Kafka has not acknowledged by then gets a 503"
    )
    ingest_body_s: float = Field(30.0, gt=0, le=600, description="a body that is not there by then gets a 408")
    ingest_rate: float = Field(
        0.0, ge=0, description="events a second that one key may send through one process; then 429; 0: no limit"
    )

    web_spool_dir: Path = Field(
        Path("inferwatch-spool"), description="folder of what Roboflow servers sent, until Kafka has it; must last"
    )
    web_spool_mb: int = Field(
        512, ge=1, le=1_048_576, description="what waits there at most, compressed; what comes then gets a 503"
    )
    roboflow_forward_url: str = Field(
        "", description="where pingbacks are passed on to besides: https://api.roboflow.com/inference-stats"
    )

    @field_validator("roboflow_forward_url")
    @classmethod
    def _is_forward_address(cls, url: str) -> str:
        return web_address(url)

    @property
    def allowed_origins(self) -> list[str]:
        """Whose pages may call."""
        return [one.strip().rstrip("/") for one in self.web_origins.split(",") if one.strip()]


class ImageSettings(Section):
    """Pictures of inferences, where somebody wants to keep them."""

    images_url: str = Field(
        "", description="directory or address (s3://bucket/path, for fsspec) where pictures are kept; empty: none are"
    )
    images_days: int = Field(30, ge=1, description="how long pictures are kept")
    images_mb: int = Field(16, ge=1, le=64, description="largest picture that is taken, in MiB")
    images_buffer_mb: int = Field(
        96, ge=70, le=65_536, description="bodies with pictures that one HTTP process holds at most; then 503"
    )


class LogSettings(Section):
    """What a process logs."""

    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, JSON elsewhere")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")


def web_address(url: str) -> str:
    """An address of the web as it is kept. Raises ValueError."""
    if not url:
        return url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # or raises
        raise ValueError("expected http://host:port or https://host:port")
    if parts.username or parts.password:
        raise ValueError("put no user and password into an address")
    return url.rstrip("/")
