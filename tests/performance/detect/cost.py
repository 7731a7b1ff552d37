"""What a window costs: automatic detection of 10,000 models, in processor time, on one core."""

import time

import numpy as np

from pipeline.core.detection.detector import AutomaticDetector
from pipeline.core.detection.signals import SIGNALS, Signals
from tests.performance.detect.workload import FIRST_INDEX, World, look
from tests.performance.figures import Figure

_KNOWN_WINDOWS = 40  # drawn once, and used in turn


def figures(models: int = 10_000, windows: int = 60) -> list[Figure]:
    """Time and memory, while nothing is wrong."""
    detector = AutomaticDetector()
    detector.watch([("bench", str(model)) for model in range(models)])
    world = World(models, 1, dirty=False)
    truth = world.moment_truth(9 * 360, _KNOWN_WINDOWS)
    seen = look(truth, np.random.default_rng(2))
    unmasked = np.zeros(models, np.bool_)
    seconds = []
    for window in range(windows):
        row = window % _KNOWN_WINDOWS
        start = time.process_time()
        detector.advance(FIRST_INDEX + 9 * 360 + window, Signals(seen.x[row], seen.n[row]), unmasked)
        seconds.append(time.process_time() - start)
    per_model = float(np.median(seconds[5:])) / models * 1e6
    return [
        Figure("cost", "time per signal-update", per_model / SIGNALS, "us", 0.2),
        Figure("cost", "time per model and window", per_model, "us"),
        Figure("cost", "one core used by 10,000 models", per_model * models / 1e7 * 100, "%"),
        Figure("cost", "memory per model", detector.bytes_per_model, "bytes"),
    ]
