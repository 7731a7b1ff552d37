"""Every kernel makes of every batch what the Python one makes; and rows that come folded are as good as events."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.core.batch import Batch
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.windows.aggregation import FoldBatch, PartitionAggregator
from pipeline.core.windows.contributions import Contribution, Contributions
from pipeline.core.windows.fold import fold
from pipeline.core.windows.publication import records as published
from pipeline.kernel import KERNELS, Kernel, python
from schemas import topics
from schemas.event import TimeLimits
from tests.builders import FAR_MS, LIMITS, aggregate, heartbeat, log_batch, metadata, random_log, records, vision_record

SEEDS = range(12)


def cut(seed: int, fold_batch: FoldBatch, size: int = 7) -> list[tuple[int, bytes]]:
    """The records of a cut of a whole log."""
    log = random_log(seed, 60)
    machine = PartitionAggregator(AggregatorName.begin(log[0].offset), LIMITS)
    for start in range(0, len(log), size):
        machine.observe(log_batch(log[start : start + size]), fold_batch)
    found = machine.cut(FAR_MS, 3)
    assert found is not None
    return list(published(found, 0))


def folded(batch: Batch, limits: TimeLimits, from_offset: int, closed_ms: int) -> Contributions:
    """As a kernel that folds by itself: rows, under names in another order, some of which nothing is of."""
    found = python.fold(batch, limits, from_offset, closed_ms)
    windows = []
    for one in found.windows:
        assert one.events is not None
        models, classes = fold(one.events)
        last_model, last_class = len(found.models) - 1, len(found.classes)
        key = (last_model - (classes.key >> 32)) << 32 | (last_class - (classes.key & 0xFFFFFFFF))
        rows = replace(models, key=len(found.series) - models.key), replace(classes, key=key)
        windows.append(Contribution(one.start_ms, one.first_offset, rows=rows))
    series = [("nobody", "at", "all"), *reversed(found.series)]
    names = ["none", *reversed(found.classes)]
    return replace(found, series=series, models=[*reversed(found.models)], classes=names, windows=windows)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_kernels_cuts_are_the_oracles_to_the_byte(kernel: Kernel, seed: int) -> None:
    assert cut(seed, kernel.fold) == cut(seed, python.fold, size=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_come_folded_make_the_same_bytes(seed: int) -> None:
    assert cut(seed, folded) == cut(seed, python.fold)


ROWS: list[tuple[topics.Topic, Callable[[int], Any]]] = [
    (topics.EVENTS, lambda seed: log_batch(random_log(seed, 40))),
    (topics.HEARTBEATS, lambda seed: records([heartbeat(), b"{"])),
    (topics.METADATA, lambda seed: records([metadata(), None])),
    (topics.VISION_EVENTS, lambda seed: records([vision_record(), b"{"])),
    (topics.AGGREGATES, lambda seed: records([aggregate(), b""])),
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("topic", "made"), ROWS, ids=[topic.name for topic, _ in ROWS])
def test_a_kernels_rows_are_the_oracles_to_the_byte(kernel: Kernel, topic: topics.Topic, made: Any) -> None:
    for seed in SEEDS:
        ours, oracles = kernel.rows(topic, LIMITS, made(seed)), python.rows(topic, LIMITS, made(seed))
        assert [(b.table, b.names, b.body, b.offsets.tolist()) for b in ours.blocks] == [
            (b.table, b.names, b.body, b.offsets.tolist()) for b in oracles.blocks
        ]
        assert all(
            np.array_equal(a.place.times, b.place.times) for a, b in zip(ours.blocks, oracles.blocks, strict=True)
        )
        assert replace(ours, blocks=()) == replace(oracles, blocks=())
