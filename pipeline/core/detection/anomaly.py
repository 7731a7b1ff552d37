"""What automatic detection has to say about a channel of a model, in figures and in one sentence."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.core.condition import Condition, Subject
from pipeline.core.detection.moment import WINDOWS_PER_HOUR
from pipeline.core.detection.signals import Channel, Signal
from pipeline.core.windows.histogram import LATENCY_BOUNDS
from pipeline.core.windows.log_clock import WINDOW_MS
from schemas.alert import AlertKind, Severity

_LATENCY_LOG_MAX = math.log(LATENCY_BOUNDS[-1])
_WORDS: dict[int, str] = {
    Signal.CONFIDENCE: "mean confidence",
    Signal.LATENCY_P50: "median latency (ms)",
    Signal.LATENCY_P95: "p95 latency (ms)",
    Signal.TRAFFIC: "inferences in 10 s",
    Signal.ERRORS: "error rate",
    Signal.EMPTY: "share of inferences without a detection",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A channel is not what it was (`breached`), is again (False), or is not watched any more (None)."""

    channel: Channel
    at_ms: int  # end of the window
    breached: bool | None
    since_ms: int  # when it began, as far as can be told
    signal: int  # of Signal; from CLASS on a seat
    value: float  # seen lately, in the unit of the signal: confidence, ms, count, share
    expected: float
    sigmas: float  # how far that is from expected, in standard deviations of one window
    count: float  # observations behind the last window
    family: str  # bank or ladder
    member: str  # the CUSUM or the time scale that says so
    score: float
    threshold: float
    hours_between: float  # such a score comes once in so many hours if nothing is wrong
    asked_per_model_week: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly(Deviation):
    """Of which model, and in a channel of classes of which class."""

    workspace: str
    model_id: str
    class_name: str | None  # '' = all classes but those watched by name

    @classmethod
    def of(cls, model: tuple[str, str], class_name: str | None, deviation: Deviation) -> "Anomaly":
        """What was found in the model's column."""
        known = {field.name: getattr(deviation, field.name) for field in fields(deviation)}
        return cls(workspace=model[0], model_id=model[1], class_name=class_name, **known)

    @property
    def summary(self) -> str:
        """One sentence a person understands."""
        what = _WORDS.get(self.signal) or f"share of class {self.class_name or '(all others)'}"
        if self.breached is None:
            return f"{self.model_id}: {what} is not watched any more: no inference for a week"
        if not self.breached:
            return f"{self.model_id}: {what} is as expected again ({self.value:.3g}, expected {self.expected:.3g})"
        minutes = max(self.at_ms - self.since_ms, WINDOW_MS) / 60_000
        change = "below" if self.value < self.expected else "above"
        return (
            f"{self.model_id}: {what} is {self.value:.3g}, {change} the {self.expected:.3g} expected, "
            f"for {minutes:.3g} min"
        )

    @property
    def severity(self) -> Severity:
        """A change that every single window shows is critical."""
        return Severity.CRITICAL if abs(self.sigmas) >= 5 else Severity.WARNING

    def condition(self) -> Condition:
        """For the life cycle. Its hysteresis has been at work already, so nothing is held."""
        subject = Subject(AlertKind.ANOMALY, self.workspace, self.channel.name.lower(), model_id=self.model_id)
        return Condition(
            subject=subject,
            at_ms=self.at_ms,
            breached=self.breached,
            value=self.value,
            expected=self.expected,
            severity=self.severity,
            summary=self.summary,
            evidence=self.evidence,
        )

    @property
    def evidence(self) -> dict[str, Any]:
        """All of it, for a machine."""
        out = asdict(self)
        return out | {
            "channel": self.channel.name.lower(),
            "signal": Signal(min(self.signal, Signal.CLASS)).name.lower(),
        }


def natural(signal: int, x: float, n: float) -> float:
    """An observation in the unit that people know, within what it can be."""
    if signal in (Signal.LATENCY_P50, Signal.LATENCY_P95):
        return math.exp(min(x, _LATENCY_LOG_MAX)) / 1000
    if signal == Signal.TRAFFIC:
        return max(x, 0.0)
    if signal == Signal.CONFIDENCE:
        return min(max(x, 0.0), 1.0)
    return min(max(x / n, 0.0), 1.0) if n > 0 else 0.0


def hours_between(surprise: float) -> float:
    """From a surprise; a number that JSON can hold."""
    return math.exp(min(surprise, math.log(WINDOWS_PER_HOUR) + 30))
