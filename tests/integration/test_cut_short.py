"""Requests and answers that are cut anywhere in their bytes, and passed on as if they were whole."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.core.rows.blocks import Block
from pipeline.core.rows.inferences import record_events
from pipeline.core.rows.windows import record_aggregates
from pipeline.edge.clock import now_ms
from pipeline.edge.store.inserts import Attempt, Writer
from tests import builders
from tests.integration import oracle
from tests.integration.cutting import Cutting, cutting
from tests.integration.engines import Server
from tests.integration.outside import connect

pytestmark = pytest.mark.integration

EVENTS = 20
REGIONS = 24  # places in a body where it is cut, its first and its last byte among them


def events(first: int) -> Block:
    """A cut of the events' partition."""
    values = [builders.event(event_id=str(n), event_time_ms=builders.START_MS) for n in range(EVENTS)]
    (rows,) = record_events(builders.records(values, first_offset=first), builders.LIMITS).blocks
    return rows


def windows(first: int) -> Block:
    """A cut of a partition of aggregates: a window of one model."""
    link = builders.aggregate((0, first, 0, 0), (0, first + 1, 10_000, 0), classes=())
    records = builders.records([link], topic="inference.aggregates", first_offset=first)
    (rows,) = record_aggregates(records, {}).blocks
    return rows


async def play(settings: Settings, cut: Callable[[Cutting, float], None], make: Callable[[int], Block]) -> int:
    """One insert for each region; how often the proxy has struck."""
    async with cutting(settings.clickhouse_url) as (proxy, url):
        writer = Writer(settings.model_copy(update={"clickhouse_url": url}))
        await writer.start()
        try:
            for region in range(REGIONS):
                cut(proxy, region / (REGIONS - 1))
                rows = make(1000 * (region + 1))
                await asyncio.wait_for(writer.put(rows, f"t:{region}", Attempt.FIRST, now_ms(), lambda: None), 60)
        finally:
            await writer.stop()
        return proxy.struck


def asked(settings: Settings, sql: str) -> list[Any]:
    return next(iter(oracle.Tables(settings).ask(sql)))


@pytest.mark.parametrize("attempts", [1, 2])
def test_rows_are_in_once_wherever_a_request_is_cut(world: Settings, clickhouse: Server, attempts: int) -> None:
    def cut(proxy: Cutting, share: float) -> None:
        proxy.requests = [share] * attempts

    assert asyncio.run(play(world, cut, events)) == REGIONS * attempts
    count = EVENTS * REGIONS
    assert [int(n) for n in asked(world, "SELECT count(), uniqExact(kafka_offset) FROM inferences")] == [count, count]


def test_windows_are_in_once_wherever_a_request_is_cut(world: Settings, clickhouse: Server) -> None:
    def cut(proxy: Cutting, share: float) -> None:
        proxy.requests = [share]

    assert asyncio.run(play(world, cut, windows)) == REGIONS
    for suffix in ("", "_1m", "_1h", "_1d"):
        (count,) = asked(world, f"SELECT sum(inference_count) FROM model_windows{suffix}")
        assert int(count) == REGIONS * 7, suffix


def test_rows_are_in_once_wherever_an_answer_to_a_question_is_cut(world: Settings, clickhouse: Server) -> None:
    def cut(proxy: Cutting, share: float) -> None:
        proxy.requests, proxy.answers = [0.5], [share]

    assert asyncio.run(play(world, cut, events)) >= REGIONS
    count = EVENTS * REGIONS
    assert [int(n) for n in asked(world, "SELECT count(), uniqExact(kafka_offset) FROM inferences")] == [count, count]


@pytest.mark.parametrize("attempt", [Attempt.FIRST, Attempt.AGAIN])
def test_a_cut_is_in_once_though_others_fill_the_window_while_its_answer_is_lost(
    world: Settings, clickhouse: Server, attempt: Attempt
) -> None:
    small = "ALTER TABLE inferences MODIFY SETTING non_replicated_deduplication_window = 5"
    with connect(world, "admin") as client:
        client.command(small)

    async def put(settings: Settings, first: int, attempt: Attempt) -> None:
        writer = Writer(settings)
        await writer.start()
        try:
            await writer.put(events(first), f"t:{first}", attempt, now_ms(), lambda: None)
        finally:
            await writer.stop()

    async def others() -> None:
        for number in range(15):
            await put(world, 1000 * (number + 2), Attempt.FIRST)

    async def play() -> None:
        async with cutting(world.clickhouse_url) as (proxy, url):
            proxy.meanwhile = others
            through = world.model_copy(update={"clickhouse_url": url})
            await put(through, 1000, attempt)

    asyncio.run(play())
    count = 16 * EVENTS
    assert [int(n) for n in asked(world, "SELECT count(), uniqExact(kafka_offset) FROM inferences")] == [count, count]
