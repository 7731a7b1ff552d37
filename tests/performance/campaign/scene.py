"""Where the campaign plays: one world, its workers behind proxies and under a keeper, and all that was ever sent.

The oracle's log is what the topics hold; here topics are deleted and compacted, so what was read of them before is
remembered. `settle` ends all faults, waits, and compares every row and every window with it.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata, TopicPartition

from pipeline.config import Settings
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER
from schemas.topics import AGGREGATES, EVENTS, HEARTBEATS, METADATA
from tests.integration import oracle
from tests.integration.compaction import read
from tests.integration.cutting import Cutting, cutting
from tests.integration.feed import Feed, Traffic
from tests.integration.groups import committed
from tests.integration.outside import connect
from tests.integration.proof import quick
from tests.integration.proxy import Mode, Proxy
from tests.integration.test_logs import accept_all
from tests.integration.workers import Fleet, WorkerUnderTest, eventually, hold

BLOCKS_KEPT = 20  # what a table remembers of the tokens here; others make more while one is cut off
STALLED_S = 90.0  # nothing comes in for so long: it will not come
SLOTS = (AGGREGATOR, RECORDER, RECORDER)

Commits = dict[TopicPartition, OffsetAndMetadata]


class Way:
    """From one worker to ClickHouse: bytes are lost on it, and bodies cut short and passed on as whole."""

    def __init__(self, proxy: Proxy, whole: Cutting) -> None:
        self.proxy, self.whole = proxy, whole

    def heal(self) -> None:
        """All comes through."""
        self.proxy.mode = Mode.PASS
        self.whole.requests.clear()
        self.whole.answers.clear()


@contextmanager
def way(target: str, seed: int) -> Iterator[Way]:
    """One, open."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cutting", daemon=True)
    thread.start()
    opened = cutting(target)
    whole, url = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
    try:
        with Proxy(url, seed) as proxy:
            yield Way(proxy, whole)
    finally:
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


