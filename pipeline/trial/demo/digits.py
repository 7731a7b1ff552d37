"""The demo's real job: two classifiers of handwritten digits, trained in seconds on images of scikit-learn's own.

What a camera sees (clean, noisy or dark) is drawn once for every held-out image, kept as a PNG, and classified live.
"""

import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.trial.phases import Effect

Pixels = npt.NDArray[np.float64]  # 64 of them, 0..1

MODELS = ("digits/1", "digits/2")
TRAINING_COUNT = 1200  # of 1797; the rest are held out
SCALE = 16  # an image is 8 x 8; people see 128 x 128
SIZE = 8 * SCALE


class DigitsError(Exception):
    """The classifiers cannot be trained; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What a model said about one image."""

    digit: int
    confidence: float
    latency_ms: float
    label: int  # the truth
    image: Path


class Digits:
    """The two trained models, and the images that they have never seen."""

    def __init__(self, models: dict[str, Any], views: dict[Effect, Pixels], labels: list[int], directory: Path) -> None:
        self._models = models
        self._views = views
        self._labels = labels
        self._directory = directory

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._labels)

    def classify(self, model_id: str, number: int, effect: Effect) -> Inference:
        """Runs the model on one image, as its camera sees it."""
        pixels = self._views[effect][number : number + 1]
        start = time.perf_counter_ns()
        probabilities = self._models[model_id].predict_proba(pixels)[0]
        latency_ms = (time.perf_counter_ns() - start) / 1e6
        digit = int(probabilities.argmax())
        return Inference(
            digit=digit,
            confidence=float(probabilities[digit]),
            latency_ms=latency_ms,
            label=self._labels[number],
            image=self._directory / f"{number:03d}-{effect.value}.png",
        )


def train(directory: Path) -> Digits:
    """Trains both models and writes the held-out images into `directory`. Raises DigitsError."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
    except ImportError as error:
        raise DigitsError("the demo needs scikit-learn; install it with: pip install 'inferwatch[demo]'") from error
    data = load_digits()
    pixels, labels = data.data / 16, data.target
    rng = np.random.default_rng(7)
    order = rng.permutation(len(pixels))
    training, held_out = order[:TRAINING_COUNT], order[TRAINING_COUNT:]
    models = {
        "digits/1": LogisticRegression(C=0.1, max_iter=100),
        "digits/2": MLPClassifier((48,), max_iter=120, learning_rate_init=0.01, alpha=0.5, tol=1e-3, random_state=1),
    }
    for model in models.values():
        model.fit(pixels[training], labels[training])
        model.predict_proba(pixels[:1])  # the first call is slow
    clean = pixels[held_out]
    views = {
        Effect.CLEAN: clean,
        Effect.NOISE: np.clip(clean + rng.normal(0, 0.5, clean.shape), 0, 1),
        Effect.DARK: np.clip(clean * 0.08 + rng.normal(0, 0.02, clean.shape), 0, 1),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for effect, images in views.items():
            for number, image in enumerate(images):
                (directory / f"{number:03d}-{effect.value}.png").write_bytes(_png(image))
    except OSError as error:
        raise DigitsError(f"cannot write images to {directory}: {error.strerror}; choose another --data-dir") from error
    return Digits(models, views, labels[held_out].tolist(), directory)


def _png(pixels: Pixels) -> bytes:
    """An 8 x 8 grey image, enlarged, as a PNG file."""
    grey = np.kron((pixels.reshape(8, 8) * 255).astype(np.uint8), np.ones((SCALE, SCALE), np.uint8))
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
