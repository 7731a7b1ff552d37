"""One sentence for each thing a rule finds: who, what, over how long, and how it stands to the threshold."""

from dataclasses import dataclass

from pipeline.core.condition import Subject
from pipeline.core.words import duration
from schemas.rule import Metric, Operator, Rule

_WHAT = {
    Metric.INFERENCE_COUNT: "inferences",
    Metric.INFERENCE_RATE: "inferences per second",
    Metric.CONFIDENCE_MEAN: "mean confidence",
    Metric.CONFIDENCE_P5: "5th percentile of confidence",
    Metric.CONFIDENCE_P50: "median confidence",
    Metric.LATENCY_MEAN_MS: "mean latency",
    Metric.LATENCY_P50_MS: "median latency",
    Metric.LATENCY_P95_MS: "95th percentile of latency",
    Metric.LATENCY_P99_MS: "99th percentile of latency",
    Metric.CLASS_COUNT: "detections",
    Metric.CLASS_SHARE: "share of all detections",
    Metric.ERROR_RATE: "share of failed inferences",
    Metric.EMPTY_RATE: "share of inferences without a detection",
    Metric.CLASS_DISTANCE: "distance of the mix of classes from the day before",
    Metric.SILENCE_S: "silence",
}
_PERCENT = frozenset({Metric.CLASS_SHARE, Metric.ERROR_RATE, Metric.EMPTY_RATE})
_COUNTS = frozenset({Metric.INFERENCE_COUNT, Metric.CLASS_COUNT})
_MILLISECONDS = frozenset(metric for metric in Metric if metric.value.endswith("_ms"))
_RELATIONS = {
    Operator.BELOW: "below",
    Operator.AT_MOST: "at or below",
    Operator.ABOVE: "above",
    Operator.AT_LEAST: "at or above",
}


def quantity(metric: Metric, value: float) -> str:
    """A value of a metric, with its unit."""
    if metric in _COUNTS:
        return f"{value:,.0f}" if value == int(value) else f"{value:,g}"
    if metric in _PERCENT:
        return f"{100 * value:.3g} %"
    if metric is Metric.SILENCE_S:
        return duration(value)
    return f"{value:.3g} ms" if metric in _MILLISECONDS else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Wording:
    """The sentences of a rule about a subject; what they have in common is said once."""

    rule: Rule
    what: str
    relation: str

    @classmethod
    def of(cls, rule: Rule, subject: Subject) -> "Wording":
        """Those of this rule."""
        what = f"{who(subject)} silent for"
        if rule.metric is not Metric.SILENCE_S:
            what = f"{who(subject)}: {_WHAT[rule.metric]} over {duration(rule.window_s)}"
        return cls(rule, what, f"{_RELATIONS[rule.operator]} {quantity(rule.metric, rule.threshold)}")

    def summary(self, value: float | None, breached: bool | None, count: int) -> str:
        """What was found."""
        if value is None:
            needed = max(1, self.rule.min_count)
            few = count < needed
            return f"{self.what} unknown: " + (
                f"{count:,} of the {needed:,} needed" if few else "watched for too short a time"
            )
        what = f"{self.what} {quantity(self.rule.metric, value)}"
        if breached is None:
            return f"{what} so far"
        return f"{what}, {self.relation}" if breached else f"{what}, not {self.relation}"


def who(subject: Subject) -> str:
    """What it is about."""
    name = subject.model_id or subject.workspace
    if subject.class_name is not None:
        name = f"{subject.class_name} in {name}"
    return f"{name} on {subject.device_id}" if subject.device_id is not None else name
