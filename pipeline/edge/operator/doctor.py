"""The doctor: one question after another to the settings, to Kafka and to ClickHouse, each answered in one line.

A question that cannot be answered does not keep the next one from being asked.
"""

import asyncio
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.config import Settings
from pipeline.core.ledger.standing import READS, Problem, Standing
from pipeline.core.words import iso
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka import client as kafka
from pipeline.edge.kafka.group.standings import standings
from pipeline.edge.store.client import ClickHouseUnavailable, ask, connect, credentials
from pipeline.edge.store.migrations import MigrationError, known_migrations, missing_migrations
from schemas.topics import EVENTS, TOPICS

SKEW_MS_MAX = 1000
PARTS_MAX = 300  # of one table partition; ClickHouse slows inserts down at 1000
DISK_FREE_MIN = 0.1
REFUSED_SHARE_MAX = 0.1  # of the last hour's events
PACKAGES = ("aiokafka", "faust-streaming", "clickhouse-connect", "msgspec")


@dataclass(frozen=True, slots=True)
class Line:
    """One answer: ok, or what to do."""

    name: str
    ok: bool
    text: str


def examine(settings: Settings) -> Iterator[Line]:
    """Every line as soon as it is known."""
    yield from _versions()
    reachable = True
    for line in _answers("kafka", _kafka, settings):
        reachable = reachable and line.ok
        yield line
    if reachable:
        yield from _answers("broker clock", _broker_clock, settings)
        yield from _answers("topics", _topics, settings)
        yield from _answers("workers", _workers, settings)
    reachable = True
    for line in _answers("clickhouse", _clickhouse, settings):
        reachable = reachable and line.ok
        yield line
    if reachable:
        yield from _answers("tables", _migrations, settings)
        yield from _answers("writer", _writer, settings)
        yield from _answers("reader", _reader, settings)
        yield from _answers("dead letters", _dead_letters, settings)
        yield from _answers("parts", _parts, settings)
        yield from _answers("disk", _disk, settings)


def _answers(name: str, question: Callable[[Settings], Iterator[Line]], settings: Settings) -> Iterator[Line]:
    try:
        yield from question(settings)
    except (
        kafka.KafkaUnavailable,
        ClickHouseUnavailable,
        MigrationError,
        KafkaError,
        ClickHouseError,
        TimeoutError,
        OSError,
    ) as error:
        yield Line(name, False, str(error) or type(error).__name__)


def _versions() -> Iterator[Line]:
    installed, wrong = [f"Python {platform.python_version()}"], []
    pinned = [r.split("==") for r in requires("inferwatch") or [] if "==" in r and ";" not in r]
    wanted = dict(pinned)
    for package in PACKAGES:
        try:
            there = version(package)
        except PackageNotFoundError:
            wrong.append(f"{package} is not installed")
            continue
        installed.append(f"{package} {there}")
        if wanted.get(package, there) != there:
            wrong.append(f"{package} is {there}, must be {wanted[package]}")
    yield Line("versions", not wrong, "; ".join(wrong) + ": install inferwatch anew" if wrong else ", ".join(installed))


def _kafka(settings: Settings) -> Iterator[Line]:
    brokers = asyncio.run(kafka.brokers(settings))
    replicas = settings.topic_replication
    if len(brokers) < replicas:
        text = f"{len(brokers)} brokers, but INFERWATCH_TOPIC_REPLICATION is {replicas}"
        yield Line("kafka", False, text)
    else:
        yield Line("kafka", True, f"{len(brokers)} broker(s): {', '.join(brokers)}")


def _broker_clock(settings: Settings) -> Iterator[Line]:
    """Only a clock that is ahead shows from outside: a record from the future."""
    topic = settings.topic(EVENTS.name)
    partitions = list(asyncio.run(kafka.ends(settings, [topic])))
    ahead = asyncio.run(kafka.first_since(settings, partitions, now_ms() + SKEW_MS_MAX))
    if ahead:
        latest = max(time_ms for _, time_ms in ahead.values())
        text = f"records of {topic} are from the future ({iso(latest)}): set the clocks of the brokers (NTP), or ours"
        yield Line("broker clock", False, text)
    else:
        yield Line("broker clock", True, f"no record of {topic} is from the future")


def _topics(settings: Settings) -> Iterator[Line]:
    names = [settings.topic(topic.name) for topic in TOPICS]
    ends = asyncio.run(kafka.ends(settings, names))
    there = asyncio.run(kafka.topic_settings(settings, names))
    for topic, name in zip(TOPICS, names, strict=True):
        partitions = sum(tp.topic == name for tp in ends)
        if not partitions:
            yield Line(name, False, "does not exist; create it with: inferwatch topics create")
            continue
        wrong = [
            f"{key} is {there[name].get(key)}, should be {value}"
            for key, value in topic.settings().items()
            if not _serves(key, there[name].get(key, ""), value)
        ]
        yield Line(name, not wrong, "; ".join(wrong) or f"{partitions} partitions")


def _serves(key: str, actual: str, wanted: str) -> bool:
    """Whether a topic's setting is as good as ours: more is fine where it is a limit."""
    if key == "retention.ms":
        return actual == "-1" or int(actual or 0) >= int(wanted)
    if key == "max.message.bytes":
        return int(actual or 0) >= int(wanted)
    return actual == wanted


