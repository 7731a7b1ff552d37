"""Blocks taken apart again, as a mend does."""

import numpy as np
import pytest

from pipeline.core.rows.alerts import record_alerts
from pipeline.core.rows.blocks import Block, read
from pipeline.core.rows.devices import record_heartbeats, record_metadata
from pipeline.core.rows.inferences import record_events
from pipeline.core.rows.native import block
from pipeline.core.rows.windows import record_aggregates
from schemas.alert import encode
from tests import alerting
from tests.builders import LIMITS, START_MS, aggregate, event, heartbeat, metadata, prediction, records
from tests.native_reader import read_block

EVENTS = [
    event(tags=["a", "b"], metadata={"site": "s1", "line": 4}),
    event(predictions=[], latency_ms=None, device_id="é"),
    event(predictions=[prediction("x", 0.5, x=1.0, tracker_id="7"), prediction("y", 1)], error="no memory"),
    b"{",
]
LINKS = [
    aggregate((0, 0, 0, 0), (0, 10, 1, 0), models=({}, {"window_start_s": START_MS // 1000 + 70})),
    aggregate((0, 10, 1, 0), (0, 20, 2, 0), models=({"latency_count": 0, "latency_histogram": {}},), classes=()),
]
BLOCKS = [
    *record_events(records(EVENTS), LIMITS).blocks,
    *record_heartbeats(records([heartbeat(tags=["t"])])).blocks,
    *record_metadata(records([metadata()])).blocks,
    *record_alerts(records([encode(alerting.event(labels={"team": "vision"}))])).blocks,
    *record_aggregates(records(LINKS, partition=6), {}, epoch=2).blocks,
]


@pytest.mark.parametrize("found", BLOCKS, ids=lambda found: found.table)
def test_what_is_read_back_makes_the_same_bytes(found: Block) -> None:
    columns = read(found.body)
    assert tuple(columns) == found.names
    assert block(columns, len(found)) == found.body
    assert len(found.place.times) == len(found) > 0


@pytest.mark.parametrize("found", BLOCKS, ids=lambda found: found.table)
def test_some_rows_are_taken_in_any_order(found: Block) -> None:
    last = len(found) - 1
    some = found.take(np.array([last, 0]))
    whole = read_block(found.body)[1]
    assert repr(read_block(some.body)[1]) == repr([whole[last], whole[0]])  # as text: NaN is not itself
    assert some.offsets.tolist() == found.offsets[[last, 0]].tolist()
    assert some.place.times.tolist() == found.place.times[[last, 0]].tolist()
    assert read_block(found.take(np.zeros(0, np.int64)).body)[1] == []


def test_a_rollup_is_asked_and_mended_by_the_starts_of_its_windows() -> None:
    (models,) = (one for one in BLOCKS if one.table == "model_windows_in")
    starts = [START_MS // 1000 + after for after in (0, 70, 0)]
    assert models.place.times.tolist() == starts
    minutes = models.floored("model_windows_1m", 60)
    assert minutes.table == "model_windows_1m"
    floored = [start // 60 * 60 for start in starts]
    assert minutes.place.times.tolist() == floored
    assert [row["window_start"] for row in read_block(minutes.body)[1]] == floored
    assert minutes.names == models.names


def test_a_place_says_what_a_table_is_asked_by() -> None:
    letters, models = (next(one for one in BLOCKS if one.table == t) for t in ("dead_letters", "model_windows_in"))
    assert (letters.place.topic, letters.place.partition) == ("inference.events", 3)
    assert letters.place.times.tolist() == [START_MS + 3]
    (source,) = {str(row["source"]) for row in read_block(models.body)[1]}
    last = int(models.place.marks(np.array([101]))[0])
    assert source == str({6: last})
