"""The faults, by class. Each draws all that is free in it from one seeded chance, strikes, and says what it did."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random

from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import KafkaError

from pipeline.core.ledger.standing import AGGREGATOR, RECORDER
from pipeline.edge.kafka.client import client_options
from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS, METADATA
from tests.asked_once import ends
from tests.integration.compaction import compact, configure
from tests.integration.groups import commit, delete_group
from tests.integration.proxy import Mode
from tests.integration.test_logs import VALUES, in_trouble, make_anew, transaction
from tests.integration.workers import eventually, hold
from tests.performance.campaign.scene import Commits, Scene

SENT = (EVENTS.name, HEARTBEATS.name, METADATA.name)
WRITTEN = (AGGREGATES.name, ALERTS.name)  # by workers; here only what is aborted may be added
PARTITIONS = {EVENTS.name: 8, AGGREGATES.name: 8} | dict.fromkeys((HEARTBEATS.name, METADATA.name, ALERTS.name), 4)
ABANDONED_MS = 8_000  # then the broker aborts a transaction whose producer is gone

Strike = Callable[[Scene, Random], str]


def _transactions(scene: Scene, chance: Random, topics: tuple[str, ...], commits: bool) -> str:
    async def play() -> list[str]:
        said = []
        for topic in chance.sample(topics, chance.randint(1, 2)):
            partition, count = chance.randrange(PARTITIONS[topic]), chance.randint(1, 20)
            await transaction(scene.settings, topic, partition, [VALUES[topic]() for _ in range(count)], commits)
            said.append(f"{topic}/{partition}: {count}")
        return said

    return ", ".join(asyncio.run(play()))


def committed_transaction(scene: Scene, chance: Random) -> str:
    """A marker behind some records, and nothing behind the marker."""
    return _transactions(scene, chance, SENT, commits=True)


def aborted_transaction(scene: Scene, chance: Random) -> str:
    """Records that were never published, in any topic; now and then among others."""
    if chance.random() < 0.5:
        with scene.sending():
            return _transactions(scene, chance, SENT + WRITTEN, commits=False)
    return _transactions(scene, chance, SENT + WRITTEN, commits=False)


def marker_at_every_end(scene: Scene, chance: Random) -> str:
    """The last thing of every topic is no record."""

    async def play() -> None:
        for topic, count in PARTITIONS.items():
            commits = topic in SENT and chance.random() < 0.5
            for partition in chance.sample(range(count), 2):
                await transaction(scene.settings, topic, partition, [VALUES[topic]() for _ in range(3)], commits)

    scene.send(chance.randint(20, 100))
    asyncio.run(play())
    return "all topics"


def hanging_transaction(scene: Scene, chance: Random) -> str:
    """Records wait behind one that is open; it is committed, aborted, or its producer is never seen again."""
    end = chance.choice(("committed", "aborted", "abandoned"))
    topic, open_s = chance.choice(SENT), chance.uniform(1, 6)

    async def play() -> None:
        options = {"transactional_id": f"hang-{chance.getrandbits(32)}", "transaction_timeout_ms": ABANDONED_MS}
        producer = AIOKafkaProducer(**client_options(scene.settings), **options)
        await producer.start()
        try:
            await producer.begin_transaction()
            for partition in chance.sample(range(PARTITIONS[topic]), 2):
                for _ in range(chance.randint(1, 8)):
                    await (await producer.send(scene.settings.topic(topic), VALUES[topic](), partition=partition))
            await asyncio.to_thread(scene.send, chance.randint(30, 200))
            await asyncio.sleep(open_s)
            if end == "committed":
                await producer.commit_transaction()
            elif end == "aborted":
                await producer.abort_transaction()
        finally:
            await producer.stop()

    with suppress(KafkaError):  # a slow machine, and the broker has aborted it
        asyncio.run(play())
    return f"{topic}, {open_s:.1f} s, {end}"


def compacted(scene: Scene, chance: Random) -> str:
    """The log has holes before its readers come to them, and an aborted batch as its end."""
    with scene.standing_still(AGGREGATOR, RECORDER):
        scene.send(chance.randint(300, 500), rate=1000)
        topic = scene.settings.topic(EVENTS.name)
        gone = asyncio.run(compact(scene.settings, topic, PARTITIONS[EVENTS.name]))
        asyncio.run(configure(scene.settings, ConfigResourceType.TOPIC, topic, EVENTS.settings()))
        scene.remember()
    return f"{gone} of {EVENTS.name}"


def made_anew(scene: Scene, chance: Random, topic: str) -> str:
    """Deleted and created; running or stopped, shorter or longer than before; then the operator's word."""
    is_running, is_longer = chance.random() < 0.5, chance.random() < 0.5
    partitions = asyncio.run(ends(scene.settings, [scene.settings.topic(topic)])).values()
    longest = sum(end for _, end in partitions) if topic == EVENTS.name else 0
    count = min(4000, longest + 500) if is_longer else chance.randint(30, 200)
    stop_hard = topic != AGGREGATES.name and chance.random() < 0.5  # of aggregates it is not promised in a cut

    def anew() -> None:
        scene.generation += 1
        make_anew(scene.settings, topic)

    if is_running:
        anew()
        if topic == AGGREGATES.name:
            hold(chance.uniform(0, 4))
        scene.send(count, rate=1500)
        hold(chance.uniform(0, 6))
    with scene.standing_still(AGGREGATOR, RECORDER, hard=stop_hard):
        if not is_running:
            anew()
            scene.send(count, rate=1500)
        scene.accept()
        assert in_trouble(scene.settings) == []
    return f"{'running' if is_running else 'stopped'}, then {count}{', killed' if stop_hard else ''}"


