"""The account of what was acknowledged: its sums are those that a reader of the topic would count."""

import random
from collections import Counter, defaultdict

import msgspec
import numpy as np
import pytest

from pipeline.core.windows.log_clock import window_start
from pipeline.trial.sent import Account, Cell, decode, encode
from pipeline.trial.workload import DrawnRecords, Workload, WorkloadSpec
from schemas import event
from schemas.event import InferenceEvent, TimeLimits
from schemas.rejection import Rejected

pytestmark = pytest.mark.slow

NOW_MS = 1_795_373_683_301
SPEC = WorkloadSpec(seed=3, workspace="acme", models=3, devices=5, late=0.2, duplicate=0.1, malformed=0.1, errors=0.1)


def _recount(values: list[bytes | None]) -> tuple[set[Cell], dict[str, int]]:
    """What a plain reader counts: decodes each record, and adds up."""
    sums: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0] * 7)
    refused: Counter[str] = Counter()
    for value in values:
        got = event.decode(value, NOW_MS, TimeLimits())
        if not isinstance(got, InferenceEvent):
            assert isinstance(got, Rejected)
            refused[got.reason.value] += 1
            continue
        counts = sums[got.workspace, got.model_id, got.device_id or "", window_start(got.event_time_ms)]
        ppm = [round(p.confidence * 1e6) for p in got.predictions]
        latency_us = 0 if got.latency_ms is None else round(got.latency_ms * 1000)
        one = (1, bool(got.error), not ppm, len(ppm), got.latency_ms is not None, latency_us, sum(ppm))
        for i, count in enumerate(one):
            counts[i] += count
    return {Cell(*key, *counts) for key, counts in sums.items()}, dict(refused)


def _parts(count: int, size: int) -> tuple[Workload, list[DrawnRecords]]:
    workload = Workload(SPEC)
    return workload, [workload.take(size, NOW_MS) for _ in range(count // size)]


def test_sums_equal_a_recount_in_whatever_order_answers_come() -> None:
    workload, parts = _parts(90_000, 3000)  # more than is added up at once
    values = [value for part in parts for value in workload.values(part)]
    account = Account("acme", workload.streams)
    order = list(enumerate(parts))
    random.Random(1).shuffle(order)
    for i, part in order:
        account.acknowledged(0, i * 3000, part)
    sent = account.sent("t", 3, 0, 1)
    cells, refused = _recount(values)
    assert set(sent.cells) == cells
    assert len(sent.cells) == len(cells)
    assert sent.refused == refused
    assert sent.record_count == len(values) == sum(refused.values()) + sum(c.inference_count for c in cells)
    assert sum(count for _, count in sent.ranges[0]) == len(values)


def test_neighbouring_ranges_are_joined_and_gaps_stay() -> None:
    workload, (a, b, c) = _parts(30, 10)
    account = Account("acme", workload.streams)
    for partition, base, part in ((2, 5, a), (2, 15, b), (2, 40, c)):
        account.acknowledged(partition, base, part)
    assert account.sent("t", 3, 0, 1).ranges == {2: [(5, 20), (40, 10)]}


def test_what_kafka_has_without_saying_where_is_counted_apart() -> None:
    workload, (part,) = _parts(10, 10)
    account = Account("acme", workload.streams)
    account.acknowledged(1, -1, part)
    sent = account.sent("t", 3, 0, 1)
    assert (sent.record_count, sent.ranges, sent.without_offset) == (10, {}, {1: 10})


def test_what_was_never_answered_is_listed_with_its_sums_and_in_no_other() -> None:
    workload, (known, unknown) = _parts(2000, 1000)
    account = Account("acme", workload.streams)
    account.acknowledged(0, 0, known)
    account.unknown(3, unknown)
    sent = account.sent("t", 3, 0, 1)
    (batch,) = sent.unknown
    assert (batch.partition, batch.record_count) == (3, 1000)
    assert (set(batch.cells), batch.refused) == _recount(workload.values(unknown))
    assert (set(sent.cells), sent.refused) == _recount(workload.values(known))


def test_duplicates_are_counted() -> None:
    workload, (part,) = _parts(2000, 2000)
    account = Account("acme", workload.streams)
    account.acknowledged(0, 0, part)
    assert account.sent("t", 3, 0, 1).duplicate_count == 2000 - len(np.unique(part.number)) > 100


def test_the_file_reads_back_as_it_was_written() -> None:
    workload, (a, b) = _parts(2000, 1000)
    account = Account("acme", workload.streams)
    account.acknowledged(0, 7, a)
    account.acknowledged(1, -1, b)
    account.unknown(2, b)
    sent = account.sent("t", 3, 1, 2)
    assert decode(encode(sent)) == sent


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"not json"])
def test_another_file_is_not_taken_for_one(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(raw)


def test_a_file_of_another_version_is_refused() -> None:
    raw = encode(Account("acme", Workload(SPEC).streams).sent("t", 3, 0, 1))
    with pytest.raises(msgspec.ValidationError, match="version 2"):
        decode(raw.replace(b'"version":1', b'"version":2'))
