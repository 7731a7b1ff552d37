"""What is applied, what is refused, and what the SQL files become."""

import re

import pytest

from pipeline import config
from pipeline.edge.store.migrations import Migration, MigrationError, known_migrations, missing_migrations

SETTINGS = config.load({})
ONE = Migration(1, "0001_one", "CREATE TABLE IF NOT EXISTS one (a UInt8) ENGINE = Null;\n")
TWO = Migration(2, "0002_two", "CREATE TABLE IF NOT EXISTS two (a UInt8) ENGINE = Null;\n")
STATEMENTS = [s for m in known_migrations() for s in m.statements(SETTINGS)]


def test_the_first_run_applies_all_in_order() -> None:
    assert missing_migrations([ONE, TWO], {}) == [ONE, TWO]


def test_what_is_recorded_is_not_applied_again() -> None:
    assert missing_migrations([ONE, TWO], {1: ONE.checksum}) == [TWO]
    assert missing_migrations([ONE, TWO], {1: ONE.checksum, 2: TWO.checksum}) == []


def test_a_file_that_changed_after_it_was_applied_is_refused() -> None:
    with pytest.raises(MigrationError, match="0001_one was applied with another content"):
        missing_migrations([ONE, TWO], {1: TWO.checksum})


def test_a_database_that_is_newer_than_the_code_is_refused() -> None:
    with pytest.raises(MigrationError, match="the database is at migration 2, this version of inferwatch knows 1"):
        missing_migrations([ONE], {1: ONE.checksum, 2: TWO.checksum})


def test_a_semicolon_at_the_end_of_a_line_ends_a_statement_and_comments_are_not_sent() -> None:
    text = "-- about; this;\nSELECT 1;\n\nSELECT ';' AS a\n    -- and this;\nFROM system.one;\n-- the end\n"
    assert Migration(1, "0001_x", text).statements(SETTINGS) == ["SELECT 1", "SELECT ';' AS a\n\nFROM system.one"]


def test_a_statement_about_each_window_stands_for_four() -> None:
    migration = Migration(1, "0001_x", "SELECT 0;\nSELECT {window_s}, '{window_ttl}' FROM t{window};\n")
    ttl = "TTL window_start + toIntervalDay({})"
    assert migration.statements(SETTINGS) == [
        "SELECT 0",
        f"SELECT 10, '{ttl.format(7)}' FROM t",
        f"SELECT 60, '{ttl.format(90)}' FROM t_1m",
        f"SELECT 3600, '{ttl.format(730)}' FROM t_1h",
        "SELECT 86400, '' FROM t_1d",
    ]


def test_alternatives_in_braces_make_a_statement_each_and_go_together() -> None:
    migration = Migration(1, "0001_x", "SELECT {a|b} FROM {|b_}t;\n")
    assert migration.statements(SETTINGS) == ["SELECT a FROM t", "SELECT b FROM b_t"]


def test_all_windows_can_stand_in_one_statement() -> None:
    text = "SELECT * FROM (/* each window: UNION ALL */ SELECT {window_s} FROM {a|b}{window} /* end */);\n"
    each = re.compile(r"SELECT (\d+) FROM ([ab]\w*)")
    assert [each.findall(s) for s in Migration(1, "0001_x", text).statements(SETTINGS)] == [
        [("10", name), ("60", f"{name}_1m"), ("3600", f"{name}_1h"), ("86400", f"{name}_1d")] for name in "ab"
    ]


def test_a_settings_name_in_braces_is_its_value() -> None:
    assert Migration(1, "0001_x", "SELECT {ttl_windows_days};").statements(SETTINGS) == ["SELECT 7"]


def test_a_name_in_braces_that_is_no_setting_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_x: \{ttl_day\} is no setting"):
        Migration(1, "0001_x", "SELECT {ttl_day};").statements(SETTINGS)


def test_a_setting_does_not_change_the_checksum() -> None:
    other = config.load({}, {"ttl_windows_days": 1})
    migration = known_migrations()[1]
    assert migration.statements(SETTINGS) != migration.statements(other)
    assert missing_migrations([ONE, migration], {1: ONE.checksum, 2: migration.checksum}) == []


def test_every_statement_that_comes_with_the_code_may_run_twice() -> None:
    made, more = (
        r"CREATE ((TABLE|MATERIALIZED VIEW) IF NOT EXISTS|OR REPLACE VIEW) ",
        r"ALTER TABLE \w+ ADD COLUMN IF NOT",
    )
    again = re.compile(f"{made}|{more} EXISTS ")
    assert [s.partition("\n")[0] for s in STATEMENTS if not again.match(s)] == []


def test_every_table_that_keeps_rows_knows_the_names_of_inserts() -> None:
    made = {s.split()[5]: s for s in STATEMENTS if s.startswith("CREATE TABLE")}
    assert len(made) == 20
    kept = {name for name, s in made.items() if "non_replicated_deduplication_window = 100000" in s}
    assert made.keys() - kept == {"model_windows_in", "class_windows_in"}


def test_on_a_cluster_every_statement_runs_everywhere_and_every_table_is_replicated() -> None:
    cluster = config.load({}, {"clickhouse_cluster": "main"})
    statements = [s for m in known_migrations() for s in m.statements(cluster)]
    assert len(statements) == len(STATEMENTS)
    assert [s for s in statements if " ON CLUSTER `main`" not in s.partition("\n")[0]] == []
    tables = [s for s in statements if s.startswith("CREATE TABLE") and "ENGINE = Null" not in s]
    assert [s for s in tables if "ENGINE = Replicated" not in s] == []
    assert [s for s in tables if "    replicated_deduplication_window" in s or "non_replicated" in s] == []
