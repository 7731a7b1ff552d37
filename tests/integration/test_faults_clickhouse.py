"""A ClickHouse that dies, freezes, or whose answers get lost: rows come in once all the same."""

import random
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.config import Settings
from tests.integration.engines import Server
from tests.integration.feed import Feed, Traffic, own_time
from tests.integration.proof import prove, quick
from tests.integration.proxy import Mode, Proxy
from tests.integration.workers import Action, Fault, Step, WorkerUnderTest, eventually, fleet, hold

pytestmark = pytest.mark.integration

ENDLESS = Traffic(seed=0, events=60_000, rate=200, speed=15, malformed=0.05)
MIB = 1 << 20


def unclean(recorder: WorkerUnderTest) -> float:
    """Inserts whose outcome nobody knew."""
    return recorder.metric("inferwatch_inserts_total", outcome="unknown")


def test_clickhouse_killed_about_once_a_second_and_then_frozen_seed_31(
    world: Settings, clickhouse: Server, tmp_path: Path
) -> None:
    """Many small cuts, so that some kill hits between a token and its part."""
    settings = quick(world).model_copy(update={"cut_age_ms": 20, "poll_ms": 10, "clickhouse_insert_timeout_s": 4.0})
    own_time(settings)
    chance = random.Random(31)
    with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=31)) as feed:
        _, recorder = workers.start_both()
        for _ in range(10):
            time.sleep(chance.uniform(0.2, 0.9))  # the pace of the fault, not a wait
            clickhouse.kill9()
            clickhouse.start()
        assert unclean(recorder) > 0
        before = unclean(recorder)
        clickhouse.pause()
        eventually(lambda: unclean(recorder) > before, 90, "inserts are given up")
        eventually(lambda: "the output does not answer" in str(recorder.says("/readyz")), 90, "it says so")
        assert recorder.says("/healthz")[0] == 200
        hold(4)
        clickhouse.resume()
        feed.stop()
        prove(settings, workers)


def test_answers_lost_late_and_connections_reset_seed_32(world: Settings, tmp_path: Path) -> None:
    direct = quick(world).model_copy(update={"clickhouse_insert_timeout_s": 2.0})
    own_time(direct)
    with Proxy(direct.clickhouse_url, seed=32) as proxy:
        settings = direct.model_copy(update={"clickhouse_url": proxy.url})
        with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=32)) as feed:
            _, recorder = workers.start_both()

            def has_struck(mode: Mode, before: float) -> bool:
                return proxy.hits[mode] >= 8 and unclean(recorder) > before

            for mode in (Mode.RESET, Mode.DROP, Mode.HOLE, Mode.LATE):
                before = unclean(recorder)
                with proxy.doing(mode):
                    eventually(partial(has_struck, mode, before), 40, f"{mode} strikes")
            feed.stop()
            prove(direct, workers)


def test_a_token_that_is_spent_without_its_data_seed_33(world: Settings, tmp_path: Path) -> None:
    """The failure of ClickHouse that a repeat with the same token cannot mend."""
    settings = quick(world)
    own_time(settings)
    with fleet(settings, tmp_path) as workers, Feed(settings, ENDLESS.but(seed=33)) as feed:
        workers.start("aggregator")
        recorder = workers.start("recorder", Fault(Step.INSERT, Action.POISON, "", probability=0.1, seed=33))

        def has_mended(table: str) -> bool:
            return recorder.metric("inferwatch_rows_mended_total", table=table) > 0

        for table in ("inferences", "dead_letters", "model_windows", "model_windows_1h", "class_windows_1d"):
            eventually(partial(has_mended, table), 60, f"{table} is mended")
        feed.stop()
        prove(settings, workers)


def test_memory_is_bounded_while_clickhouse_is_down_under_load_seed_34(
    world: Settings, clickhouse: Server, tmp_path: Path
) -> None:
    settings = quick(world).model_copy(update={"buffer_mb": 8})  # about 1 MiB for each partition
    own_time(settings)
    with fleet(settings, tmp_path) as workers:
        _, recorder = workers.start_both()
        process = psutil.Process(recorder.pid)
        at_rest = process.memory_info().rss
        clickhouse.kill9()
        with Feed(settings, Traffic(seed=34, events=60_000, rate=8000, speed=20, malformed=0.002)) as feed:
            feed.join()
        full = [-1.0]

        def is_full() -> bool:
            """It takes nothing more, and has made what it will make of what it took."""
            full.append(buffered(recorder))
            hold(1)
            return full[-1] > 0 and full[-1] == full[-2]

        eventually(is_full, 60, "its inboxes are full", lambda: full)
        sizes = [(buffered(recorder), process.memory_info().rss - at_rest)]
        for _ in range(10):
            time.sleep(0.5)
            sizes.append((buffered(recorder), process.memory_info().rss - at_rest))
        assert sizes[-1][0] < 16 * MIB, sizes  # of more than 30 that wait on the broker
        assert sizes[-1][1] < 60 * MIB, sizes
        assert sizes[-1][1] - sizes[0][1] < 20 * MIB, sizes
        assert recorder.says("/healthz")[0] == 200
        clickhouse.start()
        prove(settings, workers)


def buffered(recorder: WorkerUnderTest) -> float:
    """Bytes of records that wait in it."""
    return recorder.metric("inferwatch_buffered_bytes")
