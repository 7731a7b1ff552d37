"""Migrations on a real ClickHouse: twice, by several at once, interrupted, and with other settings."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
import typer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import SecretStr
from typer.testing import CliRunner

from pipeline.cli.migrate import migrate as migrate_verb
from pipeline.config import Settings, to_environ
from pipeline.edge.store.client import ClickHouseUnavailable
from pipeline.edge.store.migrations import Migration, MigrationError, known_migrations
from pipeline.edge.store.tenancy import policies
from pipeline.edge.store.users import statements_for_users
from tests.integration.engines import Engines, world_settings
from tests.integration.outside import connect, ensure_users, migrate

pytestmark = pytest.mark.integration

FILES = "users are managed by files here (users.xml): nothing changed"
NAMES = [m.name for m in known_migrations()]
SINGLE_RECORDS = (
    "inferences", "device_heartbeats", "inference_metadata", "dead_letters", "dead_letter_replays", "vision_events",
)  # fmt: skip
VIEWS = {
    *(f"{name}_stats{window}" for name in ("model", "device", "class") for window in ("", "_1m", "_1h", "_1d")),
    *("inference_details", "pipeline_lag", "alert_state", "open_alerts", "models", "table_parts"),
}
WITH_PARAMETERS = {"model_rollup", "class_rollup", "model_range", "class_range"}  # tests/integration/test_grafana.py


@pytest.fixture
def empty(engines: Engines) -> Iterator[Settings]:
    """A database of this test's own that is not there yet."""
    engines.revive()
    settings = world_settings(engines)
    yield settings
    with closing(connect(settings, "admin", database="default")) as client:
        client.command(f"DROP DATABASE IF EXISTS {settings.clickhouse_database}")


@pytest.fixture
def client(empty: Settings) -> Iterator[Client]:
    with closing(connect(empty, "admin", database="default")) as client:
        yield client


def recorded(client: Client, settings: Settings) -> list[tuple[int, str]]:
    query = f"SELECT version, name FROM {settings.clickhouse_database}.schema_migrations FINAL ORDER BY version"
    return [(int(version), str(name)) for version, name in client.query(query).result_rows]


def retention(client: Client, settings: Settings) -> dict[str, int]:
    """Table -> days."""
    rows = client.query(
        "SELECT name, toUInt32OrZero(extract(engine_full, 'TTL .*toIntervalDay\\((\\d+)\\)')) FROM system.tables "
        "WHERE database = {database:String} AND engine LIKE '%MergeTree'",
        {"database": settings.clickhouse_database},
    ).result_rows
    return {str(name): int(days) for name, days in rows}


