"""Laws of the aggregator: however a log is read, cut, and read again after crashes, each event counts once.

The rows are held against an independent recount, and a cut that is made again against its own bytes.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import AggregatorName, Position
from pipeline.core.windows import aggregation, publication
from pipeline.core.windows.aggregation import Cut, PartitionAggregator
from pipeline.core.windows.publication import records
from schemas import aggregate
from schemas.aggregate import AggregateRecord, encode
from tests.builders import FAR_MS, LIMITS, START_MS, LogRecord, log_batch, random_log
from tests.recount import accepted, merged, recount, window_s

SOURCE = 3
Log = list[LogRecord]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens rarely happens often: names are forgotten, windows folded early, cuts taken in parts."""
    monkeypatch.setattr(aggregation, "_NAMES_MAX", 4)
    monkeypatch.setattr(aggregation, "_PENDING_MAX", 3)
    monkeypatch.setattr(publication, "_PART_BYTES", 1200)


def decoded(raw: bytes) -> AggregateRecord:
    record = aggregate.decode(raw)
    assert isinstance(record, AggregateRecord)
    return record


def observe(machine: PartitionAggregator, batch: Log) -> None:
    machine.observe(log_batch(batch))


def read(machine: PartitionAggregator, log: Log, to_offset: int, sizes: Iterator[int]) -> None:
    """Reads on to `to_offset`, in batches of these sizes."""
    rest = [r for r in log if machine.next_offset <= r.offset < to_offset]
    while rest:
        size = next(sizes)
        observe(machine, rest[:size])
        rest = rest[size:]


def pieces(rng: random.Random) -> Iterator[int]:
    """Sizes of batches."""
    while True:
        yield rng.choice((1, 2, 7, 30))


def end(log: Log) -> int:
    return log[-1].offset + 1


def some_through(rng: random.Random, log_time_ms: int) -> int:
    """When windows close may depend on anything, also between windows; the log's time is only usual."""
    return max(0, log_time_ms + rng.choice((-12_000, -3000, 0, 20_000))) // 10_000 * 10_000


def cuts_of(log: Log, rng: random.Random) -> list[Cut]:
    """All of a log in one life: read and cut at any time, at last everything."""
    machine = PartitionAggregator(AggregatorName.begin(log[0].offset), LIMITS)
    found = []
    sizes, targets = pieces(rng), 1
    for record in log:
        if rng.random() < 0.2:
            read(machine, log, record.offset, sizes)
            targets += rng.random() < 0.2
            found.append(machine.cut(some_through(rng, record.time_ms), targets))
    read(machine, log, end(log), sizes)
    found.append(machine.cut(FAR_MS, targets))
    return [cut for cut in found if cut is not None]


def redone(log: Log, name: AggregatorName, rng: random.Random) -> list[tuple[int, bytes]]:
    """The cut of this name as somebody else makes it, who reads from `name.low`."""
    machine = PartitionAggregator(name, LIMITS)
    read(machine, log, name.to_offset, pieces(rng))
    cut = machine.cut(0, 0)
    assert cut is not None
    assert cut.name == name
    return list(records(cut, SOURCE))


# -- what is counted


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 20), max_size=12),
    st.dictionaries(st.integers(0, 12), st.tuples(st.integers(-3, 8), st.integers(1, 4)), max_size=6),
)
def test_any_batches_and_cuts_make_the_rows_of_the_log(
    seed: int, sizes: list[int], cuts: dict[int, tuple[int, int]]
) -> None:
    """`cuts`: after so many batches, one through so many windows after START_MS, over so many partitions."""
    log = random_log(seed, sum(sizes) + 1)
    machine = PartitionAggregator(AggregatorName.begin(log[0].offset), LIMITS)
    out: list[Cut | None] = []
    rest = log
    for number, size in enumerate([*sizes, 1]):
        if number in cuts:
            windows, targets = cuts[number]
            out.append(machine.cut(START_MS + windows * 10_000, targets))
        observe(machine, rest[:size])
        rest = rest[size:]
    out.append(machine.cut(FAR_MS, 2))
    found = merged(decoded(raw) for cut in out if cut for _, raw in records(cut, SOURCE))
    assert found == recount(log)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("_small")
