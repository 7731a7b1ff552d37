"""Alerting on the real engines: each step once, whatever dies; the page comes without ClickHouse; quiet if told so."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import orjson
import pytest
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.core.words import shown
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import put_rules, write_compacted
from pipeline.edge.kafka.producer import OutRecord, Producer
from pipeline.edge.kafka.publish import partition_of
from schemas import alert, silence
from schemas.alert import AlertEvent, AlertState
from schemas.silence import Acknowledgement, Matcher, Silence, acknowledgement_id
from schemas.topics import ALERTS, HEARTBEATS, RULES, SILENCES
from tests.alerting import rule
from tests.alerts import alert as any_alert
from tests.integration.engines import Server
from tests.integration.outside import connect
from tests.integration.receivers import Post, post_office
from tests.integration.test_produce import read_topic
from tests.integration.windows import BAD, GOOD, Windows, target_of
from tests.integration.workers import Fleet, WorkerUnderTest, eventually, fleet
from tests.names import NAMES

pytestmark = pytest.mark.integration

HELMETS = "helmets/3"
FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED
CONFIDENCE = rule(
    metric="confidence_mean",
    operator="<",
    threshold=0.72,
    hold_s=10,
    keep_firing_s=20,
    recipients=["mailto:oncall@example.org"],
)


@pytest.fixture
def post() -> Iterator[Post]:
    """Where the mail goes."""
    with post_office() as office:
        yield office


def settings_of(world: Settings, post: Post) -> Settings:
    """Mail goes to the post office, and waits for little."""
    return world.model_copy(
        update={
            "smtp_host": "127.0.0.1",
            "smtp_port": post.port,
            "smtp_security": "plain",
            "group_wait_s": 0.5,
            "group_interval_s": 1.0,
            "heartbeat_page_beats": 5,
            "standstill_s": 3600,  # not every test has a recorder
        }
    )


def steps(settings: Settings) -> list[AlertEvent]:
    """All that was told, in the order of each partition."""
    decoded = [alert.decode(record.value) for record in asyncio.run(read_topic(settings, ALERTS.name))]
    assert all(isinstance(one, AlertEvent) for one in decoded), decoded
    return [one for one in decoded if isinstance(one, AlertEvent)]


def wait_told(settings: Settings, state: AlertState, models: set[str], timeout_s: float = 40) -> AlertEvent:
    """Each of these models has had such a step by the rule; the newest of them."""
    found: list[AlertEvent] = []

    def told() -> bool:
        found[:] = [one for one in steps(settings) if one.state is state and one.rule_id == CONFIDENCE.rule_id]
        return {one.model_id for one in found} >= models

    eventually(told, timeout_s, f"{state} of {models}", lambda: [(one.id, one.state) for one in steps(settings)])
    return found[-1]


def send(settings: Settings, topic: str, records: list[OutRecord]) -> None:
    """Puts records on a topic."""

    async def put() -> None:
        output = Producer(Kafka(settings))
        try:
            await output.send(settings.topic(topic), records, lambda: None)
        finally:
            await output.stop()

    asyncio.run(put())


def start(workers: Fleet, *roles: str) -> list[WorkerUnderTest]:
    """Workers that are ready."""
    started = [workers.start(role) for role in roles]
    workers.wait_ready(*started)
    return started


def mails(post: Post, word: str) -> list[str]:
    """Subjects that hold a word."""
    return [subject for _, mail in post.mails if word in (subject := str(mail["Subject"]))]


def test_each_step_is_told_once_while_detectors_are_killed_and_join(
    world: Settings, post: Post, tmp_path: Path
) -> None:
    settings = settings_of(world, post)
    models = {f"{name}/1" for name in ("helmets", "pallets", "plates", "crops", "labels")}
    assert len({target_of(model) for model in models}) > 2
    good, bad = dict.fromkeys(models, GOOD), dict.fromkeys(models, BAD)
    asyncio.run(put_rules(settings, [CONFIDENCE]))
    log = Windows(settings)
    with fleet(settings, tmp_path) as workers:
        first, second, _ = start(workers, "detector", "detector", "notifier")
        log.play(good, 6)
        log.play(bad, 2)
        wait_told(settings, AlertState.PENDING, models)
        first.kill9()
        log.play(bad, 2)
        wait_told(settings, FIRING, models)
        start(workers, "detector")
        second.kill9()
        log.play(bad, 2)
        log.play(good, 6)
        wait_told(settings, AlertState.RECOVERING, models)
        start(workers, "detector")  # a rebalance without a death
        log.play(good, 3)
        wait_told(settings, RESOLVED, models)
        eventually(lambda: len(mails(post, "RESOLVED")) >= len(models), 20, "mails", lambda: mails(post, ""))
        workers.end_all()
    told: dict[str, AlertEvent] = {}
    for one in steps(settings):
        assert told.setdefault(one.id, one) == one
    assert told.keys() == log.alerts({CONFIDENCE.rule_id: CONFIDENCE})
    assert len(mails(post, "[WARNING]")) == len(mails(post, "RESOLVED")) == len(models)


def test_a_first_start_learns_from_old_logs_and_tells_of_them_what_is_still_open(
    world: Settings, post: Post, tmp_path: Path
) -> None:
    settings = settings_of(world, post)
    asyncio.run(put_rules(settings, [CONFIDENCE]))
    log = Windows(settings, ago_s=7200)
    over, still_open = HELMETS, "pallets/1"
    log.play({over: BAD, still_open: GOOD}, 6)
    log.play({over: GOOD, still_open: GOOD}, 10)
    log.play({over: GOOD, still_open: BAD}, 6)
    with fleet(settings, tmp_path) as workers:
        start(workers, "detector", "notifier")
        wait_told(settings, FIRING, {still_open})
        eventually(lambda: bool(mails(post, "[WARNING]")), 20, "the page")
        log.play({over: BAD, still_open: GOOD}, 6)  # from now on all is news
        wait_told(settings, FIRING, {over})
        wait_told(settings, AlertState.RECOVERING, {still_open})  # another partition: in its own time
        workers.end_all()
    told = [(one.model_id, one.state.value) for one in steps(settings) if one.rule_id]
    assert [state for model, state in told if model == over] == ["pending", "firing"]
    assert [state for model, state in told if model == still_open] == ["pending", "firing", "recovering"]


def test_the_page_arrives_while_clickhouse_is_away_and_is_recorded_afterwards(
    world: Settings, post: Post, clickhouse: Server, tmp_path: Path
) -> None:
    settings = settings_of(world, post)
    asyncio.run(put_rules(settings, [CONFIDENCE]))
    log = Windows(settings)
    with fleet(settings, tmp_path) as workers:
        start(workers, "detector", "notifier", "recorder")
        clickhouse.stop()
        log.play({HELMETS: GOOD}, 6)
        log.play({HELMETS: BAD}, 6)
        eventually(lambda: bool(mails(post, "[WARNING]")), 30, "the page")
        log.play({HELMETS: GOOD}, 10)
        eventually(lambda: bool(mails(post, "RESOLVED")), 30, "the end")
        assert not clickhouse.alive
        clickhouse.start()
        told = [(one.id, one.state.value) for one in steps(settings)]
        assert len(told) == len(set(told)) == 5  # with the watchdog
        with closing(connect(settings, "admin")) as client:

            def recorded() -> list[tuple[str, str]]:
                what = "concat(fingerprint, ':', toString(toUnixTimestamp64Milli(episode)), ':', toString(sequence))"
                return [(row[0], row[1]) for row in client.query(f"SELECT {what}, state FROM alerts").result_rows]

            eventually(lambda: sorted(recorded()) == sorted(told), 60, "the rows", recorded)
            assert client.query("SELECT metric FROM open_alerts").result_rows == [("watchdog",)]
        workers.end_all()


def test_acknowledged_and_silenced_alerts_keep_quiet(world: Settings, post: Post, tmp_path: Path) -> None:
    settings = settings_of(world, post)
    asyncio.run(put_rules(settings, [CONFIDENCE]))
    log = Windows(settings)
    hushed, taken, loud = "hushed/1", HELMETS, "loud/1"
    models = {hushed, taken}
    now = now_ms()
    topic = settings.topic(SILENCES.name)
    quiet = Silence(
        id="s",
        matchers=[Matcher("model_id", "hush.*", is_regex=True)],
        starts_at_ms=now - 1000,
        ends_at_ms=now + 3_600_000,
        author="kim",
    )
    asyncio.run(write_compacted(settings, topic, {b"s": silence.encode(quiet)}))
    with fleet(settings, tmp_path) as workers:
        start(workers, "detector", "notifier")
        log.play(dict.fromkeys(models, GOOD), 6)
        log.play(dict.fromkeys(models, BAD), 4)
        wait_told(settings, FIRING, models)
        eventually(lambda: bool(mails(post, "[WARNING]")), 20, "the page")
        (fired,) = [one for one in steps(settings) if one.model_id == taken and one.state is FIRING]
        ack = Acknowledgement(id=acknowledgement_id(fired.fingerprint, fired.episode), author="kim", at_ms=now)
        asyncio.run(write_compacted(settings, topic, {ack.id.encode(): silence.encode(ack)}))
        wait_told(settings, AlertState.ACKNOWLEDGED, {taken})
        log.play(dict.fromkeys(models, GOOD), 5)  # it comes back before its end
        log.play({hushed: BAD, taken: BAD, loud: BAD}, 4)
        wait_told(settings, FIRING, {loud})
        eventually(lambda: any(loud in one for one in mails(post, "[WARNING]")), 20, "the other page")
        log.play({hushed: GOOD, taken: GOOD, loud: GOOD}, 10)
        wait_told(settings, RESOLVED, {taken, hushed, loud})
        eventually(lambda: len(mails(post, "RESOLVED")) >= 2, 20, "the ends", lambda: mails(post, ""))
        workers.end_all()
    assert [taken in one for one in mails(post, "[WARNING]")] == [True, False]
    assert not mails(post, hushed)
    states = [one.state.value for one in steps(settings) if one.model_id == taken]
    assert states == ["pending", "firing", "acknowledged", "recovering", "acknowledged", "recovering", "resolved"]


def test_a_silent_device_is_paged_and_its_alert_ends_when_it_beats_again(
    world: Settings, post: Post, tmp_path: Path
) -> None:
    settings = settings_of(world, post).model_copy(update={"notify_recipients": "mailto:oncall@example.org"})
    lost = "cam-1"
    number = partition_of(lost.encode(), HEARTBEATS.partitions)

    def beat(*devices: str) -> None:
        sent = {"workspace": "acme", "sent_at_ms": now_ms(), "interval_ms": 1000}
        values = [orjson.dumps(sent | {"device_id": device}) for device in devices]
        send(settings, HEARTBEATS.name, [OutRecord(b"", value, number) for value in values])

    with fleet(settings, tmp_path) as workers:
        start(workers, "detector", "notifier")
        for _ in range(12):
            beat(lost, "other")
        began = time.monotonic()

        def paged() -> bool:
            beat("other")
            return bool(mails(post, "[CRITICAL]"))

        eventually(paged, 30, "the page", lambda: [(one.id, one.state) for one in steps(settings)])
        assert time.monotonic() - began > 4

        def over() -> bool:
            beat(lost, "other")
            return bool(mails(post, "RESOLVED"))

        eventually(over, 30, "the end", lambda: [(one.id, one.state) for one in steps(settings)])
        workers.end_all()
    told = [(one.device_id, one.state.value) for one in steps(settings) if one.metric == "silence_s"]
    wanted = ["pending", "firing", "recovering", "resolved"]
    assert told in ([(lost, state) for state in wanted], [(lost, state) for state in wanted if state != "recovering"])


def test_no_name_keeps_a_message_from_anybody_and_a_restart_finds_no_poison(
    world: Settings, post: Post, tmp_path: Path
) -> None:
    settings = settings_of(world, post).model_copy(
        update={"notify_recipients": SecretStr("mailto:oncall@example.org"), "storm_max": 1000}
    )
    at_ms = now_ms()
    told = [
        any_alert(model_id=name, summary=f"{name} is low", rule_id=None, episode=at_ms, at_ms=at_ms)
        for name in NAMES.values()
    ]
    records = [OutRecord(one.fingerprint.encode(), alert.encode(one)) for one in told]
    strange = [OutRecord(b"x", raw) for raw in (b"", b"\xff", b"{}", b"[" * 100_000)]
    send(settings, ALERTS.name, [*records, *strange])
    send(settings, SILENCES.name, [OutRecord(b"\xff", b"{"), OutRecord(b"x", b"[" * 100_000)])
    send(settings, RULES.name, [OutRecord(b"\xff", b"{"), OutRecord(b"y", b"null")])
    with fleet(settings, tmp_path) as workers:
        [notifier] = start(workers, "notifier")
        eventually(lambda: len(post.mails) >= len(told), 60, "all mails", lambda: mails(post, ""))
        notifier.kill9()
        [again] = start(workers, "notifier")
        ended = any_alert(RESOLVED, 2, model_id="vests", summary="vests", rule_id=None, episode=at_ms, at_ms=at_ms)
        begun = msgspec.structs.replace(ended, state=FIRING, sequence=1)
        send(settings, ALERTS.name, [OutRecord(one.fingerprint.encode(), alert.encode(one)) for one in (begun,)])
        eventually(lambda: mails(post, "vests") != [], 60, "the mail after the restart")
        assert again.works()
    subjects = {str(mail["Subject"]) for _, mail in post.mails}
    assert {f"[WARNING] {shown(' '.join(one.summary.split()))}" for one in told if len(one.summary) < 180} <= subjects