def run(arguments: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in to_environ(settings).items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    app.command()(migrate_verb)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_first_run_makes_everything_and_a_second_run_nothing(empty: Settings, client: Client) -> None:
    assert migrate(empty) == NAMES
    assert migrate(empty) == []
    assert recorded(client, empty) == list(enumerate(NAMES, start=1))
    views = client.query(
        "SELECT name FROM system.tables WHERE database = {database:String} AND engine = 'View'",
        {"database": empty.clickhouse_database},
    ).result_rows
    assert {name for (name,) in views} == VIEWS | WITH_PARAMETERS
    for view in VIEWS:
        client.query(f"SELECT * FROM {empty.clickhouse_database}.{view}")


def test_several_processes_at_once_all_succeed_and_leave_one_whole_database(empty: Settings, client: Client) -> None:
    code = "from pipeline.config import load; from tests.integration.outside import migrate; migrate(load())"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, env=to_environ(empty), stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 3
    assert migrate(empty) == []
    assert recorded(client, empty) == list(enumerate(NAMES, start=1))


def test_a_file_that_changed_after_it_was_applied_is_refused_and_nothing_is_done(
    empty: Settings, client: Client
) -> None:
    first, *others = known_migrations()
    migrate(empty, [first])
    with pytest.raises(MigrationError, match="0001_inferences was applied with another content"):
        migrate(empty, [Migration(1, first.name, first.text + "-- later\n"), *others])
    assert recorded(client, empty) == [(1, first.name)]


def test_a_database_that_is_newer_than_the_code_is_refused(empty: Settings) -> None:
    migrate(empty)
    with pytest.raises(MigrationError, match=f"at migration {len(NAMES)}, this version of inferwatch knows 1"):
        migrate(empty, known_migrations()[:1])


def test_a_failing_statement_is_named_and_the_next_run_goes_on_there(empty: Settings, client: Client) -> None:
    broken = Migration(2, "0002_more", "CREATE TABLE IF NOT EXISTS a (x UInt8) ENGINE = Null;\nCREATE NONSENSE;\n")
    first = known_migrations()[0]
    with pytest.raises(MigrationError, match=r"^0002_more: .*NONSENSE"):
        migrate(empty, [first, broken])
    assert recorded(client, empty) == [(1, first.name)]
    repaired = Migration(2, "0002_more", broken.text.replace("CREATE NONSENSE", "SELECT 1"))
    assert migrate(empty, [first, repaired]) == ["0002_more"]


def test_retention_follows_the_settings_on_every_run(empty: Settings, client: Client) -> None:
    migrate(empty)
    expected = {
        **dict.fromkeys(SINGLE_RECORDS, 30),
        **dict.fromkeys(("model_windows", "class_windows"), 7),
        **dict.fromkeys(("model_windows_1m", "class_windows_1m"), 90),
        **dict.fromkeys(("model_windows_1h", "class_windows_1h"), 730),
        **dict.fromkeys(("model_windows_1d", "class_windows_1d", "alerts", "kafka_logs", "schema_migrations"), 0),
        **dict.fromkeys(("model_devices", "model_classes"), 0),
    }
    assert retention(client, empty) == expected

    changed = empty.model_copy(update={"ttl_inferences_days": 14, "ttl_windows_1h_days": 365})
    assert set(migrate(changed)) == {
        "class_windows_1h is kept for 365 days",
        "model_windows_1h is kept for 365 days",
        *(f"{table} is kept for 14 days" for table in SINGLE_RECORDS),
    }
    assert migrate(changed) == []
    expected |= dict.fromkeys(SINGLE_RECORDS, 14)
    expected |= dict.fromkeys(("model_windows_1h", "class_windows_1h"), 365)
    assert retention(client, empty) == expected


def test_a_removed_retention_comes_back(empty: Settings, client: Client) -> None:
    migrate(empty)
    client.command(f"ALTER TABLE {empty.clickhouse_database}.model_windows REMOVE TTL")
    assert migrate(empty) == ["model_windows is kept for 7 days"]


def test_no_clickhouse_is_one_line(empty: Settings) -> None:
    with pytest.raises(ClickHouseUnavailable) as failed:
        migrate(empty.model_copy(update={"clickhouse_url": "http://127.0.0.1:1"}))
    assert "\n" not in str(failed.value)


def test_users_are_made_by_sql_or_left_to_the_files_that_manage_them(engines: Engines, empty: Settings) -> None:
    migrate(empty)
    for _ in range(2):
        report = ensure_users(empty)
        if engines.users_by_sql:
            writer, reader = empty.clickhouse_user, empty.clickhouse_reader_user
            assert report == [f"writer: {writer} may insert and select", f"reader: {reader} may select"]
        else:
            assert report == [FILES]


def test_the_writer_writes_the_reader_reads_and_neither_does_more(engines: Engines, empty: Settings) -> None:
    migrate(empty)
    ensure_users(empty)
    window = "INSERT INTO model_windows_in (workspace, window_start, inference_count) VALUES ('acme', now(), 3)"
    with closing(connect(empty, "writer")) as writer, closing(connect(empty, "reader")) as reader:
        writer.command(window)
        assert reader.query("SELECT inference_count FROM model_stats_1d").result_rows == [(3,)]
        for client, statement in ((writer, "DROP TABLE inferences"), (reader, window), (reader, "TRUNCATE inferences")):
            with pytest.raises(ClickHouseError, match=r"Not enough privileges|Cannot execute query in readonly mode"):
                client.command(statement)


def test_the_statements_for_users_are_sql_and_hold_no_password(empty: Settings, client: Client) -> None:
    # All that can be shown here: the embedded engine has no SQL access control.
    settings = Settings(
        clickhouse_user="wri`ter",
        clickhouse_password=SecretStr("pass'word"),
        clickhouse_admin_user="admin",
        clickhouse_reader_password=SecretStr("pass'word"),
        clickhouse_query_password=SecretStr("pass'word"),
    )
    statements, _ = statements_for_users(settings)
    assert len(statements) == 9 + 4 * len(policies())
    for statement in statements:
        client.query(f"EXPLAIN AST {statement}")
        assert "pass'word" not in statement


def test_what_a_cluster_is_given_is_sql(empty: Settings, client: Client) -> None:
    # That it runs cannot be shown here: the embedded engine has no Keeper, so no replicated table.
    cluster = empty.model_copy(
        update={
            "clickhouse_cluster": "main",
            "clickhouse_reader_password": SecretStr("secret"),
            "clickhouse_query_password": SecretStr("secret"),
        }
    )
    statements = [s for m in known_migrations() for s in m.statements(cluster)] + statements_for_users(cluster)[0]
    for statement in statements:
        # formatQuery has no parameters of its own to fill those of the views in.
        ((told,),) = client.query(f"SELECT formatQuerySingleLine($sql${statement}$sql$)").result_rows
        assert "ON CLUSTER main" in told


def test_the_verb_prints_a_line_for_each_thing_done(empty: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([], empty, monkeypatch).splitlines() == NAMES
    assert run([], empty, monkeypatch).splitlines() == [
        f"{empty.clickhouse_database} is up to date ({len(NAMES)} migrations)"
    ]
    assert json.loads(run(["--json", "--users"], empty, monkeypatch)) == {
        "database": empty.clickhouse_database,
        "applied": [],
        "users": ensure_users(empty),
    }