def test_the_rows_are_those_of_the_log_when_names_are_forgotten_and_windows_folded_early(seed: int) -> None:
    rng = random.Random(seed)
    log = random_log(seed, 120)
    assert merged(decoded(raw) for cut in cuts_of(log, rng) for _, raw in records(cut, SOURCE)) == recount(log)


@pytest.mark.parametrize("seed", range(10))
def test_a_cut_holds_what_its_name_says(seed: int) -> None:
    """Contributions of offsets < to to windows <= through, less those of offsets < from to windows <= closed."""
    rng = random.Random(seed)
    log = random_log(seed, 80)
    for cut in cuts_of(log, rng):
        name = cut.name
        named = [r for r in log if r.offset < name.to_offset and ended(r, name.through_ms)]
        new = [r for r in named if not (r.offset < name.from_offset and ended(r, name.closed_ms))]
        assert merged(decoded(raw) for _, raw in records(cut, SOURCE)) == recount(new)
        between = [r for r in log if name.from_offset <= r.offset < name.to_offset]
        assert told(decoded(raw) for _, raw in records(cut, SOURCE)) == (len(between), refused(between))


def refused(log: Log) -> int:
    """How many of these records no window counts."""
    return sum(accepted(record) is None for record in log)


def told(found: Iterable[AggregateRecord]) -> tuple[int, int]:
    """How many records were read, and how many of them refused."""
    counts = [(record.read_count, sum(record.refused.values())) for record in found]
    return sum(read for read, _ in counts), sum(bad for _, bad in counts)


def ended(record: LogRecord, by_ms: int) -> bool:
    """Whether it counts, in a window that ends by then."""
    event = accepted(record)
    return event is not None and (window_s(event) + 10) * 1000 <= by_ms


# -- made again


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_made_again_is_the_same_bytes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    log = random_log(seed, 80)
    monkeypatch.setattr(publication, "_PART_BYTES", rng.choice((1200, 512 << 10)))
    for cut in cuts_of(log, rng):
        first = list(records(cut, SOURCE))
        name = AggregatorName.parse(cut.name.low, cut.name.metadata())
        assert redone(log, name, rng) == first, "from the committed offset"
        earlier = redone(log, replace(name, low=log[0].offset), rng)
        assert unnamed(earlier) == unnamed(first), "from the start: other names, other numbers"
        with monkeypatch.context() as patch:
            patch.setattr(aggregation, "_NAMES_MAX", rng.choice((0, 4)))
            patch.setattr(aggregation, "_PENDING_MAX", rng.choice((1, 3)))
            assert redone(log, name, rng) == first, "by another size of what is kept"