class Scene:
    """A world under faults. With `with`: workers run in it, and are started again when they end."""

    def __init__(self, world: Settings, directory: Path, seed: int) -> None:
        self.settings, self.chance, self._seed = quick(world), Random(seed), seed
        self.fleet = Fleet(self.settings, directory)
        self.ways: list[Way] = []
        self.known: dict[tuple[str, int, int, int], ConsumerRecord] = {}
        self.generation = 0  # of the topics: how often one was made anew
        self._names: list[tuple[int, str, Commits]] = []  # that were committed once: in which generation, by whom
        self.ended: Counter[str] = Counter()  # by role: workers that ended themselves
        self._slots: list[WorkerUnderTest | None] = [None] * len(SLOTS)
        self._stopped: set[str] = set()
        self._lock, self._over, self._resources = threading.RLock(), threading.Event(), ExitStack()
        self._sent = 0

    def __enter__(self) -> "Scene":
        self._forget_soon()
        try:
            self.ways = [
                self._resources.enter_context(way(self.settings.clickhouse_url, self._seed + slot))
                for slot in range(len(SLOTS))
            ]
            keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
            keeper.start()
            self._resources.callback(keeper.join, 30)
            self._resources.callback(self._over.set)
            self.wait_works()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            for worker in self.fleet.workers:
                worker.kill9()
        self._resources.close()

    def _forget_soon(self) -> None:
        with connect(self.settings, "admin") as client:
            found = client.query(
                "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' "
                "AND create_table_query LIKE '%deduplication_window%'"
            ).result_rows
            assert found
            for (name,) in found:
                client.command(f"ALTER TABLE {name} MODIFY SETTING non_replicated_deduplication_window={BLOCKS_KEPT}")

    # -- workers

    def _keep(self) -> None:
        while not self._over.wait(0.3):
            with self._lock:
                for slot, role in enumerate(SLOTS):
                    worker = self._slots[slot]
                    if role in self._stopped or self._over.is_set() or (worker is not None and worker.alive):
                        continue
                    if worker is not None and not worker.asked:
                        self.ended[role] += 1
                    self._slots[slot] = self.fleet.start(role, clickhouse_url=self.ways[slot].proxy.url)

    def workers(self, roles: Iterable[str] = (AGGREGATOR, RECORDER)) -> list[WorkerUnderTest]:
        """Those of these roles that run."""
        return [worker for worker in self._slots if worker is not None and worker.alive and worker.name in roles]

    def kill(self) -> str:
        """SIGKILL to one worker; the keeper starts it again."""
        with self._lock:
            victims = self.workers()
            victim = self.chance.choice(victims) if victims else None
            if victim is not None:
                victim.kill9()
        return "" if victim is None else victim.name

    @contextmanager
    def standing_still(self, *roles: str, hard: bool = False) -> Iterator[None]:
        """No worker of these roles runs; afterwards they do again."""
        with self._lock:
            self._stopped |= set(roles)
            for worker in self.workers(roles):
                if hard or worker.says("/healthz")[0] != 200:  # one that is starting knows no signals yet
                    worker.kill9()
                else:
                    worker.end()
        try:
            yield
        finally:
            self._stopped -= set(roles)

    def wait_works(self) -> None:
        """All have their partitions, or stand still in some."""
        for slot in range(len(SLOTS)):
            eventually(lambda s=slot: self._answers(s), 120, f"a worker in slot {slot}")  # type: ignore[misc]

    def _answers(self, slot: int) -> bool:
        worker = self._slots[slot]
        return worker is not None and worker.alive and worker.says("/healthz")[0] == 200

    # -- what is sent

    def traffic(self, events: int, rate: float) -> Traffic:
        """The next one of its own seed."""
        self._sent += 1
        return Traffic(self._seed * 1000 + self._sent, events=events, rate=rate, speed=1, late=0.05, malformed=0.04)

    def send(self, events: int, rate: float = 400) -> None:
        """Events, with heartbeats and metadata."""
        Feed(self.settings, self.traffic(events, rate)).start().join()

    @contextmanager
    def sending(self, rate: float = 150) -> Iterator[None]:
        """The same while something else happens."""
        feed = Feed(self.settings, self.traffic(100_000, rate)).start()
        try:
            yield
        finally:
            feed.stop()

    # -- what is known

    def remember(self) -> None:
        """All that the topics hold now must be in the tables, whatever becomes of the topics."""
        for (topic, partition), records in oracle.read_log(self.settings).items():
            for record in records:
                self.known[topic, partition, record.offset, record.timestamp] = record

    def note_names(self) -> None:
        """What the roles have committed now; a later fault may turn back to it."""
        for role in (AGGREGATOR, RECORDER):
            if found := committed(self.settings, role):
                self._names.append((self.generation, role, found))

    def names_of(self, role: str, *, any_generation: bool = False) -> list[Commits]:
        """What it has committed, to the topics as they are or also as they were; the last one is true now."""
        names = [
            found
            for generation, of, found in self._names
            if of == role and (any_generation or generation == self.generation)
        ]
        return [*names, committed(self.settings, role)]

    def has_links(self) -> bool:
        """Whether inference.aggregates knows of every partition of events: its records' keys are these."""
        found = asyncio.run(read(self.settings, self.settings.topic(AGGREGATES.name), AGGREGATES.partitions))
        return len({record.key for record in found}) >= EVENTS.partitions

    def accept(self) -> None:
        """The operator goes through what doctor says, with all workers stopped; groups of killed ones need a while."""
        self.until(lambda: accept_all(self.settings), AssertionError)

    def until(self, act: Callable[[], object], *errors: type[Exception], timeout_s: float = 40) -> None:
        """Does it again until it raises none of these."""

        def done() -> bool:
            with suppress(*errors):
                act()
                return True
            return False

        try:
            eventually(done, timeout_s, "it succeeds")
        except AssertionError:
            act()

    def wait_no_transaction_is_open(self) -> None:
        """All that was sent is committed or aborted."""
        topics = [self.settings.topic(topic.name) for topic in (EVENTS, HEARTBEATS, METADATA)]

        async def ends(isolation: str) -> dict[TopicPartition, int]:
            consumer = AIOKafkaConsumer(
                *topics, bootstrap_servers=self.settings.kafka_bootstrap, isolation_level=isolation
            )
            await consumer.start()
            try:
                partitions = [TopicPartition(t, p) for t in topics for p in consumer.partitions_for_topic(t) or ()]
                return dict(await consumer.end_offsets(partitions))
            finally:
                await consumer.stop()

        def same() -> bool:
            with suppress(KafkaError):
                return asyncio.run(ends("read_committed")) == asyncio.run(ends("read_uncommitted"))
            return False

        eventually(same, 60, "no transaction is open")

    def settle(self) -> oracle.Report:
        """All faults end; the judgement on all that was ever sent."""
        for one in self.ways:
            one.heal()
        self.wait_no_transaction_is_open()
        self.remember()
        want = oracle.Expected(self.settings)
        for (topic, *_), record in self.known.items():
            want.add(topic, record)
        oracle.wait(self.settings, want, STALLED_S)
        hold(1)  # for what would come a second time
        report = oracle.Tables(self.settings).compare(want)
        if report.clean:
            self.note_names()
        return report

    def finish(self) -> oracle.Report:
        """The last judgement, when no worker can add to it."""
        self.wait_works()
        with self.standing_still(*SLOTS):
            self._over.set()
        return self.settle()
