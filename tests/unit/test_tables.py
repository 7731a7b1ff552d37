"""Rows fit the tables that the migrations make."""

import re
from collections import Counter

import numpy as np
import pytest

from pipeline.config import load
from pipeline.core.rows.blocks import Block
from pipeline.core.rows.devices import record_heartbeats, record_metadata
from pipeline.core.rows.inferences import record_events
from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.vision_events import record_vision_events
from pipeline.core.rows.windows import record_aggregates
from pipeline.edge.store.migrations import known_migrations
from tests.builders import LIMITS, aggregate, event, heartbeat, metadata, records, vision_record
from tests.native_reader import read_block

SQL = "\n".join(statement for migration in known_migrations() for statement in migration.statements(load({})))


def rows_by_table() -> dict[str, Block]:
    """Some rows for every table that the recorder writes."""
    recorded: list[Recorded] = [
        record_events(records([event(), b"{"]), LIMITS),
        record_heartbeats(records([heartbeat()])),
        record_metadata(records([metadata()])),
        record_vision_events(records([vision_record()])),
        record_aggregates(records([aggregate()]), {}),
    ]
    return {rows.table: rows for r in recorded for rows in r.blocks}


def created(table: str) -> dict[str, str]:
    """Column -> type of a table, without what an insert need not know: the time zone, and whether names recur."""
    table = table.removesuffix("_in")  # which is made AS the table that it feeds
    found = re.search(rf"CREATE TABLE IF NOT EXISTS {table}\n\((.*?)\n(?:\)|\n)", SQL, re.DOTALL)
    assert found, table
    columns = {}
    for line in found.group(1).strip().splitlines():
        name, type_ = line.strip().rstrip(",").split(None, 1)
        if "DEFAULT" not in type_:
            columns[name.strip("`")] = plain(type_).replace("(3, 'UTC')", "(3)").replace("('UTC')", "")
    return columns


def plain(type_: str) -> str:
    """A LowCardinality column takes what its inner type takes, and so does one that merges by a function."""
    return re.sub(r"LowCardinality\((\w+)\)", r"\1", re.sub(r"^SimpleAggregateFunction\(\w+, (.*)\)$", r"\1", type_))


@pytest.mark.parametrize(
    "table",
    [
        "inferences", "device_heartbeats", "inference_metadata", "vision_events", "dead_letters", "model_windows_in",
        "class_windows_in",
    ],
)  # fmt: skip
def test_rows_have_the_columns_that_the_migrations_make(table: str) -> None:
    rows = rows_by_table()[table]
    types, found = read_block(rows.body, strings=bytes)
    assert {name: plain(type_) for name, type_ in types.items()} == created(table)
    assert len(found) == len(rows) == 1


def test_a_table_of_many_rows_can_be_cut_to_some() -> None:
    (rows,) = record_events(records([event(event_id=name) for name in "abc"], first_offset=7), LIMITS).blocks
    some = rows.take(np.array([2, 0]))
    assert some.table == "inferences"
    assert some.offsets.tolist() == [9, 7]
    assert [row["event_id"] for row in read_block(some.body)[1]] == ["c", "a"]
    assert len(rows.take(np.zeros(0, np.int64))) == 0


def test_records_that_make_no_rows_record_nothing() -> None:
    """A cut of repeats only."""
    recorded = record_aggregates(records([aggregate(models=(), classes=())]), {})
    assert recorded.blocks == ()
    assert recorded.refused == Counter()
