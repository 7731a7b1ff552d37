"""One world, watched by the detector that is deployed: false alarms by channel, delays by fault, and an oracle's."""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.detection.detector import AutomaticDetector
from pipeline.core.detection.moment import WINDOWS_PER_DAY, WINDOWS_PER_HOUR
from pipeline.core.detection.signals import CHANNELS, Signals
from tests.performance.detect import oracle
from tests.performance.detect.workload import FAULTS, FIRST_INDEX, Fault, Seen, Truth, World, look, with_fault

Array = npt.NDArray[Any]

MISSED_WINDOWS = 1440  # four hours; a fault not seen by then counts as seen then
HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True)
class Size:
    """How much is simulated."""

    streams: int = 48
    learn_days: int = 21  # a week of baseline, two of tails
    test_days: int = 14
    injections: int = 4  # times of day, in the last test days
    asked: float = 1.0


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    model_weeks: float
    false_alarms: Array  # (CHANNELS, ): runs of hours with an alarm in the test days
    cold_alarms: Array  # (days, CHANNELS): the same, by day of the cold start
    delays: dict[Fault, list[int]] = field(default_factory=lambda: defaultdict(list))  # MISSED_WINDOWS: missed
    oracle_delays: dict[Fault, list[int]] = field(default_factory=lambda: defaultdict(list))
    members: dict[Fault, list[str]] = field(default_factory=lambda: defaultdict(list))  # who saw it


def run(size: Size, seed: int, *, dirty: bool, progress: Any = None) -> Outcome:
    """Learn, count false alarms, then inject faults into copies of the detector."""
    world, rng = World(size.streams, seed, dirty=dirty), np.random.default_rng(seed + 1000)
    detector = AutomaticDetector(size.asked)
    detector.watch([("bench", str(stream)) for stream in range(size.streams)])
    days = size.learn_days + size.test_days
    alarms = np.zeros((days * HOURS_PER_DAY, CHANNELS, size.streams), np.bool_)
    oracles = _Oracles(size) if not dirty else None
    injected_days = set(np.linspace(size.learn_days + 1, days - 1, size.injections).astype(int).tolist())
    outcome = Outcome(size.streams * size.test_days / 7, np.zeros(CHANNELS), np.zeros((7, CHANNELS)))
    forks: list[_Fork] = []
    for day, truth, seen in world.days(days):
        inject_at = int(rng.integers(0, WINDOWS_PER_DAY - MISSED_WINDOWS)) if day in injected_days else None
        sums = oracles.follow(day, truth, seen) if oracles else None
        for window in range(WINDOWS_PER_DAY):
            if window == inject_at:
                faultless = truth.part(window, window + MISSED_WINDOWS)
                start = None if sums is None else {f: s[window - 1] if window else s[0] * 0 for f, s in sums.items()}
                forks.append(_Fork(copy.deepcopy(detector), day * WINDOWS_PER_DAY + window, faultless, start))
            _step(detector, day * WINDOWS_PER_DAY + window, seen, window, alarms)
        if progress is not None:
            progress()
    for fork in forks:
        for fault in FAULTS:
            fork.inject(fault, rng, outcome, oracles)
    test = alarms[size.learn_days * HOURS_PER_DAY :]
    outcome.false_alarms = np.array([oracle.runs(test[:, channel]) for channel in range(CHANNELS)])
    by_day = alarms[: 7 * HOURS_PER_DAY].reshape(-1, HOURS_PER_DAY, CHANNELS, size.streams)
    outcome.cold_alarms = np.array([[oracle.runs(hours[:, c]) for c in range(CHANNELS)] for hours in by_day])
    return outcome


