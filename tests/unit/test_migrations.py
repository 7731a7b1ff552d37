"""What is applied, what is refused, and what the SQL files become."""

import re

import pytest

from pipeline import config
from pipeline.edge.store.migrations import EACH_WINDOW, Migration, MigrationError, known_migrations, missing_migrations

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
    migration = Migration(1, "0001_x", "SELECT 0;\nSELECT '{each_window}' FROM t{each_window};\n")
    assert migration.statements(SETTINGS) == [
        "SELECT 0",
        *(f"SELECT '{w}' FROM t{w}" for w in ("", "_1m", "_1h", "_1d")),
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
    again = re.compile(
        r"CREATE TABLE IF NOT EXISTS |CREATE MATERIALIZED VIEW IF NOT EXISTS |CREATE OR REPLACE VIEW |"
        r"ALTER TABLE \w+ (ADD|DROP) \w+ IF (NOT )?EXISTS |ALTER TABLE \w+ MATERIALIZE PROJECTION |"
        r"INSERT INTO model_(devices|classes)\n"  # tables of least and greatest: what is there twice counts once
    )
    assert [s.partition("\n")[0] for s in STATEMENTS if not again.match(s)] == []


def test_every_table_that_keeps_what_the_recorder_writes_deduplicates() -> None:
    rows = ("inferences", "device_heartbeats", "inference_metadata", "dead_letters", "alerts")
    windows = [f"{kind}_windows{window}" for kind in ("model", "class") for window in EACH_WINDOW]
    made = {
        name[1]
        for s in STATEMENTS
        if (name := re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", s))
        and "non_replicated_deduplication_window = 100000" in s
    }
    assert made == {*rows, *windows, "model_devices", "model_classes"}
