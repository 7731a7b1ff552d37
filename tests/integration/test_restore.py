"""ClickHouse lost what it had, or some of it: what Kafka still holds is put back, and nothing twice."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.config import Settings, to_environ
from pipeline.edge.kafka.client import GroupInUseError
from pipeline.edge.local.clickhouse import EmbeddedClickHouse
from schemas.topics import EVENTS
from tests.integration.engines import Server
from tests.integration.feed import Feed, Traffic, own_time
from tests.integration.groups import committed
from tests.integration.outside import connect
from tests.integration.proof import prove, quick
from tests.integration.test_doctor import examined
from tests.integration.workers import eventually, fleet

pytestmark = pytest.mark.integration


def rewind(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, str]]:
    """The operator's command."""
    for name, value in to_environ(settings).items():
        monkeypatch.setenv(name, value)

    def run() -> tuple[int, str]:
        result = CliRunner().invoke(app, ["topics", "rewind", "--since", "1d", "--yes"])
        refused = result.exception if isinstance(result.exception, GroupInUseError) else ""
        return result.exit_code, f"{result.output}{refused}"

    return run


def test_what_clickhouse_lost_comes_back_from_kafka_seed_19(
    world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(world)
    own_time(settings)
    again = rewind(settings, monkeypatch)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        Feed(settings, Traffic(seed=19, events=1500, rate=600)).start().join()
        want = prove(settings, workers)
        assert want.rows["inferences"]

        # Rows, and whole window tables (their rows are not asked for one by one); the cuts' tokens are still known.
        with closing(connect(settings, "admin")) as client:
            for table, where in (
                ("inferences", "kafka_offset % 3 = 0"),
                ("dead_letters", "1"),
                ("model_windows", "1"),
                ("class_windows_1d", "1"),
            ):
                client.command(f"ALTER TABLE {table} DELETE WHERE {where} SETTINGS mutations_sync = 2")
        code, out = again()
        assert (code, "are looked at again" in out) == (0, True), out
        workers.start_both()
        prove(settings, workers)


def test_what_clickhouse_could_not_read_is_told_and_comes_back_seed_23(
    world: Settings, clickhouse: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(clickhouse, EmbeddedClickHouse):
        pytest.skip("the files of a server in a container are out of reach")
    settings = quick(world)
    own_time(settings)
    again = rewind(settings, monkeypatch)
    with fleet(settings, tmp_path) as workers:
        workers.start_both()
        Feed(settings, Traffic(seed=23, events=1500, rate=600)).start().join()
        prove(settings, workers)

        damaged = ("inferences", "class_windows", "dead_letters")
        with closing(connect(settings, "admin")) as client:
            rows = client.query(
                "SELECT table, argMax(path, rows) FROM system.parts "
                "WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)} GROUP BY table",
                parameters={"tables": list(damaged)},
            ).result_rows
        assert len(rows) == len(damaged)
        clickhouse.kill9()
        for _, path in rows:  # as a full disk leaves them
            for file in filter(Path.is_file, (clickhouse.directory / path).rglob("*")):
                os.truncate(file, 0)
        clickhouse.start()

        lost = examined(settings)["detached parts"]
        assert not lost.ok
        assert all(f"1 of {table} (broken-on-start)" in lost.text for table in damaged), lost.text
        assert "inferwatch topics rewind" in lost.text
        code, out = again()
        assert code == 0, out
        workers.start_both()
        prove(settings, workers)


def test_a_backup_of_yesterday_and_what_kafka_holds_make_the_whole_seed_20(
    world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(world)
    own_time(settings)
    database = settings.clickhouse_database
    again = rewind(settings, monkeypatch)
    admin = connect(settings, "admin", database="default", session_id=database)  # such a backup lives in a session
    admin.set_client_setting("session_timeout", 600)
    with fleet(settings, tmp_path) as workers, closing(admin) as client:
        workers.start_both()
        feed = Feed(settings, Traffic(seed=20, events=2000, rate=300)).start()
        eventually(lambda: feed.sent > 1000, 30, "half is sent")
        client.command(f"BACKUP DATABASE {database} TO Memory('{database}')")  # in the middle of everything
        feed.join()
        prove(settings, workers)

        client.command(f"DROP DATABASE {database} SYNC")
        client.command(f"RESTORE DATABASE {database} FROM Memory('{database}')")
        assert again()[0] == 0
        workers.start_both()
        Feed(settings, Traffic(seed=21, events=300, rate=600)).start().join()
        prove(settings, workers)


def test_a_recorder_that_runs_is_not_turned_back(
    world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = rewind(world, monkeypatch)
    with fleet(world, tmp_path) as workers:
        workers.wait_ready(workers.start("recorder"))
        Feed(world, Traffic(seed=22, events=100, rate=500, speed=1)).start().join()
        events = world.topic(EVENTS.name)

        def has_committed() -> bool:
            return any(at.offset for tp, at in committed(world, "recorder").items() if tp.topic == events)

        eventually(has_committed, 30, "it has committed")
        code, out = again()
    assert (code, "stop the recorder workers first" in out) == (1, True), out
