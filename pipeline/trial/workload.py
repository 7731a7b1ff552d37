"""What a load generator sends: realistic detection events, a function of a seed and of how many were drawn before.

What is slow is encoded once, into a pool of tails (predictions, image, metadata); an event is a tail with its own id,
time and latency put in front of it. The caller gives the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from pipeline.trial.breakage import WAYS, broken, way_of_turn

Ints = npt.NDArray[np.int64]

BLOCK = 4096  # numbers drawn together
POOL = 12_288  # tails, at least
LATENCIES = 512  # different latencies of each model
PER_ERROR_POOL = 4  # error events of each stream
NO_LATENCY = -1

MODEL_NAMES = ("helmets", "pallets", "defects", "traffic", "plates", "shelves", "crops", "labels")
# fmt: off
CLASS_NAMES = (
    "person", "helmet", "vest", "forklift", "pallet", "box", "car", "truck", "bus", "bicycle", "dog", "cat", "crack",
    "scratch", "dent", "bottle", "label", "barcode", "face", "hand", "plate", "cone", "door", "wheel", "pole", "sign",
    "tree", "boat", "plane", "bag",
)
# fmt: on
SIZES = ((640, 480), (1280, 720), (1920, 1080), (640, 640))
ERRORS = ("CUDA out of memory", "image could not be decoded", "model timed out after 30 s")
DETECTIONS = (
    0.09,
    0.13,
    0.13,
    0.17,
    0.15,
    0.11,
    0.08,
    0.05,
    0.04,
    0.03,
    0.02,
)  # share of events with 0, 1, .. 10; mean 3.75

_HEAD = b'{"schema":1,"event_id":"%b%010x","event_time_ms":%d,"latency_ms":%b%b'


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What to send. The fractions are of the events, 0..1."""

    seed: int = 1
    workspace: str = "default"
    models: int = 8
    devices: int = 64
    classes: int = 20
    late: float = 0.0  # 5 s .. 10 min, and one in fifty of them 2 days
    duplicate: float = 0.0  # sent twice, same bytes
    malformed: float = 0.0
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class Stream:
    """One model on one device."""

    model: int
    model_id: str
    device_id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class DrawnRecords:
    """Some records in the order they are sent; every column has one entry per record."""

    number: Ints  # of the event; a duplicate has the number of its first
    time_ms: Ints
    stream: Ints
    tail: Ints
    latency: Ints  # index into the pool of latencies
    latency_us: Ints  # NO_LATENCY: not given
    detection_count: Ints
    confidence_ppm_sum: Ints
    is_error: Ints  # 0 or 1
    way: Ints  # index into breakage.WAYS; -1: a good event

    def __len__(self) -> int:
        return len(self.number)

    def select(self, which: Ints) -> "DrawnRecords":
        """These records alone."""
        return DrawnRecords(*(getattr(self, column)[which] for column in self.__slots__))


def model_ids(count: int) -> list[str]:
    """helmets/1, pallets/1, ..., helmets/2, ..."""
    return [f"{MODEL_NAMES[i % len(MODEL_NAMES)]}/{1 + i // len(MODEL_NAMES)}" for i in range(count)]


def class_names(count: int) -> list[str]:
    """The names of the classes."""
    return [CLASS_NAMES[i] if i < len(CLASS_NAMES) else f"class-{i:03d}" for i in range(count)]


def daily_rhythm(time_ms: int) -> float:
    """How busy a site is at this time of day (UTC): 0.3 at 02:00, 1.7 at 14:00, 1 on average."""
    of_day = (time_ms % 86_400_000) / 86_400_000
    return float(1 - 0.7 * np.cos(2 * np.pi * (of_day - 2 / 24)))


