"""The aggregator's machine: what it takes from the log, what a cut is called, and where a restart begins."""

from typing import Any

import pytest

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.windows import aggregation
from pipeline.core.windows.aggregation import Cut, PartitionAggregator
from pipeline.core.windows.publication import records
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from schemas.rejection import Reason
from tests.builders import FAR_MS, LIMITS, START_MS, batch, event
from tests.recount import Rows, merged

A, B, C = START_MS, START_MS + 10_000, START_MS + 20_000  # three windows, by their start
FIRST = 50  # offset


def machine(name: AggregatorName | None = None) -> PartitionAggregator:
    return PartitionAggregator(name or AggregatorName.begin(FIRST), LIMITS)


def observe(m: PartitionAggregator, *values: bytes | None, first: int | None = None) -> aggregation.Observed:
    """The next records, all of the same broker time."""
    start = m.next_offset if first is None else first
    return m.observe(batch(range(start, start + len(values)), [START_MS] * len(values), values))


def at(*times_ms: int, **fields: Any) -> list[bytes]:
    """Events of these times."""
    return [event(event_time_ms=time_ms, **fields) for time_ms in times_ms]


def restored(cut: Cut) -> PartitionAggregator:
    """A machine that finds the cut's name committed."""
    return machine(AggregatorName.parse(cut.name.low, cut.name.metadata()))


def rows(cut: Cut | None) -> Rows:
    assert cut is not None
    decoded = [aggregate.decode(raw) for _, raw in records(cut, 0)]
    return merged(r for r in decoded if isinstance(r, AggregateRecord))


def inferences(cut: Cut | None) -> dict[int, int]:
    """Window start in ms -> inferences, of all models."""
    found: dict[int, int] = {}
    for (table, window_s, *_), row in rows(cut).items():
        if table == "model":
            found[window_s * 1000] = found.get(window_s * 1000, 0) + row["inference_count"]
    return found


# -- what is taken


def test_accepted_and_refused_records_are_counted() -> None:
    observed = observe(machine(), event(), b"{", event(), None, event(latency_ms=-1))
    assert observed.accepted == 2
    assert observed.refused == {Reason.NOT_JSON: 2, Reason.OUT_OF_RANGE: 1}


