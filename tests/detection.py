"""Models as automatic detection sees them: windows of some traffic, drawn by a seed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.detection.anomaly import Anomaly
from pipeline.core.detection.detector import AutomaticDetector, WindowRows
from pipeline.core.windows.histogram import latency_buckets
from pipeline.core.windows.log_clock import WINDOW_MS
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from tests import builders

MONDAY_MS = (4 + 7 * 2900) * 86_400_000  # 00:00 UTC


@dataclass(frozen=True, slots=True)
class Health:
    """How a model does."""

    inferences: float = 40.0
    confidence: float = 0.8
    latency_ms: float = 40.0
    error_rate: float = 0.01
    empty_rate: float = 0.1
    shares: dict[str, float] = field(default_factory=lambda: {"person": 0.6, "car": 0.3, "dog": 0.1})


def model_rows(
    rng: np.random.Generator, health: Health, start_ms: int, model_id: str = "helmets/3", devices: int = 1
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A window of a model: rows of model_windows, one for each device, and of class_windows."""
    names = list(health.shares)
    models, classes = [], Counter[str]()
    for device in range(devices):
        n = int(rng.poisson(health.inferences / devices))
        if not n:
            continue
        detections = int(rng.poisson(2 * n))
        latency = np.exp(np.log(health.latency_ms * 1000) + 0.35 * rng.normal(size=n)).astype(np.int64)
        buckets = Counter(latency_buckets(latency).tolist())
        classes += Counter(rng.choice(names, detections, p=list(health.shares.values())).tolist())
        models.append(
            {
                "window_start_s": start_ms // 1000,
                "model_id": model_id,
                "device_id": f"cam-{device}",
                "inference_count": n,
                "error_count": int(rng.binomial(n, health.error_rate)),
                "empty_count": int(rng.binomial(n, health.empty_rate)),
                "detection_count": detections,
                "latency_count": n,
                "latency_histogram": dict(buckets),
                "confidence_ppm_sum": int(1e6 * rng.normal(health.confidence * detections, 0.12 * detections**0.5)),
            }
        )
    rows = [
        {"window_start_s": start_ms // 1000, "model_id": model_id, "class": name, "detection_count": count}
        for name, count in sorted(classes.items())
    ]
    return models, rows


def window_rows(models: list[dict[str, Any]], classes: list[dict[str, Any]]) -> WindowRows:
    """As the detector gets them."""
    record = aggregate.decode(builders.aggregate(models=models, classes=classes))
    assert isinstance(record, AggregateRecord)
    return WindowRows(record.models, record.classes)


class Life:
    """One model and the detector that watches it, window after window."""

    def __init__(self, seed: int = 1, start_ms: int = MONDAY_MS + 9 * 3_600_000) -> None:
        self.detector = AutomaticDetector()
        self.now_ms = start_ms
        self._rng = np.random.default_rng(seed)

    def go(self, windows: int, health: Health | None = None, *, masked: bool = False) -> list[Anomaly]:
        """So many windows of this; None: no inference at all. Returns what was found."""
        found = []
        for _ in range(windows):
            rows = model_rows(self._rng, health, self.now_ms) if health is not None else ([], [])
            models = [("acme", "helmets/3")] if masked else []
            found += self.detector.observe(self.now_ms, [window_rows(*rows)], models)
            self.now_ms += WINDOW_MS
        return found