def _step(detector: AutomaticDetector, window: int, seen: Seen, row: int, alarms: Array | None) -> list[Any]:
    unmasked = np.zeros(len(detector), np.bool_)
    findings = detector.advance(FIRST_INDEX + window, Signals(seen.x[row], seen.n[row]), unmasked)
    if alarms is not None:
        breached = detector.breached
        if breached.any():
            alarms[window // WINDOWS_PER_HOUR] |= breached
    return findings


class _Oracles:
    """The CUSUMs that know everything, and their thresholds at the same asked rate for a channel."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._faults = [fault for fault in FAULTS if not fault.ramp_windows]
        self._last = {fault: np.zeros(size.streams) for fault in self._faults}
        self._maxima: dict[Fault, list[Array]] = defaultdict(list)
        self._thresholds: dict[Fault, float] = {}

    def follow(self, day: int, truth: Truth, seen: Seen) -> dict[Fault, Array]:
        sums = {}
        for fault in self._faults:
            e = oracle.evidence(fault, seen, truth)
            sums[fault] = oracle.cusum(e, self._last[fault])
            self._last[fault] = sums[fault][-1]
            if day >= self._size.learn_days:
                by_hour = sums[fault].reshape(HOURS_PER_DAY, WINDOWS_PER_HOUR, -1)
                self._maxima[fault] += list(by_hour.max(axis=1))
        return sums

    def delays(self, fault: Fault, seen: Seen, truth: Truth, start: Array) -> Array:
        if fault not in self._thresholds:
            weeks = self._size.streams * self._size.test_days / 7
            asked = weeks * self._size.asked / CHANNELS
            self._thresholds[fault] = oracle.threshold(np.array(self._maxima[fault]), asked)
        sums = oracle.cusum(oracle.evidence(fault, seen, truth), start)
        over = sums >= self._thresholds[fault]
        return np.where(over.any(axis=0), over.argmax(axis=0) + 1, MISSED_WINDOWS)


@dataclass(slots=True)
class _Fork:
    """The detector as it was when the faults begin."""

    detector: AutomaticDetector
    window: int
    truth: Truth
    oracle_start: dict[Fault, Array] | None

    def inject(self, fault: Fault, rng: np.random.Generator, outcome: Outcome, oracles: _Oracles | None) -> None:
        detector = copy.deepcopy(self.detector)
        free = ~detector.breached[fault.channel]  # a false alarm that is on already is no detection
        seen = look(with_fault(self.truth, fault), rng)
        delay = np.where(free, 0, -1)
        member = [""] * len(free)
        for row in range(MISSED_WINDOWS):
            findings = _step(detector, self.window + row, seen, row, None)
            for finding in findings:
                stream = int(finding.model_id)
                if finding.channel == fault.channel and finding.breached and not delay[stream]:
                    delay[stream], member[stream] = row + 1, f"{finding.family} {finding.member}"
            if delay.all():
                break
        delay[delay == 0] = MISSED_WINDOWS
        outcome.delays[fault] += delay[free].tolist()
        outcome.members[fault] += [name for name in member if name]
        if oracles is not None and self.oracle_start is not None and not fault.ramp_windows:
            best = oracles.delays(fault, seen, self.truth, self.oracle_start[fault])
            outcome.oracle_delays[fault] += best[free].tolist()


def cold_start(streams: int, seed: int, minutes: Sequence[int], faults: Sequence[Fault], *, dirty: bool) -> Any:
    """Delays of gross faults that begin so many minutes after a model was first seen."""
    world, rng = World(streams, seed, dirty=dirty), np.random.default_rng(seed + 1000)
    detector = AutomaticDetector()
    detector.watch([("bench", str(stream)) for stream in range(streams)])
    out: dict[tuple[int, Fault], list[int]] = {}
    _, truth, seen = next(world.days(1))
    begin = 9 * WINDOWS_PER_HOUR
    for window in range(begin, begin + max(minutes) * 6 + 1):
        age = window - begin
        if age % 6 == 0 and age // 6 in minutes:
            outcome = Outcome(0, np.zeros(0), np.zeros(0))
            for fault in faults:
                _Fork(detector, window, truth.part(window, window + MISSED_WINDOWS), None).inject(
                    fault, rng, outcome, None
                )
                out[age // 6, fault] = outcome.delays[fault]
        _step(detector, window, seen, window, None)
    return out
