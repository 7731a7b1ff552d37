"""The doctor: one question after another to the settings, to Kafka and to ClickHouse, each answered in one line.

A question that cannot be answered does not keep the next one from being asked.
"""

import platform
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from pipeline.config import PREFIX, Settings
from pipeline.core.ledger.standing import READS
from pipeline.core.words import iso
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka, KafkaUnavailable
from pipeline.edge.kafka.compacted import read_rules
from pipeline.edge.notification.addressing import mistakes_in_rules, mistakes_in_settings
from pipeline.edge.operator.standings import standings
from pipeline.edge.store.client import ClickHouse, ClickHouseUnavailable, Role, credentials
from pipeline.edge.store.migrations import MigrationError, has_tables, known_migrations, missing_migrations, recorded
from pipeline.edge.store.queries import health
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


async def examine(kafka: Kafka) -> AsyncIterator[Line]:
    """Every line as soon as it is known."""
    settings = kafka.settings
    for line in (*_versions(), _recipients(settings)):
        yield line
    questions = [("broker clock", _broker_clock(kafka)), ("topics", _topics(kafka)), ("workers", _workers(kafka))]
    questions += [("rules", _rules(kafka)), ("kafka disk", _log_dirs(kafka))]
    async for line in _in_turn("kafka", _kafka(kafka), questions):
        yield line
    async with AsyncExitStack() as stack:
        roles: tuple[Role, ...] = ("admin", "writer", "reader", "query")
        admin, writer, reader, query = stores = [ClickHouse(settings, role) for role in roles]
        for store in stores:
            await stack.enter_async_context(store)
        tables = [
            ("tables", _migrations(settings, admin)),
            ("writer", _writer(writer)),
            ("reader", _reader(settings, reader)),
            ("query", _query(settings, query)),
            ("dead letters", _dead_letters(writer)),
            ("parts", _parts(admin)),
            ("detached parts", _detached(admin)),
            ("disk", _disk(admin)),
        ]
        async for line in _in_turn("clickhouse", _clickhouse(settings), tables):
            yield line


async def _in_turn(
    name: str, first: AsyncIterator[Line], others: Sequence[tuple[str, AsyncIterator[Line]]]
) -> AsyncIterator[Line]:
    """The others only where all of the first is well."""
    reachable = True
    async for line in _answers(name, first):
        reachable = reachable and line.ok
        yield line
    for other, question in others if reachable else ():
        async for line in _answers(other, question):
            yield line


async def _answers(name: str, question: AsyncIterator[Line]) -> AsyncIterator[Line]:
    try:
        async for line in question:
            yield line
    except (KafkaUnavailable, ClickHouseUnavailable, MigrationError) as error:
        yield Line(name, False, str(error))


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


def _recipients(settings: Settings) -> Line:
    """Of what no rule sends to somebody."""
    wrong, count = mistakes_in_settings(settings), len(settings.default_recipients.recipients)
    nobody = f"alerts whose rule names nobody are told to nobody: {PREFIX}NOTIFY_RECIPIENTS is not set"
    return Line("recipients", not wrong, "; ".join(wrong) or (f"{count} by default" if count else nobody))


async def _kafka(kafka: Kafka) -> AsyncIterator[Line]:
    brokers = await kafka.brokers()
    replicas = kafka.settings.topic_replication
    if len(brokers) < replicas:
        text = f"{len(brokers)} brokers, but INFERWATCH_TOPIC_REPLICATION is {replicas}"
        yield Line("kafka", False, text)
    else:
        yield Line("kafka", True, f"{len(brokers)} broker(s): {', '.join(brokers)}")


async def _broker_clock(kafka: Kafka) -> AsyncIterator[Line]:
    """Only a clock that is ahead shows from outside: a record from the future."""
    topic = kafka.settings.topic(EVENTS.name)
    ahead = await kafka.first_since(list(await kafka.ends([topic])), now_ms() + SKEW_MS_MAX)
    if ahead:
        latest = max(time_ms for _, time_ms in ahead.values())
        text = f"records of {topic} are from the future ({iso(latest)}): set the clocks of the brokers (NTP), or ours"
        yield Line("broker clock", False, text)
    else:
        yield Line("broker clock", True, f"no record of {topic} is from the future")


async def _topics(kafka: Kafka) -> AsyncIterator[Line]:
    names = [kafka.settings.topic(topic.name) for topic in TOPICS]
    ends = await kafka.ends(names)
    there = await kafka.topic_settings(names)
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


async def _rules(kafka: Kafka) -> AsyncIterator[Line]:
    found = await read_rules(kafka)
    wrong = mistakes_in_rules(found, kafka.settings)
    advice = "; inferwatch rules apply puts another in a rule's place, inferwatch rules delete removes it"
    yield Line("rules", not wrong, "; ".join(wrong) + advice if wrong else f"{len(found)} rules")


async def _workers(kafka: Kafka) -> AsyncIterator[Line]:
    found = await standings(kafka)
    for role in READS:
        group = await kafka.group(role)
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
            yield Line(f"{s.role} {s.topic}/{s.partition}", False, f"stands still: {s.trouble()}")


