"""Closed windows of very many models, as aggregators put them on inference.aggregates; seeded.

Each model has one device, which sends an event a second with 3.6 detections of five classes. What a window holds is
drawn from a pool, so that a machine beside the worker can make them at the pace of the clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from pipeline.core.columns import Ragged, take
from pipeline.core.tally import Ints
from pipeline.core.windows.histogram import latency_buckets
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.kafka.producer import OutRecord
from schemas.aggregate import AggregateRecord, Rows, encode, with_all
from schemas.topics import AGGREGATES, EVENTS
from schemas.windows import CLASSES, MODELS, WindowTable

POOL = 512  # different windows of a model
INFERENCES = 10  # in a window, on average
CLASS_NAMES = ("person", "helmet", "vest", "forklift", "box")
SHARES = (0.4, 0.25, 0.2, 0.1, 0.05)
WORKSPACE = "acme"


@dataclass(frozen=True, slots=True)
class _Share:
    """The models of one source partition that lie in one partition of aggregates."""

    source: int
    target: int
    names: list[str]


class ManyModels:
    """A machine: each `window` is the next 10 seconds of all models."""

    def __init__(self, count: int, first_start_ms: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._models, self._classes = _pool(self._rng)
        self._first_start_ms = first_start_ms - first_start_ms % WINDOW_MS
        self._count = 0
        self._shares = list(_shares([f"model-{i:05d}/1" for i in range(count)]))

    @property
    def next_end_ms(self) -> int:
        """When the next window ends."""
        return self._first_start_ms + (self._count + 1) * WINDOW_MS

    def window(self) -> Iterator[OutRecord]:
        """One record of every source partition for every partition of aggregates."""
        end_ms = self.next_end_ms
        for share in self._shares:
            drawn = self._rng.integers(0, POOL, len(share.names))
            start, end = [0, self._count, end_ms - WINDOW_MS if self._count else 0, 0], [0, self._count + 1, end_ms, 0]
            models = _named(take(self._models, drawn), share.names, end_ms)
            classes = _named(take(self._classes, _class_rows(drawn)), share.names, end_ms)
            value = encode(AggregateRecord(share.source, start, end, [0] * 7, 0, models, classes))
            yield OutRecord(str(share.source).encode(), value, share.target)
        self._count += 1


def _shares(names: list[str]) -> Iterator[_Share]:
    targets = [crc32(f"{WORKSPACE}/{name}".encode()) % AGGREGATES.partitions for name in names]
    for source in range(EVENTS.partitions):
        for target in range(AGGREGATES.partitions):
            mine = [n for i, n in enumerate(names) if i % EVENTS.partitions == source and targets[i] == target]
            yield _Share(source, target, mine)


def _class_rows(drawn: Ints) -> Ints:
    """The rows of all classes of the drawn windows."""
    rows: Ints = (drawn[:, None] * len(CLASS_NAMES) + np.arange(len(CLASS_NAMES))).ravel()
    return rows


def _named(rows: Rows, names: list[str], end_ms: int) -> Rows:
    """The same of these models, in this window."""
    each = len(rows) // len(names) if names else 0
    texts = {**rows.texts, "workspace": [WORKSPACE] * len(rows), "model_id": [n for n in names for _ in range(each)]}
    if "class" not in texts:
        texts["device_id"] = [f"cam-{name}" for name in names]
    return replace(rows, window_start_s=np.full(len(rows), (end_ms - WINDOW_MS) // 1000), texts=texts)


def _pool(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """(rows of model_windows, rows of class_windows, all classes of each of the former)."""
    inferences = np.maximum(rng.poisson(INFERENCES, POOL), 1)
    detections = rng.poisson(3.6 * inferences[:, None] * np.array(SHARES))
    latencies = [np.round(rng.lognormal(np.log(40_000), 0.25, n)).astype(np.int64) for n in inferences]
    ppms = [
        [np.clip(np.round(rng.normal(850_000, 80_000, n)), 0, 1_000_000).astype(np.int64) for n in row]
        for row in detections
    ]
    of_model = [np.concatenate(row) for row in ppms]
    of_class = [one for row in ppms for one in row]
    models = _rows(MODELS, {}, detections.sum(axis=1), inferences, latencies, of_model)
    models.numbers["error_count"][:] = rng.random(POOL) < 0.02
    models.numbers["empty_count"][:] = np.minimum(rng.poisson(0.3, POOL), inferences)
    seen = np.minimum(detections, inferences[:, None]).ravel()
    return models, _rows(CLASSES, {"class": list(CLASS_NAMES) * POOL}, detections.ravel(), seen, [], of_class)


def _rows(
    table: WindowTable,
    texts: dict[str, list[str]],
    detections: Ints,
    inferences: Ints,
    latencies: list[Ints],
    confidences: list[Ints],
) -> Rows:
    numbers = {"detection_count": detections, "inference_count": inferences, **_spread("confidence_ppm", confidences)}
    histograms = {"confidence_histogram": _ragged([one // 10_000 for one in confidences])}
    if latencies:
        numbers |= {"latency_count": inferences, **_spread("latency_us", latencies)}
        histograms["latency_histogram"] = _ragged([latency_buckets(one) for one in latencies])
    return with_all(table, Rows(np.zeros(len(detections), np.int64), texts, numbers, histograms))


def _spread(name: str, values: list[Ints]) -> dict[str, Ints]:
    return {
        f"{name}_sum": np.array([int(one.sum()) for one in values], np.int64),
        f"{name}_min": np.array([one.min() if len(one) else 0 for one in values], np.int64),
        f"{name}_max": np.array([one.max() if len(one) else 0 for one in values], np.int64),
    }


def _ragged(keys: list[Ints]) -> Ragged:
    entries = [np.unique(one, return_counts=True) for one in keys]
    return Ragged(
        np.array([len(key) for key, _ in entries], np.int64),
        np.concatenate([key for key, _ in entries]),
        np.concatenate([count for _, count in entries]),
    )