def unnamed(sent: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The records without the name of their cut, which says where reading began."""
    return [(target, encode(replace(decoded(record), cut=[0] * 7))) for target, record in sent]


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_the_same_bytes_whatever_is_kept_in_memory(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(seed, 100)

    def sent() -> list[list[tuple[int, bytes]]]:
        return [list(records(cut, SOURCE)) for cut in cuts_of(log, random.Random(seed))]

    usual = sent()
    monkeypatch.setattr(aggregation, "_NAMES_MAX", 3)
    monkeypatch.setattr(aggregation, "_PENDING_MAX", 2)
    assert sent() == usual


# -- a chain of workers that crash


@dataclass
class World:
    """What is left when a worker is gone: the log, the committed offset, and what is on inference.aggregates."""

    log: Log
    rng: random.Random
    committed: tuple[int, str] | None = None
    topic: list[tuple[int, bytes]] = field(default_factory=list)
    made: dict[AggregatorName, list[tuple[int, bytes]]] = field(default_factory=dict)
    targets: int = 1

    def commit(self, name: AggregatorName) -> None:
        """Names a cut. Nothing that is still to be done may lie before the committed offset."""
        for record in self.log:
            if record.offset < name.low and accepted(record):
                assert record.offset < name.from_offset, (record, name)
                assert ended(record, name.closed_ms), (record, name)
        assert name.from_offset <= name.to_offset
        self.committed = name.low, name.metadata()

    def send(self, cut: Cut, *, whole: bool) -> None:
        """Sends a cut, or the first records of it. Made again, it must be the same."""
        made = list(records(cut, SOURCE))
        assert self.made.setdefault(cut.name, made) == made
        self.topic += made if whole else made[: self.rng.randrange(len(made))]


def life(world: World, *, calm: bool) -> None:
    """One worker, from its assignment to a crash or to leaving in order; a calm one gets everything done."""
    rng, log = world.rng, world.log
    name = AggregatorName.parse(*world.committed) if world.committed else AggregatorName.begin(log[0].offset)
    machine = PartitionAggregator(name, LIMITS)
    sizes, to_offset = pieces(rng), end(log) if machine.named is None else machine.named.to_offset
    if not calm and rng.random() < 0.3:  # it is gone before all is read again
        read(machine, log, rng.randint(name.low, to_offset), sizes)
        return world.commit(machine.done_name()) if rng.random() < 0.7 else None
    if machine.named is not None:
        read(machine, log, to_offset, sizes)
        again = machine.cut(0, 0)
        assert again is not None
        if not calm and rng.random() < 0.3:
            return world.send(again, whole=False)
        world.send(again, whole=True)
    while machine.next_offset < end(log) or not calm:
        rest = [r for r in log if r.offset >= machine.next_offset]
        if rest:
            observe(machine, rest[: next(sizes)])
        if rng.random() < 0.4:
            newest_ms = max(r.time_ms for r in log if r.offset < machine.next_offset)
            cut = machine.cut(some_through(rng, newest_ms), world.targets)
            if cut is not None:
                world.commit(cut.name)
                if not calm and rng.random() < 0.3:
                    return world.send(cut, whole=rng.random() < 0.3)
                world.send(cut, whole=True)
        if not calm and rng.random() < 0.1:
            return world.commit(machine.done_name()) if rng.random() < 0.5 else None
    last = machine.cut(FAR_MS, world.targets)
    if last is not None:
        world.commit(last.name)
        world.send(last, whole=True)
    return None


def taken(world: World) -> list[AggregateRecord]:
    """What the readers of all partitions take, each by its own chain."""
    chains: dict[int, Chain] = {}
    found = []
    for target, raw in world.topic:
        record = decoded(raw)
        verdict = chains.setdefault(target, Chain()).observe(
            record.source, Position(*record.start), Position(*record.end)
        )
        assert verdict is not Verdict.GAP
        if verdict is Verdict.ACCEPTED:
            found.append(record)
    positions = [chain.snapshot()[SOURCE] for chain in chains.values()]
    assert positions == [positions[0]] * world.targets, "every partition knows how far the source has come"
    return found


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.usefixtures("_small")
def test_whatever_crashes_each_event_counts_once(seed: int) -> None:
    rng = random.Random(seed)
    world = World(random_log(seed, rng.randint(1, 70)), rng)
    for _ in range(rng.randint(1, 8)):
        life(world, calm=False)
        world.targets = min(4, world.targets + (rng.random() < 0.2))
    life(world, calm=True)
    assert merged(taken(world)) == recount(world.log)
    assert told(taken(world)) == (len(world.log), refused(world.log))


def test_crashes_leave_cuts_to_be_made_again() -> None:
    """The law above says something only if this happens."""
    again = repeats = 0
    for seed in range(20):
        world = World(random_log(seed, 40), random.Random(seed))
        for _ in range(6):
            before = len(world.made)
            sent = len(world.topic)
            life(world, calm=False)
            again += len(world.topic) > sent and len(world.made) == before
        life(world, calm=True)
        repeats += len(world.topic) - len(taken(world))
    assert again > 5
    assert repeats > 20
