"""One partition of inference.aggregates, watched: windows judged once complete, whatever happens on the way."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest

from pipeline.core.alerting.model_watch import GAP_MS, ModelWatch
from pipeline.core.alerting.ourselves import LAG_HOLD_MS, LAG_MS_MAX
from pipeline.core.ledger.chain import Verdict
from pipeline.core.state import encode
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Rule
from schemas.silence import Acknowledgement, acknowledgement_id
from tests import builders
from tests.alerting import START_MS, START_S, rule
from tests.states import reloaded

STEP_MS = 10_000
HELMETS, PALLETS = "helmets/3", "pallets/1"
CONFIDENCE = rule(metric="confidence_mean", operator="<", threshold=0.72, min_count=1)


def detections(window: int, percent: int, count: int = 50, model: str = HELMETS) -> dict[str, Any]:
    """A row: so many detections of the same confidence in the nth window."""
    return {
        "window_start_s": START_S + 10 * window,
        "model_id": model,
        "inference_count": count,
        "error_count": 0,
        "empty_count": 0,
        "detection_count": count,
        "confidence_ppm_sum": count * percent * 10_000,
        "confidence_histogram": {percent: count},
    }


@dataclass
class Sources:
    """Aggregators of some partitions of events, and what they have put into one partition of inference.aggregates."""

    at: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def link(self, source: int, windows: int, *rows: dict[str, Any], part: int = 0) -> AggregateRecord:
        """The next link of a source: so many windows are complete; `part`: and more of this cut is to come."""
        start = self.at.get(source, (0, 0, 0, 0))
        whole = (start[0], start[1] + 1, START_MS + windows * STEP_MS, 0)
        end = (*start[:3], part) if part else whole
        self.at[source] = end
        record = aggregate.decode(builders.aggregate(start, end, source=source, models=rows, classes=()))
        assert isinstance(record, AggregateRecord), record
        return record


def watching(*rules: Rule, sources: int = 1, partition: int = 1) -> ModelWatch:
    """One of two partitions, with these rules."""
    watch = ModelWatch(partition, 2, sources, 1.0)
    watch.set_rules({one.rule_id: one for one in rules})
    return watch


def again(watch: ModelWatch, sources: int = 1, partition: int = 1) -> ModelWatch:
    """As after a restart, from what was saved."""
    saved = reloaded(watch.snapshot())
    fresh = ModelWatch(partition, 2, sources, 1.0)
    fresh.restore(saved)
    return fresh


def drawn(events: Sequence[AlertEvent]) -> str:
    """State and window of each step."""
    return " ".join(f"{event.state.value}@{(event.at_ms - START_MS) // STEP_MS}" for event in events)


def said(event: AlertEvent, what: Literal["taken", "over", "normal"]) -> Acknowledgement:
    """What kim says of an episode."""
    ack_id = acknowledgement_id(event.fingerprint, event.episode)
    return Acknowledgement(id=ack_id, author="kim", at_ms=START_MS + 12_345, says=what)


def story(watch: ModelWatch, sources: Sources, percents: Sequence[int], first: int = 0) -> list[AlertEvent]:
    """A window after the other, of one source."""
    events: list[AlertEvent] = []
    for i, percent in enumerate(percents, first):
        events += watch.observe(sources.link(0, i + 1, detections(i, percent)))[1]
    return events


def test_a_model_gets_worse_and_better_again() -> None:
    events = story(watching(CONFIDENCE), Sources(), [90] * 6 + [30] * 4 + [90] * 6)
    assert drawn(events) == "firing@8 resolved@15"
    assert events[0].model_id == HELMETS
    assert events[0].rule_id == "r"


def test_a_window_is_judged_only_when_every_source_says_that_it_is_complete() -> None:
    watch, sources = watching(CONFIDENCE, sources=2), Sources()
    said: list[str] = []
    for i in range(4):
        _, first = watch.observe(sources.link(0, i + 1, detections(i, 20)))
        _, second = watch.observe(sources.link(1, i + 1, detections(i, 90, count=450)))
        said += [drawn(first), drawn(second)]
    assert said == [""] * 8  # half of the rows would have been bad


def test_nothing_is_judged_before_all_sources_were_heard() -> None:
    watch, sources = watching(CONFIDENCE, sources=3), Sources()
    watch.observe(sources.link(0, 1, detections(0, 20)))
    watch.observe(sources.link(1, 1))
    assert watch.watermark_ms == 0
    _, events = watch.observe(sources.link(2, 1))
    assert watch.watermark_ms == START_MS + STEP_MS
    assert drawn(events) == "firing@1"


def test_a_part_of_a_cut_completes_no_window() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    watch.observe(sources.link(0, 1))
    _, events = watch.observe(sources.link(0, 2, detections(1, 20), part=1))
    assert not events
    assert watch.watermark_ms == START_MS + STEP_MS
    _, events = watch.observe(sources.link(0, 2, detections(1, 90, count=950)))
    assert not events
    assert watch.watermark_ms == START_MS + 2 * STEP_MS


def test_rows_of_a_window_to_come_wait_for_it() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    _, events = watch.observe(sources.link(0, 1, detections(0, 90, count=1), detections(3, 20)))
    assert not events
    steps = [drawn(watch.observe(sources.link(0, i))[1]) for i in (2, 3, 4)]
    assert steps == ["", "", "firing@4"]


def test_a_repeat_is_dropped() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    story(watch, sources, [90])
    record = sources.link(0, 2, detections(1, 80))
    assert watch.observe(record)[0] is Verdict.ACCEPTED
    before = encode(watch.snapshot())
    assert watch.observe(record) == (Verdict.REPEAT, [])
    assert encode(watch.snapshot()) == before


def test_a_gap_is_an_alert_of_this_partition_that_ends_by_itself() -> None:
    watch, sources = watching(), Sources()
    story(watch, sources, [90])
    sources.link(0, 2)  # is lost
    verdict, (fired,) = watch.observe(sources.link(0, 3))
    assert verdict is Verdict.GAP
    assert (fired.metric, fired.state.value, fired.labels["partition"]) == ("chain_gap", "firing", "1")
    assert "source partition 0" in fired.summary
    events = story(watch, sources, [90] * (GAP_MS // STEP_MS + 1), first=3)
    assert drawn(events) == f"resolved@{3 + GAP_MS // STEP_MS}"
    assert events[0].fingerprint == fired.fingerprint
    other = watching(partition=0)
    story(other, alien := Sources(), [90])
    alien.link(0, 2)
    gaps = [event for event in other.observe(alien.link(0, 3))[1] if event.metric == "chain_gap"]
    assert gaps[0].fingerprint != fired.fingerprint  # each has a chain, and a life, of its own


def test_a_source_that_stands_still_is_an_alert() -> None:
    watch, sources = watching(sources=2), Sources()
    events = watch.observe(sources.link(0, 1))[1] + watch.observe(sources.link(1, 1))[1]
    count = (LAG_MS_MAX + LAG_HOLD_MS) // STEP_MS
    for i in range(2, count + 4):
        events += watch.observe(sources.link(0, i))[1]
    assert drawn(events) == f"firing@{count + 1}"
    assert (events[0].metric, events[0].evidence["source"]) == ("input_lag_s", 1)
    for i in range(2, count + 15):
        events += watch.observe(sources.link(1, i))[1] + watch.observe(sources.link(0, max(i, count + 3)))[1]
    assert [event.state.value for event in events] == ["firing", "recovering", "resolved"]


def test_a_restart_of_the_aggregators_after_which_sources_catch_up_one_by_one_is_no_alert() -> None:
    watch, sources, events = watching(sources=4), Sources(), []
    time_ms = START_MS + 10 * STEP_MS
    for source in range(4):
        events += watch.observe(sources.link(source, 10), time_ms)[1]
    for away, took_ms in ((40, 2000), (400, 10_000)):  # windows that nobody made, and how long each source takes
        windows = watch.watermark_ms // STEP_MS - START_MS // STEP_MS + away
        time_ms += away * STEP_MS
        for source in range(4):
            for part in (1, 2, 3):
                time_ms += took_ms // 3
                events += watch.observe(sources.link(source, windows - away + away * part // 3), time_ms)[1]
                watch = again(watch, sources=4)
    assert events == []


def test_a_source_that_was_never_heard_is_an_alert_too() -> None:
    watch, sources = watching(sources=2), Sources()
    events = [event for i in range(1, 25) for event in watch.observe(sources.link(0, i))[1]]
    assert drawn(events) == f"firing@{1 + (LAG_MS_MAX + LAG_HOLD_MS) // STEP_MS}"


def test_new_partitions_of_events_are_waited_for_also_after_a_restart() -> None:
    watch, sources = watching(CONFIDENCE, sources=2), Sources()
    for i in range(1, 60):  # long ago it was first heard
        assert not watch.observe(sources.link(0, i))[1] + watch.observe(sources.link(1, i))[1]
    watch.expect(3)
    watch = again(watch, sources=2)
    assert watch.sources == 3
    bad = detections(59, 30)
    assert not watch.observe(sources.link(0, 60, bad))[1] + watch.observe(sources.link(1, 60))[1]
    assert drawn(watch.observe(sources.link(2, 60, detections(59, 30)))[1]) == "firing@60"


def test_a_new_partition_that_is_never_heard_is_an_alert() -> None:
    watch, sources = watching(), Sources()
    for i in range(1, 60):
        watch.observe(sources.link(0, i))
    watch.expect(2)
    events = [event for i in range(60, 90) for event in watch.observe(sources.link(0, i))[1]]
    assert (drawn(events), events[0].metric) == (f"firing@{59 + (LAG_MS_MAX + LAG_HOLD_MS) // STEP_MS}", "input_lag_s")


def test_the_watchdog_fires_once_and_in_one_partition_only() -> None:
    events = story(watching(partition=0), Sources(), [90] * 200)
    assert [(event.metric, event.state.value) for event in events] == [("watchdog", "firing")]
    assert not story(watching(partition=1), Sources(), [90] * 200)


def test_the_alert_of_a_deleted_rule_ends() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    assert drawn(story(watch, sources, [30] * 3)) == "firing@1"
    (ended,) = watch.set_rules({})
    assert (ended.state.value, ended.sequence, ended.at_ms) == ("resolved", 2, START_MS + 3 * STEP_MS)
    assert not story(watch, sources, [30] * 3, first=3)


def test_the_alert_of_a_rule_about_something_else_ends_and_a_new_threshold_goes_on_with_it() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    story(watch, sources, [30] * 3)
    assert not watch.set_rules({"r": msgspec.structs.replace(CONFIDENCE, threshold=0.6)})
    (ended,) = watch.set_rules({"r": msgspec.structs.replace(CONFIDENCE, model_id=PALLETS)})
    assert ended.state.value == "resolved"


def test_a_rule_that_comes_between_two_records_of_a_window_sees_all_of_it() -> None:
    watch, sources = watching(sources=2), Sources()
    for i in (1, 2):
        watch.observe(sources.link(0, i))
        watch.observe(sources.link(1, i))
    watch.observe(sources.link(0, 3, detections(2, 90, count=950)))
    watch.set_rules({"r": CONFIDENCE})
    _, events = watch.observe(sources.link(1, 3, detections(2, 20)))
    assert not events


def test_an_acknowledged_alert_says_so_once() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    (fired,) = story(watch, sources, [30])
    (acked,) = watch.hear(said(fired, "taken"))
    assert (acked.state.value, acked.sequence) == ("acknowledged", 2)
    assert not watch.hear(said(fired, "taken"))
    assert not again(watch).hear(said(fired, "taken"))


def test_what_a_person_calls_normal_is_learned_and_then_the_alert_ends() -> None:
    """Once: whoever comes back later must not make the detector learn anew."""
    watch, sources = watching(), Sources()
    rng = random.Random(7)

    def hours(count: float, percent: int, first: int) -> list[AlertEvent]:
        return story(watch, sources, [percent + rng.randint(-3, 3) for _ in range(round(count * 360))], first)

    hours(1, 90, 0)
    fired = next(e for e in hours(0.2, 60, 360) if e.metric == "confidence")
    assert fired.state is AlertState.FIRING
    assert [e.state.value for e in watch.hear(said(fired, "normal"))] == ["acknowledged"]
    watch = again(watch)
    ended = None
    for step in range(10):
        assert not watch.hear(said(fired, "normal"))
        events = hours(0.1, 60, 432 + 36 * step)
        ended = ended or next((e for e in events if e.fingerprint == fired.fingerprint), None)
    assert ended is not None
    assert ended.state is AlertState.RESOLVED
    assert ended.at_ms <= fired.at_ms + 3_000_000


def test_what_a_person_calls_over_ends() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    (fired,) = story(watch, sources, [30])
    (ended,) = watch.hear(said(fired, "over"))
    assert ended.state is AlertState.RESOLVED
    assert not watch.hear(said(fired, "over"))


@pytest.mark.slow
def test_after_a_hole_of_a_week_judging_goes_on_at_once() -> None:
    watch, sources = watching(CONFIDENCE), Sources()
    story(watch, sources, [90] * 3)
    week = 7 * 8640
    late = detections(1, 90)  # a correction of long ago must not make it go step by step
    record = sources.link(0, week + 1, late, detections(week - 360, 30), detections(week, 90))
    events = watch.observe(record)[1]
    assert drawn(events[:1]) == f"firing@{week - 359}"
    assert watch.watermark_ms == START_MS + (week + 1) * STEP_MS


def random_story(seed: int) -> list[AggregateRecord | Callable[[ModelWatch], list[AlertEvent]]]:
    """Three sources in no order, with bad stretches, late rows, parts, repeats, a gap, and rules that come and go."""
    rng, sources = random.Random(seed), Sources()
    told: list[AggregateRecord | Callable[[ModelWatch], list[AlertEvent]]] = []
    done = dict.fromkeys(range(3), 0)
    slow = rule(rule_id="slow", metric="confidence_p5", operator="<", threshold=0.5, hold_s=20, keep_firing_s=30)
    rules = [{"r": CONFIDENCE}, {"r": CONFIDENCE, "slow": slow}, {"slow": slow}]
    records: list[AggregateRecord] = []
    while len(records) < 90:
        source = rng.choice([s for s in done if done[s] <= min(done.values()) + 3])
        window = done[source]
        percent = 30 if 8 < window < 16 or window > 24 else 90
        rows = [
            detections(max(0, window - rng.choice((0, 0, 0, 1, 9))), percent, rng.randint(1, 80), model)
            for model in (HELMETS, PALLETS)
        ]
        if rng.random() < 0.1:
            records.append(sources.link(source, window + 1, rows.pop(), part=1))
            told.append(records[-1])
        done[source] += 1
        records.append(sources.link(source, window + 1, *rows))
        if len(records) != 50:  # that one is lost
            told.append(records[-1])
        if rng.random() < 0.1:
            told.append(rng.choice(records[:-1] or records))
        if rng.random() < 0.05:
            wanted = rng.choice(rules)
            told.append(lambda watch, wanted=wanted: watch.set_rules(wanted))  # type: ignore[misc]
    return told


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_restart_at_any_record_changes_nothing(seed: int) -> None:
    told = random_story(seed)

    def play(restart: Callable[[], bool]) -> list[AlertEvent]:
        watch, events = watching(CONFIDENCE, sources=3, partition=0), []
        for one in told:
            events += watch.observe(one)[1] if isinstance(one, AggregateRecord) else one(watch)
            if restart():
                watch = again(watch, sources=3, partition=0)
        return events

    whole = play(lambda: False)
    assert {event.state.value for event in whole} >= {"firing", "resolved"}
    assert len({event.id for event in whole}) == len(whole)
    rng = random.Random(seed)
    assert play(lambda: rng.random() < 0.3) == whole
    assert play(lambda: True) == whole