def _workers(settings: Settings) -> Iterator[Line]:
    found = asyncio.run(standings(settings))
    for role in READS:
        group = asyncio.run(kafka.group(settings, role))
        lag = sum(s.lag for s in found if s.role == role)
        state = f"{group.member_count} running, {group.state.lower()}, {lag:,} records behind"
        if group.member_count:
            yield Line(f"{role} workers", True, state)
        else:
            yield Line(
                f"{role} workers", False, f"none runs ({lag:,} records behind); start one: inferwatch worker {role}"
            )
    for s in found:
        if s.problem:
            yield Line(f"{s.role} {s.topic}/{s.partition}", False, _trouble(s))


def _trouble(s: Standing) -> str:
    if s.problem is Problem.FOREIGN:
        return f"stands still: {s.problem.value}; give it another INFERWATCH_GROUP_PREFIX"
    assert s.problem is not None
    lost = f" ({s.lost:,} offsets)" if s.lost else ""
    return (
        f"stands still: {s.problem.value}{lost}; stop the {s.role} workers, then "
        f"inferwatch topics accept-gap --role {s.role} {s.topic} {s.partition}"
    )


def _clickhouse(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "admin", database="default")) as client:
        before_ms, before = now_ms(), time.monotonic()
        ((server, there_ms),) = ask(client, "SELECT version(), toUnixTimestamp64Milli(now64(3))")
        took_ms = (time.monotonic() - before) * 1000
        yield Line("clickhouse", True, f"{server} at {settings.clickhouse_url}")
        skew_ms = there_ms - (before_ms + took_ms / 2)
        fine = abs(skew_ms) <= SKEW_MS_MAX + took_ms / 2
        text = f"{skew_ms:+.0f} ms from ours"
        yield Line("clickhouse clock", fine, text if fine else f"{text}: set the clocks (NTP)")


def _migrations(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "admin", database="default")) as client:
        database = {"database": settings.clickhouse_database}
        sql = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'"
        if not ask(client, sql, database)[0][0]:
            yield Line(
                "tables", False, f"database {settings.clickhouse_database} has no tables; run: inferwatch migrate"
            )
            return
    with closing(connect(settings, "admin")) as client:
        rows = ask(client, "SELECT version, argMin(checksum, applied_at) FROM schema_migrations GROUP BY version")
        known = known_migrations()
        missing = missing_migrations(known, {int(v): str(checksum) for v, checksum in rows})
    text = f"{len(missing)} of {len(known)} migrations are missing; run: inferwatch migrate"
    yield Line("tables", not missing, text if missing else f"{len(known)} migrations, up to date")


def _writer(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "writer")) as client:
        ask(client, "SELECT count() FROM inferences WHERE 0")
        client.command("INSERT INTO dead_letters SELECT * FROM dead_letters WHERE 0")  # no row: only the right is asked
    yield Line("writer", True, f"{credentials(settings, 'writer')[0]} may select and insert")


def _reader(settings: Settings) -> Iterator[Line]:
    user, password = credentials(settings, "reader")
    if not password:
        text = "not used: INFERWATCH_CLICKHOUSE_READER_PASSWORD is not set"
        yield Line("reader", True, text)
        return
    with closing(connect(settings, "reader")) as client:
        ask(client, "SELECT count() FROM inferences WHERE 0")
        try:
            client.command("INSERT INTO dead_letters SELECT * FROM dead_letters WHERE 0")
        except ClickHouseError:
            yield Line("reader", True, f"{user} may select, and nothing else")
        else:
            yield Line("reader", False, f"{user} may insert: take that right away, or run: inferwatch migrate --users")


def _dead_letters(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "writer")) as client:
        rows = ask(
            client,
            "SELECT toString(reason) AS r, count() AS c FROM dead_letters WHERE ingested_at > now() - 3600 "
            "GROUP BY r ORDER BY c DESC",
        )
        ((good,),) = ask(client, "SELECT count() FROM inferences WHERE ingested_at > now() - 3600")
    total = sum(count for _, count in rows)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rows)
    text = f"{total:,} in the last hour beside {good:,} rows" + (f": {reasons}" if rows else "")
    fine = total <= REFUSED_SHARE_MAX * (good + total)
    yield Line("dead letters", fine, text if fine else f"{text}; look at them: inferwatch dead-letters list")


def _parts(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "admin")) as client:
        rows = ask(
            client,
            "SELECT table, partition, count() AS parts FROM system.parts WHERE active "
            "AND database = currentDatabase() GROUP BY table, partition ORDER BY parts DESC LIMIT 1",
        )
    if not rows:
        yield Line("parts", True, "no data yet")
        return
    ((table, partition, parts),) = rows
    text = f"{parts} at most ({table}, partition {partition})"
    advice = "; merges do not keep up: give ClickHouse more CPU, or raise INFERWATCH_CUT_AGE_MS"
    yield Line("parts", parts <= PARTS_MAX, text + (advice if parts > PARTS_MAX else ""))


def _disk(settings: Settings) -> Iterator[Line]:
    with closing(connect(settings, "admin")) as client:
        for name, free, total in ask(client, "SELECT name, unreserved_space, total_space FROM system.disks"):
            share = free / total if total else 1.0
            text = f"{free / 1e9:,.1f} of {total / 1e9:,.1f} GB free ({share:.0%})"
            advice = "; make room, or keep less (INFERWATCH_TTL_...)"
            yield Line(f"disk {name}", share >= DISK_FREE_MIN, text + (advice if share < DISK_FREE_MIN else ""))