def test_every_number_of_an_event_is_in_its_rows() -> None:
    m = machine()
    observe(m, event(latency_ms=0.0015, error="no"), event(latency_ms=None, error="", predictions=[], device_id=None))
    found = rows(m.cut(B, 1))
    device = found["model", A // 1000, "acme", "helmets/3", "cam-7"]
    assert (device["inference_count"], device["error_count"], device["empty_count"]) == (1, 1, 0)
    assert (device["latency_count"], device["latency_us_sum"]) == (1, 2)
    assert (device["detection_count"], device["confidence_ppm_max"]) == (1, 910_000)
    nobody = found["model", A // 1000, "acme", "helmets/3", ""]
    assert (nobody["inference_count"], nobody["error_count"], nobody["empty_count"]) == (1, 0, 1)
    assert nobody["latency_count"] == nobody["detection_count"] == 0
    assert found["class", A // 1000, "acme", "helmets/3", "person"]["inference_count"] == 1


def test_a_records_own_broker_time_bounds_its_event_time() -> None:
    m = machine()
    observed = m.observe(batch([FIRST, FIRST + 1], [START_MS, START_MS + 1], at(*[START_MS - LIMITS.age_ms_max] * 2)))
    assert (observed.accepted, observed.refused) == (1, {Reason.OUT_OF_RANGE: 1})


def test_refused_records_are_passed() -> None:
    m = machine()
    observe(m, b"{", None)
    assert m.next_offset == FIRST + 2
    assert not m.has_pending(FAR_MS)


def test_offsets_may_have_holes() -> None:
    m = machine()
    m.observe(batch([FIRST + 3, FIRST + 10], [START_MS] * 2, at(A, B)))
    assert (m.next_offset, m.low) == (FIRST + 11, FIRST)
    cut = m.cut(B, 1)
    assert cut is not None
    assert cut.low_after == FIRST + 10


def test_records_behind_what_was_read_stop_the_worker() -> None:
    m = machine()
    observe(m, *at(A, A))
    with pytest.raises(AssertionError):
        observe(m, *at(A), first=FIRST + 1)


# -- when there is a cut


def test_without_anything_to_say_there_is_no_cut() -> None:
    m = machine()
    assert m.cut(0, 1) is None
    observe(m, *at(A))
    assert m.cut(B, 1) is not None
    assert m.cut(B, 1) is None
    assert m.cut(A, 1) is None
    observe(m, *at(B))
    assert m.cut(B, 1) is None


def test_a_window_that_is_open_stays_behind() -> None:
    m = machine()
    observe(m, *at(A, B, A, B + 9_999))
    assert not m.has_pending(B - 1)
    assert m.has_pending(B)
    assert inferences(m.cut(B, 1)) == {A: 2}
    assert inferences(m.cut(C, 1)) == {B: 2}


def test_time_that_passes_is_told_even_without_rows() -> None:
    m = machine()
    cut = m.cut(A, 2)
    assert cut is not None
    assert cut.windows == ()
    assert cut.name == AggregatorName(FIRST, FIRST, 0, FIRST, A, 2)


def test_closed_windows_stay_closed() -> None:
    m = machine()
    m.cut(C, 1)
    observe(m, *at(A))
    cut = m.cut(B, 1)
    assert cut is not None
    assert cut.name.through_ms == C == m.closed_ms


def test_a_late_event_goes_out_with_the_next_cut_whether_or_not_time_passes() -> None:
    m = machine()
    observe(m, *at(A))
    m.cut(B, 1)
    observe(m, *at(A, A, B))
    assert inferences(m.cut(B, 1)) == {A: 2}
    observe(m, *at(A))
    assert inferences(m.cut(C, 1)) == {A: 1, B: 1}


def test_a_cut_is_named_by_what_was_done_and_what_it_adds() -> None:
    m = machine(AggregatorName.begin(FIRST, epoch=3))
    observe(m, *at(A, B, A))
    first = m.cut(B, 4)
    observe(m, *at(B))
    second = m.cut(C, 8)
    assert first is not None
    assert second is not None
    assert first.name == AggregatorName(FIRST, FIRST, 0, FIRST + 3, B, 4, epoch=3)
    assert second.name == AggregatorName(FIRST + 1, FIRST + 3, B, FIRST + 4, C, 8, epoch=3)
    assert (first.low_after, second.low_after) == (FIRST + 1, FIRST + 4)


# -- where a restart begins


def test_an_open_window_holds_the_low_water_mark_back() -> None:
    """The first event is the furthest in the future."""
    m = machine()
    observe(m, *at(START_MS + 60_000, A, A, B))
    for through_ms in (B, C, C + 10_000):
        m.cut(through_ms, 1)
        observe(m, *at(through_ms))
        assert m.low == FIRST
    cut = m.cut(START_MS + 70_000, 1)
    assert cut is not None
    assert cut.low_after == m.low == m.next_offset


def test_without_anything_pending_the_low_water_mark_is_where_the_last_cut_ended() -> None:
    m = machine()
    assert m.low == FIRST
    observe(m, *at(A), b"{")
    m.cut(B, 1)
    assert m.low == FIRST + 2
    observe(m, b"{")
    assert m.low == FIRST + 2


def test_a_cut_can_be_named_only_by_what_was_read() -> None:
    m = machine(AggregatorName(FIRST, FIRST, 0, FIRST + 2, B, 1))
    observe(m, *at(A))
    with pytest.raises(AssertionError, match="not read to its end"):
        m.cut(C, 1)


def test_nothing_is_read_past_a_named_cut_before_it_is_made_again() -> None:
    m = machine(AggregatorName(FIRST, FIRST, 0, FIRST + 2, B, 1))
    with pytest.raises(AssertionError):
        observe(m, *at(A, A, A))


def test_a_named_cut_is_made_again_whatever_is_asked_for() -> None:
    m = machine()
    values = at(A, B, A)
    observe(m, *values)
    cut = m.cut(B, 4)
    assert cut is not None
    again = restored(cut)
    assert again.named == cut.name
    observe(again, *values)
    redone = again.cut(FAR_MS, 99)
    assert redone is not None
    assert redone.name == cut.name
    assert list(records(redone, 7)) == list(records(cut, 7))
    assert inferences(again.cut(C, 4)) == {B: 1}


def test_what_the_name_says_is_done_is_read_again_and_left_out() -> None:
    values = at(A, B, A, A, B)
    m = machine()
    observe(m, *values[:2])
    m.cut(B, 1)  # holds offset 50; 51 stays pending
    observe(m, *values[2:])
    cut = m.cut(C, 1)
    assert cut is not None
    again = restored(cut)
    assert again.next_offset == FIRST + 1
    observe(again, *values[1:])
    assert inferences(again.cut(0, 0)) == {A: 2, B: 2}


def test_who_leaves_in_order_says_what_is_done_and_names_no_cut() -> None:
    m = machine()
    observe(m, *at(A, B, C))
    m.cut(B, 1)
    observe(m, *at(C))
    name = m.done_name()
    assert name == AggregatorName(FIRST + 1, FIRST + 3, B, FIRST + 3, B, 1)
    assert name.is_empty
    again = machine(name)
    assert again.named is None
    observe(again, *at(B, C, C))
    assert inferences(again.cut(C + 10_000, 1)) == {B: 1, C: 2}


def test_who_leaves_before_a_named_cut_is_made_again_leaves_it_named() -> None:
    name = AggregatorName(FIRST, FIRST, 0, FIRST + 2, B, 1)
    m = machine(name)
    observe(m, *at(A))
    assert m.done_name() == name


def done_before(low: int) -> AggregatorName:
    """Windows through B are out, and all before FIRST is read; a window that opened at `low` is not out."""
    return AggregatorName(low, FIRST, B, FIRST, B, 1)


def test_who_leaves_before_all_is_read_again_still_needs_all_of_it() -> None:
    """An open window's first event is known by the committed offset only, until it is read again."""
    m = machine(done_before(FIRST - 3))
    assert m.done_name() == done_before(FIRST - 3)
    observe(m, *at(A))
    assert m.done_name() == done_before(FIRST - 3)
    observe(m, *at(B))
    assert m.done_name() == done_before(FIRST - 3)
    observe(m, *at(B))
    assert m.done_name() == done_before(FIRST - 2)


def test_there_is_no_cut_before_all_is_read_again() -> None:
    """It would end before it begins."""
    m = machine(done_before(FIRST - 2))
    observe(m, *at(B))
    assert m.cut(FAR_MS, 1) is None
    observe(m, *at(B))
    cut = m.cut(C, 1)
    assert cut is not None
    assert cut.name == AggregatorName(FIRST - 2, FIRST, B, FIRST, C, 1)
    assert inferences(cut) == {B: 2}


def test_records_before_and_after_the_name_may_come_in_one_batch() -> None:
    m = machine(done_before(FIRST - 2))
    observe(m, *at(A, B, A, B))  # the first is done, the third is late
    assert inferences(m.cut(C, 1)) == {A: 1, B: 2}


def test_after_a_gap_it_goes_on_in_a_new_epoch_and_windows_stay_closed() -> None:
    lost = AggregatorName(FIRST - 20, FIRST - 15, A, FIRST - 10, B, 1)
    m = machine(lost.goes_on(FIRST, FIRST, ""))
    observe(m, *at(A, C))
    cut = m.cut(C, 1)
    assert cut is not None
    assert cut.name == AggregatorName(FIRST, FIRST, B, FIRST + 2, C, 1, epoch=1)
    assert inferences(cut) == {A: 1}
    assert cut.name.start > lost.end


# -- names


def test_names_are_forgotten_once_there_are_many_and_none_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "_NAMES_MAX", 3)
    m = machine()
    values = [event(device_id=f"cam-{n}", model_id=f"m/{n}") for n in range(5)]
    observe(m, *values, *at(B, device_id="cam-9"), *at(B, device_id="cam-0", model_id="m/0"))
    cut = m.cut(B, 1)
    assert cut is not None
    later = m.cut(C, 1)
    assert later is not None
    assert [row[4] for row in rows(cut) if row[0] == "model"] == [f"cam-{n}" for n in range(5)]
    assert {row[2:] for row in rows(later)} == {
        ("acme", "helmets/3", "cam-9"),
        ("acme", "m/0", "cam-0"),
        ("acme", "helmets/3", "person"),
        ("acme", "m/0", "person"),
    }
    assert len(later.names.series) == 2
    assert len(cut.names.series) == 6


def test_a_cut_ends_where_the_log_was_come_to_whether_a_record_lies_there_or_not() -> None:
    m = machine(done_before(FIRST))
    observe(m, *at(A))
    m.come_to(FIRST + 5)  # the marker of a transaction, and what was aborted
    m.come_to(FIRST + 2)
    cut = m.cut(B, 1)
    assert cut is not None
    assert cut.name.to_offset == m.next_offset == FIRST + 5


def test_a_cut_that_is_made_again_ends_in_its_hole() -> None:
    name = AggregatorName(FIRST, FIRST, 0, FIRST + 3, B, 1)
    m = machine(name)
    observe(m, *at(A))
    m.come_to(FIRST + 9)
    assert m.next_offset == FIRST + 3
    cut = m.cut(0, 0)
    assert cut is not None
    assert (cut.name, inferences(cut)) == (name, {A: 1})
