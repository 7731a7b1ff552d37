"""The dashboards over the demo's own data, by its own way: devices, Kafka, workers, ClickHouse."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.publish import publishing
from pipeline.trial.demo.digits import MODELS, train
from pipeline.trial.demo.job import DEGRADED, Demo
from pipeline.trial.phases import Schedule
from tests.integration.grafana import Query, expand, interval_ms, load_dashboards, queries
from tests.integration.grafana.choices import chosen_at_first
from tests.integration.outside import connect
from tests.integration.workers import eventually, fleet

pytestmark = pytest.mark.integration

WINDOW_S, RANGE_MS = 10, 900_000
# Nobody is alerted and nothing is refused within half a minute of the demo; at its end the devices say that they stop;
# two of the rules want an hour to compare with.
MAY_BE_EMPTY = {
    "Alerts: panel Open alerts", "Alerts: panel Alerts started", "Alerts: panel History",
    "Alerts: panel Time to resolve",
    "Pipeline: panel Refused records", "Pipeline: panel Latest refused records",
    "alert rules: alert Confidence sank", "alert rules: alert Inference time grew",
    "alert rules: alert A device fell silent",
}  # fmt: skip


@pytest.fixture
def reader(world: Settings) -> Iterator[Client]:
    with closing(connect(world, "reader")) as client:
        yield client


def play(settings: Settings, images: Path) -> int:
    """A demo whose second model's cameras are noisy in its last window, and clear before; how many it published."""
    digits = train(images)
    until_s = WINDOW_S - now_ms() / 1000 % WINDOW_S
    healthy_s = until_s if until_s > 5 else until_s + WINDOW_S

    async def run() -> int:
        async with publishing(settings) as publisher:
            demo = Demo(settings, digits, publisher, Schedule(healthy_s, (3600.0,) * 4), 4)
            await demo.run(asyncio.Event(), healthy_s + WINDOW_S)
            return sum(demo.published.values())

    return asyncio.run(run())


def test_no_panel_is_empty_on_the_demos_data_and_the_degraded_model_is_seen(
    world: Settings, reader: Client, tmp_path: Path
) -> None:
    with fleet(world, tmp_path) as workers:
        workers.wait_ready(*(workers.start(role) for role in ("aggregator", "recorder")))
        published = play(world, tmp_path)

        def counted() -> int:
            return int(reader.query("SELECT sum(inference_count) FROM model_windows").result_rows[0][0])

        eventually(lambda: counted() == published, 60, "every inference is in a window", lambda: (counted(), published))
        opened_now = dict(opened(reader, now_ms()))
    empty = {str(query) for query, rows in opened_now.items() if not shows(query, rows)}
    assert empty - MAY_BE_EMPTY == set()
    answers = {str(query): rows for query, rows in opened_now.items()}
    assert fall(answers, DEGRADED) > 0.1 > fall(answers, MODELS[0])


def shows(query: Query, rows: list[dict[str, Any]]) -> bool:
    """Whether somebody sees something: a number of its last row in a single number, else any row."""
    if query.panel_type == "stat":
        return list(rows[-1].values())[-1] is not None
    return bool(rows) or query.kind == "annotation"


def fall(answers: dict[str, list[dict[str, Any]]], model_id: str) -> float:
    """By how much a model's confidence sank on Fleet, between windows of 30 inferences or more."""
    full = {
        row["time"]
        for row in answers["Fleet: panel Requests by model"]
        if row["model_id"] == model_id and row["value"] * WINDOW_S >= 30
    }
    rows = answers["Fleet: panel Average confidence by model"]
    first, *later = [row["value"] for row in rows if row["model_id"] == model_id and row["time"] in full]
    return float(first - min(later))


def opened(reader: Client, until_ms: int) -> Iterator[tuple[Query, list[dict[str, Any]]]]:
    """What somebody sees who has just opened each dashboard, with the last 15 minutes."""
    dashboards = load_dashboards()
    chosen = {
        title: chosen_at_first(reader, dashboard, until_ms - RANGE_MS, until_ms)
        for title, dashboard in dashboards.items()
    }
    for query in queries():
        since_ms = until_ms - (query.range_ms or RANGE_MS)
        step_ms = interval_ms(since_ms, until_ms, query.min_interval_ms, query.max_data_points)
        sql = expand(query.sql, since_ms, until_ms, step_ms, chosen.get(query.dashboard, {}))
        yield query, list(reader.query(sql).named_results())