class Workload:
    """A machine: each `take` draws the next records. The same spec and the same calls give the same bytes."""

    def __init__(self, spec: WorkloadSpec) -> None:
        assert min(spec.models, spec.devices, spec.classes) >= 1
        self.spec = spec
        self.streams = _streams(spec)
        self._id_prefix = b"%08x-" % (spec.seed & 0xFFFFFFFF)
        rng = np.random.default_rng([spec.seed & 0xFFFFFFFF, 1])
        share = rng.lognormal(0, 0.4, len(self.streams))  # some cameras see more than others
        self._busy = np.cumsum(share) / share.sum()
        self._latency_us, self._latency_text = _latencies(rng, spec.models)
        self._model = np.array([stream.model for stream in self.streams])
        self._tails = _Tails(rng, spec, self.streams)
        self._block = 0
        self._turn = 0  # how many malformed events there were
        self._ready = self._draw()
        self._last_number, self._last_time_ms = -1, 0

    def take(self, count: int, now_ms: int) -> DrawnRecords:
        """The next `count` records, as of now."""
        parts = []
        while count > len(self._ready):
            parts.append(self._ready)
            count -= len(self._ready)
            self._ready = self._draw()
        parts.append(self._ready.select(np.arange(count)))
        self._ready = self._ready.select(np.arange(count, len(self._ready)))
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in DrawnRecords.__slots__)
        records = DrawnRecords(*columns)
        records.time_ms[:] = now_ms - records.time_ms  # drawn as ages
        if len(records):
            if records.number[0] == self._last_number:  # its first was the last of the take before
                records.time_ms[0] = self._last_time_ms
            self._last_number, self._last_time_ms = int(records.number[-1]), int(records.time_ms[-1])
        return records

    def values(self, records: DrawnRecords) -> list[bytes | None]:
        """The records as they go to Kafka."""
        prefix, latencies, tails, head = self._id_prefix, self._latency_text, self._tails.text, _HEAD
        columns = (records.number, records.time_ms, records.latency, records.tail)
        values: list[bytes | None] = [
            head % (prefix, n, t, latencies[lat], tails[k])
            for n, t, lat, k in zip(*(column.tolist() for column in columns), strict=True)
        ]
        for i in np.flatnonzero(records.way >= 0).tolist():
            good = values[i]
            assert good is not None
            values[i] = broken(WAYS[records.way[i]], good, int(records.time_ms[i]))
        return values

    def _draw(self) -> DrawnRecords:
        """The next block; `time_ms` holds ages for now."""
        spec, first = self.spec, self._block * BLOCK
        rng = np.random.default_rng([spec.seed & 0xFFFFFFFF, 2, self._block])
        self._block += 1
        stream = np.searchsorted(self._busy, rng.random(BLOCK)).clip(max=len(self.streams) - 1)
        is_error = (rng.random(BLOCK) < spec.errors).astype(np.int64)
        tail = self._tails.draw(rng, stream, is_error)
        latency = self._model[stream] * LATENCIES + rng.integers(0, LATENCIES, BLOCK)
        way = np.full(BLOCK, -1)
        malformed = np.flatnonzero(rng.random(BLOCK) < spec.malformed)
        way[malformed] = [way_of_turn(self._turn + i) for i in range(len(malformed))]
        self._turn += len(malformed)
        records = DrawnRecords(
            number=first + np.arange(BLOCK),
            time_ms=_ages(rng, spec.late),
            stream=stream,
            tail=tail,
            latency=latency,
            latency_us=self._latency_us[latency],
            detection_count=self._tails.detection_count[tail],
            confidence_ppm_sum=self._tails.confidence_ppm_sum[tail],
            is_error=is_error,
            way=way,
        )
        return records.select(np.repeat(np.arange(BLOCK), 1 + (rng.random(BLOCK) < spec.duplicate)))


def _streams(spec: WorkloadSpec) -> list[Stream]:
    """Every model and every device occurs; the longer list once, the shorter one in turn."""
    models = model_ids(spec.models)
    return [
        Stream(i % spec.models, models[i % spec.models], device, device.encode())
        for i in range(max(spec.models, spec.devices))
        for device in [f"cam-{i % spec.devices:04d}"]
    ]


def _ages(rng: np.random.Generator, late: float) -> Ints:
    """How long before it is sent each event happened, in ms."""
    age = np.minimum(rng.exponential(25, BLOCK), 500).astype(np.int64)
    is_late = rng.random(BLOCK) < late
    very = rng.random(BLOCK) < 0.02
    age[is_late] = rng.integers(5_000, 600_000, BLOCK)[is_late]
    age[is_late & very] = 2 * 86_400_000 + rng.integers(0, 60_000, BLOCK)[is_late & very]
    return age