async def _clickhouse(settings: Settings) -> AsyncIterator[Line]:
    async with ClickHouse(settings, "admin", database="default") as store:
        await health.identity(store)  # connects, which takes longer than the question
        before_ms, before = now_ms(), time.monotonic()
        there = await health.identity(store)
        took_ms = (time.monotonic() - before) * 1000
    yield Line("clickhouse", True, f"{there.version} at {settings.clickhouse_url}")
    skew_ms = there.now_ms - (before_ms + took_ms / 2)
    fine = abs(skew_ms) <= SKEW_MS_MAX + took_ms / 2
    text = f"{skew_ms:+.0f} ms from ours"
    yield Line("clickhouse clock", fine, text if fine else f"{text}: set the clocks (NTP)")


async def _migrations(settings: Settings, admin: ClickHouse) -> AsyncIterator[Line]:
    if not await has_tables(settings):
        text = f"database {settings.clickhouse_database} has no tables; run: inferwatch migrate"
        yield Line("tables", False, text)
        return
    known = known_migrations()
    missing = missing_migrations(known, await recorded(admin))
    text = f"{len(missing)} of {len(known)} migrations are missing; run: inferwatch migrate"
    yield Line("tables", not missing, text if missing else f"{len(known)} migrations, up to date")


async def _writer(writer: ClickHouse) -> AsyncIterator[Line]:
    await health.may_select(writer)
    fine = await health.may_insert(writer)
    text = f"{writer.user} may select and insert" if fine else f"{writer.user} may not insert"
    yield Line("writer", fine, text if fine else f"{text}; run: inferwatch migrate --users")


async def _reader(settings: Settings, reader: ClickHouse) -> AsyncIterator[Line]:
    if not credentials(settings, "reader")[1]:
        text = "not used: INFERWATCH_CLICKHOUSE_READER_PASSWORD is not set"
        yield Line("reader", True, text)
        return
    await health.may_select(reader)
    if await health.may_insert(reader):
        text = f"{reader.user} may insert: take that right away, or run: inferwatch migrate --users"
        yield Line("reader", False, text)
    else:
        yield Line("reader", True, f"{reader.user} may select, and nothing else")


async def _query(settings: Settings, query: ClickHouse) -> AsyncIterator[Line]:
    """It names no workspace here, so that it must see nothing."""
    if not credentials(settings, "query")[1]:
        text = "the HTTP side answers no questions: INFERWATCH_CLICKHOUSE_QUERY_PASSWORD is not set"
        yield Line("query", True, text)
    elif await health.sees_rows(query):
        yield Line("query", False, f"{query.user} sees every workspace; run: inferwatch migrate --users")
    else:
        yield Line("query", True, f"{query.user} may select, in one workspace at a time")


async def _dead_letters(writer: ClickHouse) -> AsyncIterator[Line]:
    found = await health.last_hour(writer)
    total = sum(found.by_reason.values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.by_reason.items())
    text = f"{total:,} in the last hour beside {found.good:,} rows" + (f": {reasons}" if reasons else "")
    fine = total <= REFUSED_SHARE_MAX * (found.good + total)
    yield Line("dead letters", fine, text if fine else f"{text}; look at them: inferwatch dead-letters list")


async def _parts(admin: ClickHouse) -> AsyncIterator[Line]:
    most = await health.most_parts(admin)
    if most is None:
        yield Line("parts", True, "no data yet")
        return
    text = f"{most.count} at most ({most.table}, partition {most.partition})"
    advice = "; merges do not keep up: give ClickHouse more CPU, or raise INFERWATCH_CUT_AGE_MS"
    yield Line("parts", most.count <= PARTS_MAX, text + (advice if most.count > PARTS_MAX else ""))


async def _detached(admin: ClickHouse) -> AsyncIterator[Line]:
    """What ClickHouse could not read when it started, and put aside."""
    broken = await health.broken_parts(admin)
    advice = (
        "their rows are missing: stop the recorders, inferwatch topics rewind --since ..., start them; "
        "the parts themselves can be dropped when inferwatch audit is clean"
    )
    found = ", ".join(f"{one.count} of {one.table} ({one.reasons})" for one in broken)
    yield Line("detached parts", not broken, f"{found}; {advice}" if broken else "none")


async def _disk(admin: ClickHouse) -> AsyncIterator[Line]:
    for disk in await health.disks(admin):
        yield _room(f"disk {disk.name}", disk.free, disk.total, "INFERWATCH_TTL_...")
    if not await health.keeps_room(admin):
        text = "ClickHouse takes inserts until its disk is full, and then loses rows: take "
        yield Line("disk limit", False, text + "min_free_disk_bytes_to_perform_insert from deploy/clickhouse/config.d")


async def _log_dirs(kafka: Kafka) -> AsyncIterator[Line]:
    for one in await kafka.log_dirs():
        name = f"kafka disk {one.broker}"
        if one.failed:
            yield Line(name, False, f"the broker has given {one.path} up; its log says why (is the disk full?)")
        else:
            yield _room(name, one.free, one.total, "retention of the topics")


def _room(name: str, free: int, total: int, setting: str) -> Line:
    share = free / total if total else 1.0
    text = f"{free / 1e9:,.1f} of {total / 1e9:,.1f} GB free ({share:.0%})"
    return Line(
        name,
        share >= DISK_FREE_MIN,
        text + ("" if share >= DISK_FREE_MIN else f"; make room, or keep less ({setting})"),
    )
