"""A month of one model: its windows as parquet, and how long `inferwatch detect backtest` takes over them."""

import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.detection.moment import WINDOWS_PER_DAY
from pipeline.core.windows.histogram import confidence_bins, latency_buckets
from tests.performance.detect.workload import (
    CONFIDENCE_SD,
    DETECTIONS,
    FIRST_INDEX,
    LATENCY_SD,
    MICROSECONDS_LOG,
    SHARES,
    Fault,
    Truth,
    World,
    with_fault,
)
from tests.performance.figures import Figure

Array = npt.NDArray[Any]

CLASSES = ("person", "helmet", "vest", "truck", "dog")
FAULT, FAULT_DAY, FAULT_WINDOWS = Fault("confidence", 0.05), 20, range(3600, 3960)  # an hour of a day
RULES = """
- {rule_id: unsure, workspace: bench, metric: confidence_mean, operator: "<", threshold: 0.72, window_s: 300}
- {rule_id: slow, workspace: bench, metric: latency_p95_ms, operator: ">", threshold: 120, window_s: 600}
"""
_MAP = pa.map_(pa.int32(), pa.uint64())


def figures(directory: Path, days: int, seed: int) -> list[Figure]:
    """Write the windows, run the command, and say what it took."""
    write(directory, days, seed)
    rules = directory / "rules.yaml"
    rules.write_text(RULES)
    name, target = f"{days} days of one model", days == 30
    return _backtest(name, directory, days, [], target) + _backtest(
        f"{name}, two rules", directory, days, ["--rules", str(rules)], False
    )


def _backtest(name: str, directory: Path, days: int, options: Sequence[str], has_target: bool) -> list[Figure]:
    command = [sys.executable, "-m", "agents.main", "detect", "backtest", "--input", str(directory), *options]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    windows = days * WINDOWS_PER_DAY
    (alerts,) = re.findall(r"alerts: (.*)", output)
    return [
        Figure(name, "whole command", seconds, "s", 30.0 if has_target else None),
        Figure(name, "its processor time", used, "s"),
        Figure(name, "processor time per window", used / windows * 1e6, "us", 115.0 if has_target else None),
        Figure(name, f"alerts, with a fault of an hour: {alerts}", float(windows), "windows"),
    ]


def write(directory: Path, days: int, seed: int) -> None:
    """model_windows.parquet and class_windows.parquet, a row group a day."""
    directory.mkdir(parents=True, exist_ok=True)
    world, rng = World(1, seed, dirty=False), np.random.default_rng(seed + 1000)
    with (
        pq.ParquetWriter(directory / "model_windows.parquet", _schema(True), compression="zstd") as models,
        pq.ParquetWriter(directory / "class_windows.parquet", _schema(False), compression="zstd") as classes,
    ):
        for day in range(days):
            truth = world.day_truth(day)
            if day == FAULT_DAY:
                truth = _with_spell(truth)
            of_models, of_classes = _day(truth, (FIRST_INDEX + day * WINDOWS_PER_DAY) * 10, rng)
            models.write_table(of_models)
            classes.write_table(of_classes)


def _with_spell(truth: Truth) -> Truth:
    faulty = with_fault(truth, FAULT)
    parts = (
        (truth, 0, FAULT_WINDOWS.start),
        (faulty, FAULT_WINDOWS.start, FAULT_WINDOWS.stop),
        (truth, FAULT_WINDOWS.stop, WINDOWS_PER_DAY),
    )
    names = Truth.__dataclass_fields__
    return Truth(*(np.concatenate([getattr(t.part(a, b), name) for t, a, b in parts]) for name in names))


def _day(truth: Truth, start_s: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    """Every inference and detection of a day, drawn and counted."""
    count = len(truth.traffic)
    inferences = rng.poisson(truth.traffic[:, 0])
    owner = np.repeat(np.arange(count), inferences)
    latency_us = np.exp(MICROSECONDS_LOG + truth.latency[owner, 0] + LATENCY_SD * rng.normal(size=len(owner)))
    found = rng.poisson(DETECTIONS, size=len(owner))
    of = np.repeat(owner, found)
    ppm = (1e6 * np.clip(truth.confidence[of, 0] + CONFIDENCE_SD * rng.normal(size=len(of)), 0, 1)).astype(np.int64)
    class_ = (rng.random(len(of))[:, None] > np.cumsum(truth.shares[:, 0], axis=1)[of, :-1]).sum(axis=1)
    window_start = start_s + 10 * np.arange(count)
    models = {
        "window_start": window_start,
        "workspace": ["bench"] * count,
        "model_id": ["helmets/3"] * count,
        "device_id": [""] * count,
        "inference_count": inferences,
        "error_count": rng.binomial(inferences, truth.errors[:, 0]),
        "empty_count": np.bincount(owner[found == 0], minlength=count),
        "detection_count": np.bincount(of, minlength=count),
        "latency_count": inferences,
        "latency_us_sum": np.bincount(owner, latency_us.astype(np.int64), count).astype(np.int64),
        "confidence_ppm_sum": np.bincount(of, ppm, count).astype(np.int64),
        "latency_histogram": _maps(owner, latency_buckets(latency_us.astype(np.int64)), count),
        "confidence_histogram": _maps(of, confidence_bins(ppm), count),
    }
    key = of * len(SHARES) + class_
    size = count * len(SHARES)
    detections = np.bincount(key, minlength=size)
    seen = np.flatnonzero(detections)
    row = np.searchsorted(seen, key)
    classes = {
        "window_start": window_start[seen // len(SHARES)],
        "workspace": ["bench"] * len(seen),
        "model_id": ["helmets/3"] * len(seen),
        "class": [CLASSES[c] for c in (seen % len(SHARES)).tolist()],
        "detection_count": detections[seen],
        "inference_count": np.minimum(detections[seen], inferences[seen // len(SHARES)]),
        "confidence_ppm_sum": np.bincount(key, ppm, size).astype(np.int64)[seen],
        "confidence_histogram": _maps(row, confidence_bins(ppm), len(seen)),
    }
    return pa.table(models, _schema(True)), pa.table(classes, _schema(False))


def _maps(row: Array, bucket: Array, rows: int) -> pa.Array:
    """One map a row from one bucket an observation."""
    base = int(bucket.max()) + 1
    filled, counts = np.unique(row * base + bucket, return_counts=True)
    offsets = np.searchsorted(filled, np.arange(rows + 1) * base)
    keys, items = pa.array(filled % base, pa.int32()), pa.array(counts, pa.uint64())
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items, _MAP)


def _schema(of_models: bool) -> pa.Schema:
    texts = ("workspace", "model_id", "device_id" if of_models else "class")
    sums: tuple[str, ...] = (
        "inference_count",
        "error_count",
        "empty_count",
        "detection_count",
        "latency_count",
        "latency_us_sum",
    )
    sums = (*sums, "confidence_ppm_sum") if of_models else ("detection_count", "inference_count", "confidence_ppm_sum")
    maps = ("latency_histogram", "confidence_histogram") if of_models else ("confidence_histogram",)
    fields = [("window_start", pa.timestamp("s", "UTC"))]
    fields += [(name, pa.string()) for name in texts] + [(name, pa.uint64()) for name in sums]
    return pa.schema(fields + [(name, _MAP) for name in maps])
