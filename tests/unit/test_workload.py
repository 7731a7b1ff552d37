"""What the load generator sends: the same for the same seed, accepted when good, refused as intended when not."""

from collections import Counter

import numpy as np
import pytest

from pipeline.trial.breakage import HUGE_EVERY, WAYS
from pipeline.trial.workload import BLOCK, NO_LATENCY, DrawnRecords, Workload, WorkloadSpec, daily_rhythm
from schemas.event import InferenceEvent, TimeLimits, decode
from schemas.rejection import Reason, Rejected

pytestmark = pytest.mark.slow

NOW_MS = 1_795_373_683_301
EVERYTHING = WorkloadSpec(seed=7, models=3, devices=8, late=0.1, duplicate=0.05, malformed=0.05, errors=0.05)


def _drawn(spec: WorkloadSpec, *counts: int, now_ms: int = NOW_MS) -> tuple[list[DrawnRecords], list[bytes | None]]:
    workload = Workload(spec)
    taken = [workload.take(count, now_ms) for count in counts]
    return taken, [value for records in taken for value in workload.values(records)]


def test_the_same_seed_sends_the_same_bytes_and_another_seed_does_not() -> None:
    _, values = _drawn(EVERYTHING, 3000)
    assert values == _drawn(EVERYTHING, 3000)[1]
    assert values != _drawn(WorkloadSpec(seed=8, models=3, devices=8), 3000)[1]


def test_it_does_not_matter_in_how_many_takes_the_records_are_drawn() -> None:
    _, whole = _drawn(EVERYTHING, 2 * BLOCK + 1000)
    _, split = _drawn(EVERYTHING, 0, 1, 999, BLOCK, BLOCK - 500, 500)
    assert whole == split


def test_every_good_event_is_accepted_and_says_what_its_columns_say() -> None:
    workload = Workload(EVERYTHING)
    records = workload.take(5000, NOW_MS)
    for i, value in enumerate(workload.values(records)):
        if records.way[i] >= 0:
            continue
        event = decode(value, NOW_MS, TimeLimits())
        assert isinstance(event, InferenceEvent)
        stream = workload.streams[records.stream[i]]
        assert (event.workspace, event.model_id, event.device_id) == ("default", stream.model_id, stream.device_id)
        assert event.event_time_ms == records.time_ms[i]
        latency_us = NO_LATENCY if event.latency_ms is None else round(event.latency_ms * 1000)
        assert latency_us == records.latency_us[i]
        assert len(event.predictions) == records.detection_count[i]
        assert sum(round(p.confidence * 1e6) for p in event.predictions) == records.confidence_ppm_sum[i]
        assert bool(event.error) == records.is_error[i]


def test_every_malformed_event_is_refused_for_the_intended_reason_and_every_reason_occurs() -> None:
    (records,), values = _drawn(WorkloadSpec(malformed=1.0, devices=2, late=0.5), 2 * HUGE_EVERY)
    seen = set()
    for way, value in zip(records.way.tolist(), values, strict=True):
        refused = decode(value, NOW_MS, TimeLimits())
        assert isinstance(refused, Rejected), WAYS[way]
        assert refused.reason is WAYS[way].reason, WAYS[way]
        seen.add(WAYS[way].name)
    assert seen == {way.name for way in WAYS}
    assert {way.reason for way in WAYS} == set(Reason)


def test_a_record_over_the_limit_is_rare() -> None:
    (records,), _ = _drawn(WorkloadSpec(malformed=0.1, devices=2), 50 * HUGE_EVERY)
    ways = Counter(WAYS[way].name for way in records.way[records.way >= 0].tolist())
    assert 3 <= ways["over 1 MiB"] <= 7


def test_event_ids_are_unique_but_for_duplicates_which_are_the_same_bytes() -> None:
    (records,), values = _drawn(WorkloadSpec(duplicate=0.1, devices=4), 5000)
    by_number = dict(zip(records.number.tolist(), values, strict=True))
    assert all(by_number[n] == value for n, value in zip(records.number.tolist(), values, strict=True))
    assert 350 < len(values) - len(by_number) < 650
    events = [decode(value, NOW_MS, TimeLimits()) for value in by_number.values()]
    assert len({event.event_id for event in events if isinstance(event, InferenceEvent)}) == len(by_number)


def test_a_duplicate_has_the_same_bytes_when_it_comes_in_a_later_take() -> None:
    workload = Workload(WorkloadSpec(duplicate=1.0, devices=2))
    values = [workload.values(workload.take(1, NOW_MS + i * 1000))[0] for i in range(20)]
    assert values[::2] == values[1::2]
    assert len(set(values)) == 10


def test_late_events_happened_five_seconds_to_two_days_ago_and_the_others_just_now() -> None:
    (records,), _ = _drawn(WorkloadSpec(late=0.5), 20_000)
    ages = NOW_MS - records.time_ms
    late = ages[ages >= 5000]
    assert ages.min() >= 0
    assert 0.45 < len(late) / len(ages) < 0.55
    assert ages[ages < 5000].max() <= 500
    minutes, days = late[late < 600_000], late[late >= 600_000]
    assert len(minutes) + len(days) == len(late)
    assert 0 < len(days) < 0.05 * len(late)
    assert days.max() < 3 * 86_400_000


def test_events_have_the_size_and_shape_of_real_ones() -> None:
    (records,), values = _drawn(WorkloadSpec(errors=0.02), 20_000)
    sizes = [len(value) for value in values if value is not None]
    assert 500 < np.mean(sizes) < 600
    assert 3.4 < records.detection_count.mean() < 4
    assert (records.detection_count.min(), records.detection_count.max()) == (0, 10)
    assert 0.01 < records.is_error.mean() < 0.03
    assert 0.005 < (records.latency_us == NO_LATENCY).mean() < 0.02


@pytest.mark.parametrize(("models", "devices"), [(1, 1), (5, 2), (2, 5), (4, 4)])
def test_every_model_and_every_device_occurs(models: int, devices: int) -> None:
    streams = Workload(WorkloadSpec(models=models, devices=devices)).streams
    assert len({s.model_id for s in streams}) == models
    assert len({s.device_id for s in streams}) == devices
    assert len(streams) == max(models, devices)


def test_the_daily_rhythm_is_one_on_average_and_busiest_in_the_afternoon() -> None:
    hours = [daily_rhythm(hour * 3_600_000) for hour in range(24)]
    assert np.mean(hours) == pytest.approx(1)
    assert hours.index(min(hours)) == 2
    assert hours.index(max(hours)) == 14
    assert min(hours) > 0
