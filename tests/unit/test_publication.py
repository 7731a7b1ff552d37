"""Records of a cut: who gets which rows, in how many parts, and that all of it can be read again."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import AggregatorName, Position
from pipeline.core.windows import publication
from pipeline.core.windows.aggregation import Cut, PartitionAggregator
from pipeline.core.windows.publication import records
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from schemas.topics import AGGREGATES
from tests.builders import LIMITS, START_MS, LogRecord, batch, event, log_batch, prediction, random_log
from tests.recount import merged, recount

SOURCE = 6


def cut_of(values: Iterable[bytes], targets: int) -> Cut:
    """All of these events."""
    values = list(values)
    m = PartitionAggregator(AggregatorName.begin(100, epoch=2), LIMITS)
    if values:
        m.observe(batch(range(100, 100 + len(values)), [START_MS] * len(values), values))
    cut = m.cut(START_MS + 70_000, targets)
    assert cut is not None
    return cut


def sent(cut: Cut) -> list[tuple[int, AggregateRecord]]:
    """The records as readers find them."""
    found = [(target, aggregate.decode(raw)) for target, raw in records(cut, SOURCE)]
    assert all(isinstance(record, AggregateRecord) for _, record in found)
    return [(target, record) for target, record in found if isinstance(record, AggregateRecord)]


def many(count: int, **fields: Any) -> list[bytes]:
    """As many models, each on two devices."""
    return [event(model_id=f"m/{n}", device_id=d, **fields) for n in range(count) for d in ("a", "b")]


def check_links(cut: Cut, of_target: list[AggregateRecord]) -> None:
    """From the cut's start to its end without a hole, and every reader takes all."""
    links = [(Position(*r.start), Position(*r.end)) for r in of_target]
    assert links[0][0] == cut.name.start
    assert links[-1][1] == cut.name.end
    assert all(end == start for (_, end), (start, _) in pairwise(links))
    chain = Chain({SOURCE: cut.name.start})
    assert {chain.observe(SOURCE, *link) for link in links} == {Verdict.ACCEPTED}
    assert {chain.observe(SOURCE, *link) for link in links} == {Verdict.REPEAT}


def test_a_record_says_whose_it_is_and_where_a_restart_begins() -> None:
    ((target, record),) = sent(cut_of([event(), event(event_time_ms=START_MS + 60_000)], 1))
    assert target == 0
    assert (record.source, record.low) == (SOURCE, 102)
    assert record.start == [2, 100, 0, 0]
    assert record.end == [2, 102, START_MS + 70_000, 0]


@pytest.mark.parametrize("targets", [1, 2, 8])
@pytest.mark.parametrize("values", [[], [event()], many(20)], ids=["no rows", "one model", "20 models"])
def test_every_partition_gets_its_link_also_when_there_is_nothing_for_it(targets: int, values: list[bytes]) -> None:
    cut = cut_of(values, targets)
    found = sent(cut)
    assert sorted({target for target, _ in found}) == list(range(targets))
    for target in range(targets):
        check_links(cut, [record for t, record in found if t == target])


def test_all_rows_of_a_model_go_to_one_partition() -> None:
    where: dict[str, set[int]] = {}
    for target, record in sent(cut_of(many(40, predictions=[prediction("x"), prediction("y")]), 8)):
        for model in [*record.models.texts["model_id"], *record.classes.texts["model_id"]]:
            where.setdefault(model, set()).add(target)
    assert {len(targets) for targets in where.values()} == {1}
    assert len(where) == 40
    assert len(set.union(*where.values())) > 4


def test_where_a_model_goes_does_not_depend_on_its_company() -> None:
    alone = {target for target, r in sent(cut_of([event(model_id="m/7")], 8)) if len(r.models)}
    company = {target for target, r in sent(cut_of(many(20), 8)) if "m/7" in r.models.texts["model_id"]}
    assert alone == company


@pytest.mark.parametrize("part_bytes", [300, 1000, 2000, 1 << 30])
@pytest.mark.parametrize("targets", [1, 3])
def test_parts_hold_together_what_the_whole_holds(
    part_bytes: int, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "_PART_BYTES", part_bytes)
    log = [LogRecord(n, START_MS, value) for n, value in enumerate(many(15, predictions=[prediction("x")] * 2))]
    cut = cut_of([record.value for record in log if record.value], targets)
    found = sent(cut)
    assert merged(record for _, record in found) == recount(log)
    for target in range(targets):
        mine = [record for t, record in found if t == target]
        assert (len(mine) > 1) == (part_bytes < 1 << 30)
        check_links(cut, mine)


def test_an_ordinary_cut_is_one_record_a_partition() -> None:
    assert len(sent(cut_of(many(100), 4))) == 4


def test_a_large_cut_takes_parts_of_about_half_a_megabyte() -> None:
    sizes = [len(raw) for _, raw in records(cut_of(many(1500), 1), SOURCE)]
    assert len(sizes) > 1
    assert max(sizes) < 700_000


def test_a_part_fits_into_the_topic_whatever_the_names() -> None:
    """Characters that take three bytes, in the longest names that are accepted."""
    long = "€" * 250
    values = [event(workspace=long, device_id=long, model_id=f"{long}{n}", predictions=[]) for n in range(600)]
    sizes = [len(raw) for _, raw in records(cut_of(values, 1), SOURCE)]
    assert len(sizes) > 1
    assert max(sizes) < AGGREGATES.record_bytes_max


def test_rows_are_ordered_by_window_and_name_and_not_by_first_use() -> None:
    names = [("w2", "a", "x"), ("w1", "b", "y"), ("w1", "b", "x"), ("w1", "a", "z")]
    values = [
        event(workspace=w, model_id=m, device_id=d, event_time_ms=time_ms, predictions=[prediction(d)])
        for time_ms in (START_MS + 10_000, START_MS)
        for w, m, d in names
    ]
    ((_, record),) = sent(cut_of(values, 1))
    for rows in (record.models, record.classes):
        keys = list(zip(rows.window_start_s.tolist(), *rows.texts.values(), strict=True))
        assert keys == sorted(keys)
        assert len(keys) == 8


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_is_what_was_counted(seed: int) -> None:
    log = [record for record in random_log(seed, 60) if record.value is not None]
    m = PartitionAggregator(AggregatorName.begin(0), LIMITS)
    m.observe(log_batch(log))
    cut = m.cut(START_MS + 10**9, 3)
    assert cut is not None
    assert merged(record for _, record in sent(cut)) == recount(log)
