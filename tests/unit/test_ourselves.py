"""What the detector says of inferwatch itself: refused records, and roles that stand still."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from pipeline.core.alerting.device_watch import DeviceWatch
from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.alerting.ourselves import DEAD_LETTERS, OurLimits
from pipeline.core.batch import Batch
from pipeline.core.ledger.names import AggregatorName, RecorderName
from pipeline.core.ledger.resume import LogSpan
from pipeline.core.ledger.standing import AGGREGATOR, RECORDER, Standing, standing
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, Severity
from tests import builders
from tests.alerting import START_MS
from tests.states import reloaded

WINDOW_MS = 10_000
LIMITS = OurLimits(refused_window_ms=60_000, standstill_ms=60_000)


def drawn(events: Sequence[AlertEvent], unit_ms: int = WINDOW_MS) -> str:
    """State and moment of each step."""
    return " ".join(f"{event.state.value}@{(event.at_ms - START_MS) // unit_ms}" for event in events)


# -- refused records


@dataclass
class Cuts:
    """What the aggregator of one partition of events puts into partition 0 of inference.aggregates."""

    watch: ModelWatch = field(default_factory=lambda: ModelWatch(0, 1, 1, 1.0, LIMITS))
    number: int = 0

    def play(self, *cuts: tuple[int, Mapping[str, int]]) -> list[AlertEvent]:
        """A window after the other: records read, and those refused, by reason."""
        events: list[AlertEvent] = []
        for read, refused in cuts:
            events += self.watch.observe(self.link(read, refused))[1]
        return [event for event in events if event.metric == DEAD_LETTERS]

    def link(self, read: int, refused: Mapping[str, int]) -> AggregateRecord:
        """The next cut."""
        start, end = ((0, n, START_MS + n * WINDOW_MS, 0) for n in (self.number, self.number + 1))
        self.number += 1
        record = aggregate.decode(builders.aggregate(start, end, models=(), classes=()))
        assert isinstance(record, AggregateRecord)
        return replace(record, read_count=read, refused=dict(refused))

    def restart(self) -> None:
        """From what was saved."""
        saved = reloaded(self.watch.snapshot())
        self.watch = ModelWatch(0, 1, 1, 1.0, LIMITS)
        self.watch.restore(saved)


FINE: tuple[int, Mapping[str, int]] = (1000, {})


def test_a_share_of_refused_records_above_the_limit_is_an_alert_that_ends_on_evidence() -> None:
    bad = (1000, {"not_json": 40, "missing_field": 10})
    events = Cuts().play(*[FINE] * 6, *[bad] * 3, *[FINE] * 20)
    # 50 of 6000 are less than a hundredth, 100 are more; nothing but good records for a minute, and a fifth of it.
    assert drawn(events) == "firing@8 recovering@14 resolved@16"
    assert events[0].severity is Severity.WARNING
    assert "1.67% of the 6,000 records of inference.events" in events[0].summary
    assert "80 not_json, 20 missing_field" in events[0].summary
    assert events[0].labels == {"topic": "inference.events"}


def test_a_few_refused_records_are_no_alert_whatever_their_share() -> None:
    assert not Cuts().play((10, {"not_json": 10}), (9, {"not_json": 9}), *[(0, {})] * 9)
    assert drawn(Cuts().play((20, {"not_json": 20}), (0, {}))) == "firing@1"


def test_an_outage_of_the_producers_ends_it_too() -> None:
    """Everything was read, and nothing refused."""
    assert drawn(Cuts().play((100, {"not_json": 100}), *[(0, {})] * 9)) == "firing@1 recovering@7 resolved@9"


def test_refused_records_are_counted_on_after_a_restart() -> None:
    bad = (1000, {"not_json": 50})
    story = [*[FINE] * 6, *[bad] * 3, *[FINE] * 8]
    whole = Cuts().play(*story)
    for at in range(len(story)):
        cuts = Cuts()
        first = cuts.play(*story[:at])
        cuts.restart()
        assert first + cuts.play(*story[at:]) == whole


def test_a_repeat_counts_once() -> None:
    cuts = Cuts()
    record = cuts.link(15, {"not_json": 15})
    cuts.watch.observe(record)
    cuts.watch.observe(record)
    assert not cuts.play(*[(0, {})] * 3)


# -- roles that stand still


STEP_MS = 10_000


@dataclass
class Broker:
    """What the broker says of a role, every ten seconds, in so many partitions of one topic."""

    role: str
    watch: DeviceWatch = field(default_factory=lambda: DeviceWatch(0, None, LIMITS))
    step: int = 0

    def play(self, *looks: Sequence[tuple[int, int]]) -> list[AlertEvent]:
        """Each look: by partition, how far the role is, and the end of the log."""
        events: list[AlertEvent] = []
        for look in looks:
            at_ms = START_MS + self.step * STEP_MS
            beat = builders.heartbeat(device_id="detector/0", workspace="inferwatch", sent_at_ms=at_ms)
            events += self.watch.observe(Batch("inference.heartbeats", 0, [self.step], [at_ms], [None], [beat]))
            standings = [self._standing(number, *at) for number, at in enumerate(look)]
            events += self.watch.observe_roles(standings)
            self.step += 1
        return events

    def _standing(self, number: int, taken: int, end: int) -> Standing:
        if self.role == RECORDER:
            committed = taken, RecorderName(taken, min(taken + 5, end), 0).metadata()
        else:
            name = AggregatorName(0, max(0, taken - 5), 0, taken, START_MS, 8)
            committed = 0, name.metadata()
        return standing(self.role, "inference.events", number, LogSpan(0, end), committed)

    def restart(self) -> None:
        """From what was saved."""
        saved = reloaded(self.watch.snapshot())
        self.watch = DeviceWatch(0, None, LIMITS)
        self.watch.restore(saved)


STUCK = [[(10, 20 + i), (30, 30), (5, 5 + i)] for i in range(12)]
MOVES = [[(20 + i, 40 + i), (30, 30), (17 + i, 17 + i)] for i in range(5)]


@pytest.mark.parametrize(
    ("role", "what"), [(RECORDER, "nothing was written to ClickHouse"), (AGGREGATOR, "no events were taken")]
)
def test_a_role_that_moves_nowhere_while_records_wait_is_an_alert_until_it_moves(role: str, what: str) -> None:
    events = Broker(role).play(*STUCK, *MOVES)
    assert drawn(events) == "firing@6 resolved@12"
    assert events[0].severity is Severity.CRITICAL
    assert (events[0].metric, events[0].value, events[0].threshold) == (f"{role}_standstill_s", 60.0, 60.0)
    assert events[0].summary.startswith(f"{what}")
    assert "for 60 s" in events[0].summary
    assert "(2 of 3 partitions wait: inference.events/0 and others)" in events[0].summary
    assert events[0].evidence["waiting"] == {"inference.events/0": 16, "inference.events/2": 6}


def test_one_partition_that_stands_still_is_an_alert_of_its_own_words() -> None:
    events = Broker(RECORDER).play(*[[(10, 20), (i, i + 3)] for i in range(9)])
    assert drawn(events) == "firing@6"
    assert events[0].summary.startswith("the recorder stands still in some partitions, for 60 s in one")
    assert "(1 of 2 partitions wait: inference.events/0)" in events[0].summary


def test_a_role_with_nothing_to_do_does_not_stand_still() -> None:
    assert not Broker(RECORDER).play(*[[(10, 10), (30, 30)]] * 20)
    assert not Broker(RECORDER).play(*[[(10 + i, 11 + i)] for i in range(20)])


def test_who_has_not_looked_for_long_does_not_know_that_it_stood_still() -> None:
    broker = Broker(RECORDER)
    assert not broker.play(*STUCK[:3])
    broker.step += 3000  # everything was off for a night
    broker.restart()
    assert not broker.play(*STUCK[3:9])


def test_steps_about_a_role_are_the_same_after_a_restart() -> None:
    story = [*STUCK, *MOVES]
    whole = Broker(RECORDER).play(*story)
    for at in range(len(story)):
        broker = Broker(RECORDER)
        first = broker.play(*story[:at])
        broker.restart()
        assert first + broker.play(*story[at:]) == whole