def turned_back(scene: Scene, chance: Random, role: str) -> str:
    """Each partition's commit becomes one of those it once was, or all are lost with their group."""
    if chance.random() < 0.2 and (role == RECORDER or scene.has_links()):  # without, it is not promised
        with scene.standing_still(role, hard=chance.random() < 0.5):
            scene.send(chance.randint(30, 150), rate=1000)
            scene.until(lambda: delete_group(scene.settings, role), AssertionError)
            is_said_again = bool(in_trouble(scene.settings))  # of a topic made anew, where no worker had noted it yet
            if is_said_again:
                scene.accept()
        return "all lost" + (", accepted again" if is_said_again else "")
    for _ in range(chance.randint(1, 4)):  # so that there are some to turn back to, in the middle of a cut, too
        scene.send(chance.randint(20, 100))
        hold(chance.uniform(0, 1))
        scene.note_names()
    with scene.standing_still(role, hard=chance.random() < 0.5):
        scene.send(chance.randint(30, 150), rate=1000)
        is_beyond = chance.random() < 0.15  # of a topic made anew; then an operator must say it again
        names = scene.names_of(role, any_generation=is_beyond)
        commits: Commits = {}
        for tp in sorted({tp for known in names for tp in known}):
            commits[tp] = chance.choice([known[tp] for known in names if tp in known])
        if commits:  # else all are lost as it is
            scene.until(lambda: commit(scene.settings, role, commits), KafkaError)
        if is_beyond:
            scene.accept()
    distance = sum(names[-1][tp].offset - at.offset for tp, at in commits.items() if tp in names[-1])
    return f"{distance} offsets{', also beyond' if is_beyond else ''}"


def long_cut(scene: Scene, chance: Random) -> str:
    """An answer of ClickHouse is lost, then nothing comes through, while others make more blocks than it remembers."""
    ways = chance.sample(scene.ways[1:], 1 if chance.random() < 0.8 else 2)
    cut_s = chance.uniform(5, 14)
    with scene.sending():
        for one in ways:
            hits, one.proxy.mode = one.proxy.hits[Mode.DROP], Mode.DROP
            with suppress(AssertionError):
                eventually(lambda o=one, h=hits: o.proxy.hits[Mode.DROP] > h, 5, "an answer is lost")  # type: ignore[misc]
            one.proxy.mode = Mode.CUT
        hold(cut_s)
        for one in ways:
            one.heal()
    return f"{len(ways)} recorders, {cut_s:.0f} s"


def torn(scene: Scene, chance: Random) -> str:
    """Requests and answers end after any byte, with the connection or as if they were whole."""
    mode = chance.choice((Mode.RESET, Mode.TORN, Mode.DROP, Mode.PASS))

    def struck() -> int:
        return sum(one.whole.struck + one.proxy.hits.total() for one in scene.ways)

    before = struck()
    with scene.sending():
        for one in scene.ways[1:]:
            one.whole.requests.extend(chance.random() for _ in range(chance.randint(0, 6)))
            one.whole.answers.extend(chance.random() for _ in range(chance.randint(0, 6)))
            one.proxy.mode = mode
        with suppress(AssertionError):  # no recorder is up again yet
            eventually(lambda: struck() > before, 20, "something is cut")
        hold(chance.uniform(2, 5))
        for one in scene.ways:
            one.heal()
    return f"{mode}, {struck() - before} cut"


def killed(scene: Scene, chance: Random) -> str:
    """SIGKILL to a worker or two under load."""
    with scene.sending():
        said = []
        for _ in range(chance.randint(1, 2)):
            hold(chance.uniform(0.2, 2))
            said.append(scene.kill())
    return ", ".join(filter(None, said))


# What may only follow on a judgement, for what it takes away must be in the tables before.
OPENING: Mapping[str, Strike] = {
    "events made anew": lambda scene, chance: made_anew(scene, chance, EVENTS.name),
    "aggregates made anew": lambda scene, chance: made_anew(scene, chance, AGGREGATES.name),
    "heartbeats made anew": lambda scene, chance: made_anew(scene, chance, HEARTBEATS.name),
    "metadata made anew": lambda scene, chance: made_anew(scene, chance, METADATA.name),
    "compacted records and gaps": compacted,
}
FOLLOWING: Mapping[str, Strike] = {
    "transaction committed": committed_transaction,
    "transaction aborted": aborted_transaction,
    "transaction hanging": hanging_transaction,
    "marker at every end": marker_at_every_end,
    "aggregator turned back": lambda scene, chance: turned_back(scene, chance, AGGREGATOR),
    "recorder turned back": lambda scene, chance: turned_back(scene, chance, RECORDER),
    "long cut, small window": long_cut,
    "truncating proxy": torn,
    "kill -9": killed,
}