def _latencies(rng: np.random.Generator, models: int) -> tuple[Ints, list[bytes]]:
    """Log-normal, each model with its own middle; one in a hundred is unknown."""
    middle_ms = rng.uniform(8, 90, models)[:, None]
    us = (middle_ms * rng.lognormal(0, 0.35, (models, LATENCIES)) * 1000).astype(np.int64).ravel()
    us[rng.random(len(us)) < 0.01] = NO_LATENCY
    return us, [b"null" if value == NO_LATENCY else b"%d.%03d" % divmod(value, 1000) for value in us.tolist()]


class _Tails:
    """All that follows the latency, encoded: those of stream s from s * each on, then the errors of every stream."""

    def __init__(self, rng: np.random.Generator, spec: WorkloadSpec, streams: Sequence[Stream]) -> None:
        self.each = max(8, POOL // len(streams))
        self.first_error = self.each * len(streams)
        self._spec = spec
        counts = rng.choice(len(DETECTIONS), self.first_error, p=DETECTIONS)
        detections, ppm = _detections(rng, spec.classes, int(counts.sum()))
        ends = np.cumsum(counts)
        bounds = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))
        self.text: list[bytes] = []
        for index, stream in enumerate(streams):
            before, after = self._wrapping(index, stream)
            for start, end in bounds[index * self.each : (index + 1) * self.each]:
                self.text.append(before + orjson.dumps(detections[start:end]) + after)
        for index, stream in enumerate(streams):
            before, after = self._wrapping(index, stream)
            for i in range(PER_ERROR_POOL):
                self.text.append(before + b'[],"error":' + orjson.dumps(ERRORS[i % len(ERRORS)]) + after)
        errors = np.zeros(PER_ERROR_POOL * len(streams), np.int64)
        sums = np.concatenate([[0], np.cumsum(ppm)])
        self.detection_count = np.concatenate([counts, errors])
        self.confidence_ppm_sum = np.concatenate([sums[ends] - sums[ends - counts], errors])

    def draw(self, rng: np.random.Generator, stream: Ints, is_error: Ints) -> Ints:
        """A tail for each event."""
        good = stream * self.each + rng.integers(0, self.each, len(stream))
        bad = self.first_error + stream * PER_ERROR_POOL + rng.integers(0, PER_ERROR_POOL, len(stream))
        return np.where(is_error, bad, good)

    def _wrapping(self, index: int, stream: Stream) -> tuple[bytes, bytes]:
        width, height = SIZES[index % len(SIZES)]
        before = {
            "workspace": self._spec.workspace,
            "model_id": stream.model_id,
            "device_id": stream.device_id,
        }
        after = {
            "image": {"width": width, "height": height},
            "metadata": {"site": f"s{index % 7}", "line": index % 12},
            "tags": ["load"],
        }
        return b"," + orjson.dumps(before)[1:-1] + b',"predictions":', b"," + orjson.dumps(after)[1:]


def _detections(rng: np.random.Generator, class_count: int, count: int) -> tuple[list[dict[str, object]], Ints]:
    """`count` detections, and their confidences in ppm. Each class has its own beta distribution of confidence."""
    names = class_names(class_count)
    a, b = rng.uniform(4, 12, class_count), rng.uniform(1, 4, class_count)
    classes = (rng.random(count) ** 2 * class_count).astype(np.int64)  # squared: some are seen far more often
    ten_thousandths = np.rint(rng.beta(a[classes], b[classes]) * 10_000).astype(np.int64)
    centres = rng.uniform((40, 40), (600, 440), (count, 2)).round(1).tolist()
    sizes = rng.integers(20, 300, (count, 2)).tolist()
    detections: list[dict[str, object]] = [
        {"class": names[c], "confidence": t / 10_000, "x": x, "y": y, "width": w, "height": h}
        for c, t, (x, y), (w, h) in zip(classes.tolist(), ten_thousandths.tolist(), centres, sizes, strict=True)
    ]
    return detections, ten_thousandths * 100
