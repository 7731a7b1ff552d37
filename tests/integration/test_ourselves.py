"""What inferwatch says of itself while ClickHouse is away: that it is away, and all the rest as ever."""

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import put_rules
from pipeline.edge.kafka.producer import OutRecord, Producer
from schemas import aggregate, alert
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertState
from schemas.topics import AGGREGATES, ALERTS, EVENTS
from tests import builders
from tests.alerting import rule
from tests.integration.engines import Server
from tests.integration.outside import connect
from tests.integration.test_produce import read_topic
from tests.integration.workers import eventually, fleet

pytestmark = pytest.mark.integration

STANDSTILL, DEAD_LETTERS, CONFIDENCE = "recorder_standstill_s", "dead_letter_share", "confidence_mean"
FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED


def steps(settings: Settings) -> list[AlertEvent]:
    """All that was told."""
    decoded = [alert.decode(record.value) for record in asyncio.run(read_topic(settings, ALERTS.name))]
    return [one for one in decoded if isinstance(one, AlertEvent)]


def told(settings: Settings, metric: str, state: AlertState) -> list[AlertEvent]:
    """Steps about a metric, each once."""
    return list({one.id: one for one in steps(settings) if (one.metric, one.state) == (metric, state)}.values())


def counted(settings: Settings) -> tuple[int, Counter[str]]:
    """Events that the aggregator has read, and those it has refused, by reason."""
    read, refused = 0, Counter[str]()
    for record in asyncio.run(read_topic(settings, AGGREGATES.name)):
        link = aggregate.decode(record.value)
        assert isinstance(link, AggregateRecord)
        read += link.read_count
        refused.update(link.refused)
    return read, refused


def wait_told(settings: Settings, metrics: set[str], state: AlertState, timeout_s: float = 90) -> None:
    """A step about each of these metrics was told."""

    def whole() -> bool:
        return {one.metric for one in steps(settings) if one.state is state} >= metrics

    eventually(
        whole, timeout_s, f"{state} {metrics}", lambda: [(s.metric, s.state, s.summary) for s in steps(settings)]
    )


def resolve(settings: Settings, step: AlertEvent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person says that this is over."""
    for name, value in to_environ(settings).items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(
        app, ["alerts", "resolve", step.fingerprint[:8], "--author", "kim", "--comment", "moved"]
    )
    assert (result.exit_code, "resolved by kim" in result.output) == (0, True), result.output
    (end,) = [one for one in told(settings, step.metric, RESOLVED) if one.episode == step.episode]
    assert end.summary == f"closed by kim: moved; before: {step.summary}"


def publish(settings: Settings, good: int, bad: int, confidence: float) -> None:
    """Events of now, and records that are none, over all partitions."""
    predictions = [builders.prediction(confidence=confidence)]
    values = [builders.event(event_id=str(i), event_time_ms=now_ms(), predictions=predictions) for i in range(good)]
    values += [b"{"] * (bad - bad // 2) + [orjson.dumps({"event_id": "no more"})] * (bad // 2)
    records = [OutRecord(b"", value, i % EVENTS.partitions) for i, value in enumerate(values)]

    async def send() -> None:
        output = Producer(Kafka(settings))
        try:
            await output.send(settings.topic(EVENTS.name), records, lambda: None)
        finally:
            await output.stop()

    asyncio.run(send())


def test_without_clickhouse_it_says_so_and_of_refused_records_and_models_as_ever(
    world: Settings, clickhouse: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.model_copy(update={"standstill_s": 15, "dead_letter_window_s": 10})
    asyncio.run(put_rules(settings, [rule(metric=CONFIDENCE, operator="<", threshold=0.72)]))
    with fleet(settings, tmp_path) as workers:
        first = [workers.start(role) for role in ("aggregator", "recorder", "detector")]
        workers.wait_ready(*first)
        clickhouse.stop()
        publish(settings, 950, 50, confidence=0.3)
        wait_told(settings, {STANDSTILL, DEAD_LETTERS, CONFIDENCE}, FIRING)
        (worse,) = told(settings, CONFIDENCE, FIRING)
        resolve(settings, worse, monkeypatch)
        first[-1].kill9()
        workers.wait_ready(workers.start("detector"))
        assert not clickhouse.alive
        clickhouse.start()
        publish(settings, 3000, 0, confidence=0.9)
        wait_told(settings, {STANDSTILL, DEAD_LETTERS, CONFIDENCE}, RESOLVED)
        # What is read is counted when its window closes.
        eventually(lambda: counted(settings)[0] == 4000, 60, "all is counted", lambda: counted(settings))
        with closing(connect(settings, "admin")) as client:

            def all_recorded() -> bool:
                rows = client.query("SELECT metric, state FROM alerts").result_rows
                return {tuple(row) for row in rows} == {(one.metric, one.state.value) for one in steps(settings)}

            eventually(all_recorded, 60, "each step is a row")
        workers.end_all()
    (stuck,) = told(settings, STANDSTILL, FIRING)
    assert stuck.summary.startswith("nothing was written to ClickHouse for 1")
    assert stuck.value is not None
    assert stuck.value >= 15
    (refused,) = told(settings, DEAD_LETTERS, FIRING)
    # The boundary between two windows may cut through what was sent; all cuts together have counted all of it once.
    assert refused.value == sum(refused.evidence["refused"].values()) / refused.evidence["read"] > 0.01
    assert "records of inference.events in 10 s were refused" in refused.summary
    assert counted(settings) == (4000, {"not_json": 25, "missing_field": 25})
    once: dict[str, AlertEvent] = {}
    for one in steps(settings):
        assert once.setdefault(one.id, one) == one
    assert not [one for one in steps(settings) if one.metric == "aggregator_standstill_s"]
