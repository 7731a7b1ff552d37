"""inferwatch alerts on a real broker, and backtests of a real ClickHouse."""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.core.alerting.told import NoSuchAlertError
from pipeline.core.notifying.muting import Silences
from pipeline.edge.kafka.client import KafkaUnavailable
from pipeline.edge.kafka.compacted import write_compacted
from pipeline.edge.operator import alerts as edge
from schemas import alert as alert_schema
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.topics import ALERTS
from tests.alerting import START_S
from tests.alerts import alert, silent
from tests.integration.outside import connect, kafka_says, of_kafka
from tests.integration.seeding import class_windows, insert, model_windows

pytestmark = pytest.mark.integration

Command = Callable[..., tuple[int, str]]

FIRING = alert(AlertState.FIRING, 2)
SILENT = silent("cam-9", site="north")
OVER = alert(AlertState.RESOLVED, 3, model_id="boots/1")


@pytest.fixture
def command(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


def tell(settings: Settings, *events: AlertEvent) -> None:
    for event in events:
        record = {event.fingerprint.encode(): alert_schema.encode(event)}
        asyncio.run(write_compacted(settings, settings.topic(ALERTS.name), record))


def test_alerts_are_listed_acknowledged_and_silenced(world: Settings, command: Command) -> None:
    assert command("alerts", "list") == (0, "No open alerts.\n")
    # The older step comes again: the detector was restarted.
    tell(world, alert(AlertState.PENDING, 1), FIRING, alert(AlertState.PENDING, 1), SILENT, OVER)
    code, out = command("alerts", "list", "--json")
    assert (code, {step["fingerprint"] for step in json.loads(out)}) == (0, {FIRING.fingerprint, SILENT.fingerprint})
    assert {step["state"] for step in json.loads(out)} == {"firing"}
    assert len(json.loads(command("alerts", "list", "--json", "--all")[1])) == 3
    for option, value in (("--device", "cam-9"), ("--severity", Severity.CRITICAL.value)):
        found = json.loads(command("alerts", "list", "--json", option, value)[1])
        assert [step["fingerprint"] for step in found] == [SILENT.fingerprint], option

    code, out = command("alerts", "ack", FIRING.fingerprint[:6], "--author", "ann", "--comment", "on it")
    assert code == 0, out
    taken = kafka_says(world, edge.read).acknowledgement(FIRING)
    assert taken is not None
    assert (taken.author, taken.comment) == ("ann", "on it")
    assert "already acknowledged by ann" in command("alerts", "ack", FIRING.fingerprint)[1]
    for fingerprint, why in (("0" * 16, "there is no alert"), (OVER.fingerprint, "is resolved")):
        with pytest.raises(NoSuchAlertError, match=why):
            command("alerts", "ack", fingerprint)

    of = ("alerts", "silence", "--match", "site=~no.*", "--match", "kind=heartbeat", "--for", "2h")
    code, out = command(*of, "--dry-run")
    assert (code, "1 open alerts would be quiet" in out) == (0, True)
    assert json.loads(command("alerts", "silences", "--json")[1]) == []
    code, out = command(*of, "--kind", "maintenance", "--author", "ann")
    assert code == 0, out
    (quiet,) = kafka_says(world, edge.read_silences).values()
    assert (quiet.kind, quiet.author, quiet.ends_at_ms - quiet.starts_at_ms) == ("maintenance", "ann", 7_200_000)
    told = Silences()
    told.observe(quiet.id, quiet)
    assert told.muting(SILENT, quiet.starts_at_ms) == quiet
    assert told.muting(FIRING, quiet.starts_at_ms) is None
    assert quiet.id in "".join(command("alerts", "list")[1].split())
    assert command("alerts", "expire", quiet.id) == (0, f"{quiet.id}: expired\n")
    assert kafka_says(world, edge.read_silences) == {}
    with pytest.raises(NoSuchAlertError, match="there is no silence"):
        command("alerts", "expire", quiet.id)
    assert command("alerts", "silence", "--match", "site~x", "--for", "2h")[0] == 2
    assert command("alerts", "silence", "--match", "site=~(a+)+", "--for", "2h")[0] == 2


def test_an_anomaly_may_be_called_normal_and_nothing_else(world: Settings, command: Command) -> None:
    strange = alert(AlertState.FIRING, 1, kind=AlertKind.ANOMALY, model_id="gloves/2")
    tell(world, FIRING, strange)
    code, out = command("alerts", "accept", strange.fingerprint, "--author", "ann", "--comment", "new camera")
    assert code == 0, out
    said = kafka_says(world, edge.read).acknowledgement(strange)
    assert said is not None
    assert (said.says, said.author) == ("normal", "ann")
    with pytest.raises(NoSuchAlertError, match="comes from a rule"):
        command("alerts", "accept", FIRING.fingerprint)


def test_steps_are_followed_as_they_come(world: Settings) -> None:
    tell(world, FIRING)
    seen: list[AlertEvent] = []

    async def follow() -> None:
        ended = asyncio.Event()

        def on_step(step: AlertEvent) -> None:
            seen.append(step)
            if len(seen) == 2:
                ended.set()

        following = asyncio.create_task(of_kafka(world, lambda k: edge.follow(k, on_step, ended)))
        number = 3
        async with asyncio.timeout(60):
            while not following.done():  # where it begins is not known from outside
                step = alert(AlertState.RECOVERING, number)
                value = {step.fingerprint.encode(): alert_schema.encode(step)}
                await write_compacted(world, world.topic(ALERTS.name), value)
                await write_compacted(world, world.topic(ALERTS.name), value)
                number += 1
        await following

    asyncio.run(follow())
    assert seen[0].sequence >= 3
    assert seen[1].sequence == seen[0].sequence + 1


def test_kafka_that_is_not_there_is_said(world: Settings) -> None:
    with pytest.raises(KafkaUnavailable, match="does not answer"):
        kafka_says(world.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"}), edge.read)


def test_a_backtest_reads_clickhouse(world: Settings, command: Command, tmp_path: Path) -> None:
    rows = [
        {
            "event_time": START_S + i,
            "workspace": "acme",
            "model_id": "helmets/3",
            "device_id": f"cam-{i % 2}",
            "latency_us": 40_000 + i,
            "detections.class": ["person"],
            "detections.confidence_ppm": [800_000],
            "error": "dark" if 300 <= i < 400 else "",
            "kafka_partition": 0,
            "kafka_offset": i,
        }
        for i in range(1000)
    ]
    with closing(connect(world, "admin")) as client:
        client.command("ALTER TABLE model_windows MODIFY TTL window_start + toIntervalDay(36500)")
        insert(client, "model_windows_in", list(model_windows(rows[::2])))
        insert(client, "model_windows_in", list(model_windows(rows[1::2])))
        insert(client, "class_windows_in", list(class_windows(rows)))
    file = tmp_path / "rules.yaml"
    file.write_text(
        '{rule_id: r, workspace: acme, metric: error_rate, operator: ">", threshold: 0.5, window_s: 60, min_count: 1}'
    )
    code, out = command("detect", "backtest", "--from", "2000-01-01", "--rules", str(file), "--model", "helmets/3")
    assert code == 0, out
    assert "100 windows (300 rows, 1 models)" in " ".join(out.split())
    assert "1 rule" in out
    code, out = command("rules", "test", str(file), "--from", "2000-01-01")
    # More than half of the last minute is dark from the fourth bad window on, and until half of it is well.
    assert (code, out.splitlines()[0]) == (0, "r: would have fired once")
    assert "for 90 s" in out
    assert command("rules", "test", str(file), "--from", "2000-01-01", "--to", "2000-01-02")[0] == 2
