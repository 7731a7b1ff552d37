"""Names of cuts as they are committed, and what a reader's chain takes."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import (
    METADATA_BYTES_MAX,
    ORIGIN,
    AggregatorName,
    ForeignMetadataError,
    Position,
    RecorderName,
    mark,
    marked,
)

NOW_MS = 1_795_373_683_301
NAME = AggregatorName(low=3, from_offset=5, closed_ms=10_000, to_offset=9, through_ms=20_000, targets=8, epoch=2)
CHAIN = {0: Position(0, 7, 10_000), 200: Position(1, 2**40, NOW_MS, 3), 7: ORIGIN}

numbers = st.integers(0, 2**62)
topic_ids = st.from_regex(r"([A-Za-z0-9_-]{22})?", fullmatch=True)  # as Kafka writes them
positions = st.builds(Position, st.integers(0, 300), numbers, numbers, st.integers(0, 300))
# What somebody else may have committed: anything, and what looks much like ours.
foreign = st.text() | st.from_regex(r"(a1|r1|a2|r2):([-0-9]{0,4}:){0,7}[A-Za-z0-9_=:.-]{0,12}", fullmatch=True)


# -- the aggregator's name


def test_the_aggregators_name_reads_as_it_is_written() -> None:
    assert NAME.metadata() == "a2:5:10000:9:20000:8:2:"
    assert replace(NAME, topic_id="aBc-_9").metadata() == "a2:5:10000:9:20000:8:2:aBc-_9"
    assert AggregatorName.parse(3, NAME.metadata()) == NAME


@given(st.builds(AggregatorName, *[numbers] * 5, st.integers(0, 1000), numbers, topic_ids))
def test_any_name_of_the_aggregator_comes_back(name: AggregatorName) -> None:
    assert AggregatorName.parse(name.low, name.metadata()) == name
    assert len(name.metadata()) <= METADATA_BYTES_MAX


def test_a_broker_may_pad_metadata_with_zeros() -> None:
    assert AggregatorName.parse(3, NAME.metadata() + "\0\0") == NAME
    name = RecorderName(5, 9, NOW_MS, CHAIN)
    assert RecorderName.parse(5, name.metadata() + "\0") == name


def test_a_cut_begins_and_ends_at_its_positions() -> None:
    assert NAME.start == Position(2, 5, 10_000, 0)
    assert NAME.end == Position(2, 9, 20_000, 0)


def test_a_first_name_says_that_nothing_is_done() -> None:
    name = AggregatorName.begin(42, epoch=1)
    assert name.is_empty
    assert name.low == 42
    assert name.start == name.end == Position(1, 42, 0)


@pytest.mark.parametrize("changes", [{"to_offset": 5}, {"through_ms": 10_000}])
def test_a_name_with_offsets_or_windows_to_do_is_not_empty(changes: dict[str, int]) -> None:
    fields = {name: getattr(NAME, name) for name in AggregatorName.__slots__}
    assert not AggregatorName(**fields | changes).is_empty


def test_a_cut_that_is_done_is_a_name_without_a_cut_at_its_end() -> None:
    done = NAME.done(low=7)
    assert done.is_empty
    assert (done.low, done.start) == (7, NAME.end)


def test_what_goes_on_after_a_loss_keeps_windows_closed_and_begins_an_epoch() -> None:
    name = NAME.goes_on(6, 9, "new")
    assert name.is_empty
    assert (name.low, name.topic_id) == (6, "new")
    assert name.start == Position(3, 9, 20_000)
    assert name.start > NAME.end


# -- the recorder's name


def test_the_recorders_name_comes_back_with_its_chain() -> None:
    name = RecorderName(5, 9, NOW_MS, CHAIN)
    assert RecorderName.parse(5, name.metadata()) == name
    assert not name.is_empty


def test_the_recorders_name_may_have_no_chain() -> None:
    name = RecorderName(5, 5, 0)
    assert name.metadata() == "r2:5:0:0:0::"
    assert RecorderName.parse(5, "r2:5:0:0:0::") == name
    assert name.is_empty


chains = st.dictionaries(st.integers(0, 1000), positions, max_size=20)


@given(st.builds(RecorderName, numbers, numbers, numbers, chains, st.integers(0, 99), numbers, topic_ids))
def test_any_name_of_the_recorder_comes_back(name: RecorderName) -> None:
    assert RecorderName.parse(name.from_offset, name.metadata()) == name
    assert ":" not in name.metadata().split(":", 6)[6]


@given(st.integers(0, 9), st.integers(0, 2**44 - 1))
def test_a_mark_holds_epoch_and_offset(epoch: int, offset: int) -> None:
    assert marked(mark(epoch, offset)) == (epoch, offset)
    assert mark(epoch + 1, 0) > mark(epoch, offset)


def test_the_order_in_which_sources_were_met_does_not_show() -> None:
    backwards = dict(reversed(CHAIN.items()))
    assert RecorderName(1, 2, 3, backwards).metadata() == RecorderName(1, 2, 3, CHAIN).metadata()


def test_the_positions_of_240_busy_sources_fit_into_what_a_broker_takes() -> None:
    """Ten billion records each, some half an hour behind the others."""
    chain = {n: Position(0, 10**10 + n, NOW_MS // 10_000 * 10_000 - (n % 3) * 900_000, 0) for n in range(240)}
    name = RecorderName(10**10, 10**10 + 50_000, NOW_MS, chain, 1, 0, "x" * 22)
    assert len(name.metadata().encode()) <= METADATA_BYTES_MAX
    assert RecorderName.parse(10**10, name.metadata()) == name


def test_positions_that_do_not_fit_are_an_error_before_the_kafka_says_so() -> None:
    chain = {n: Position(n, 2**60, n, n) for n in range(300)}
    with pytest.raises(ValueError, match="300 sources do not fit"):
        RecorderName(1, 2, NOW_MS, chain).metadata()


# -- somebody else's metadata


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "a1",
        "a2:1:2:3:4:5:",
        "a2:1:2:3:4:5:6:7:",
        "a2:1:2:3:4:5:x:",
        "a1:1:2:3:4:5:6",
        "r2:5:0:0:::",
        "{}",
        "a2:1:2:3:4:5:6",
    ],
)
def test_what_the_aggregator_did_not_write_is_foreign_to_it(metadata: str) -> None:
    with pytest.raises(ForeignMetadataError, match="not the aggregator's"):
        AggregatorName.parse(0, metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        "", "r2", "r2:5:0:0", "r2:5:0:0:0:", "r2:5:0:0:0:::", "r2:x:0:0:0::", "r1:5:0:0:0::", NAME.metadata(),
        "r2:5:0:0:0::é", "r2:5:0:0:0::A", "r2:5:0:0:0::AA=A", "r2:5:0:0:0::****", "r2:5:0:0:0::AAAAAA==",
        "r2:5:0:0:0::AAAAAACA",
    ],
)  # fmt: skip
def test_what_the_recorder_did_not_write_is_foreign_to_it(metadata: str) -> None:
    with pytest.raises(ForeignMetadataError, match="not the recorder's"):
        RecorderName.parse(0, metadata)


@given(foreign)
def test_any_metadata_is_ours_or_foreign(metadata: str) -> None:
    for parse in (AggregatorName.parse, RecorderName.parse):
        with suppress(ForeignMetadataError):
            parse(0, metadata)


# -- the chain


def at(offset: int, part: int = 0, epoch: int = 0) -> Position:
    return Position(epoch, offset, offset * 1000, part)


def judge(*links: tuple[Position, Position]) -> str:
    """The verdicts on these links of one source: a taken, r repeat, G gap."""
    chain = Chain()
    letters = {Verdict.ACCEPTED: "a", Verdict.REPEAT: "r", Verdict.GAP: "G"}
    return "".join(letters[chain.observe(0, *link)] for link in links)


@pytest.mark.parametrize(
    ("story", "links", "verdicts"),
    [
        ("each begins where the last ended", [(at(0), at(5)), (at(5), at(9)), (at(9), at(10))], "aaa"),
        ("a source is taken where it is met", [(at(50), at(60)), (at(60), at(61))], "aa"),
        ("a cut made again is dropped", [(at(0), at(5)), (at(5), at(9)), (at(0), at(5)), (at(5), at(9))], "aarr"),
        ("after a repeat it goes on", [(at(0), at(5)), (at(0), at(5)), (at(5), at(9))], "ara"),
        ("what is missing is a gap, once", [(at(0), at(5)), (at(6), at(9)), (at(9), at(10))], "aGa"),
        ("parts are links of their own", [(at(0), at(0, 1)), (at(0, 1), at(0, 2)), (at(0, 2), at(5))], "aaa"),
        ("half a cut is made again", [(at(0), at(0, 1)), (at(0), at(0, 1)), (at(0, 1), at(5))], "ara"),
        ("a missing part is a gap", [(at(0), at(0, 1)), (at(0, 2), at(5))], "aG"),
        ("a new epoch is no gap", [(at(0), at(5)), (at(9, epoch=1), at(12, epoch=1))], "aa"),
        ("not even if it goes back", [(at(0), at(50)), (at(3, epoch=1), at(7, epoch=1)), (at(0), at(50))], "aar"),
        ("what is old and new at once is no repeat", [(at(0), at(5)), (at(3), at(9)), (at(9), at(10))], "aGa"),
        ("one that is old in whole is", [(at(0), at(5)), (at(5), at(9)), (at(3), at(8)), (at(9), at(10))], "aara"),
        ("a gap inside of an epoch is one", [(at(3, epoch=1), at(7, epoch=1)), (at(8, epoch=1), at(9, epoch=1))], "aG"),
    ],
)
def test_links(story: str, links: list[tuple[Position, Position]], verdicts: str) -> None:
    assert judge(*links) == verdicts, story


def test_windows_may_close_without_new_records() -> None:
    assert judge((Position(0, 5, 0), Position(0, 5, 10_000)), (Position(0, 5, 10_000), Position(0, 6, 10_000))) == "aa"


def test_sources_do_not_know_each_other() -> None:
    chain = Chain()
    assert chain.observe(0, at(0), at(5)) is Verdict.ACCEPTED
    assert chain.observe(1, at(0), at(5)) is Verdict.ACCEPTED
    assert chain.observe(1, at(0), at(5)) is Verdict.REPEAT
    assert chain.snapshot() == {0: at(5), 1: at(5)}


def test_a_chain_goes_on_from_a_snapshot() -> None:
    chain = Chain({4: at(5)})
    assert chain.observe(4, at(0), at(5)) is Verdict.REPEAT
    assert chain.observe(4, at(6), at(7)) is Verdict.GAP
    assert chain.snapshot() == {4: at(7)}


def test_a_snapshot_is_not_moved_by_what_comes_later() -> None:
    given_positions = {0: at(5)}
    chain = Chain(given_positions)
    snapshot = chain.snapshot()
    chain.observe(0, at(5), at(9))
    assert given_positions == snapshot == {0: at(5)}


def test_a_link_that_goes_nowhere_stops_the_reader() -> None:
    with pytest.raises(AssertionError):
        Chain().observe(0, at(5), at(5))
