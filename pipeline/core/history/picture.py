"""What a picture of an episode shows: the metric around it, what was expected, and how the alert stood."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.rules.engine import RuleEngine
from schemas.aggregate import Rows
from schemas.alert import AlertEvent, AlertKind, AlertState
from schemas.rule import Metric, Operator, Rule

CONTEXT_MS = 3_600_000  # before and after, at least
SHOWN_MS_MAX = 3 * 86_400_000  # of what lasts longer, the beginning
_SMOOTHED_S = 60  # one window is mostly noise
_WINDOWS = _SMOOTHED_S / 10

# What is looked at by automatic detection, as a metric.
_METRICS = {
    "confidence": Metric.CONFIDENCE_MEAN,
    "latency_p50": Metric.LATENCY_P50_MS,
    "latency_p95": Metric.LATENCY_P95_MS,
    "traffic": Metric.INFERENCE_COUNT,
    "errors": Metric.ERROR_RATE,
    "empty": Metric.EMPTY_RATE,
    "class": Metric.CLASS_SHARE,
}


@dataclass(frozen=True, slots=True)
class Episode:
    """The steps of an episode, in order."""

    steps: Sequence[AlertEvent]

    @property
    def loudest(self) -> AlertEvent:
        """The step that tells best what it was about: the first that fired."""
        return next((step for step in self.steps if step.state is AlertState.FIRING), self.steps[0])

    def spans(self, until_ms: int) -> list[tuple[AlertState, int, int]]:
        """(state, from, to) in ms; what is open goes on `until_ms`."""
        ends = [step.at_ms for step in self.steps[1:]] + [until_ms]
        spans = [(step.state, step.at_ms, end) for step, end in zip(self.steps, ends, strict=True)]
        return [span for span in spans if span[0] is not AlertState.RESOLVED]

    def shown(self, until_ms: int) -> tuple[int, int]:
        """From when to when, in ms: the episode with as much before and after it."""
        start, last = self.steps[0].starts_at_ms, self.steps[-1]
        end = last.at_ms if last.state is AlertState.RESOLVED else until_ms
        around = max(CONTEXT_MS, end - start)
        first = start - min(around, SHOWN_MS_MAX // 3)
        return first, min(end + around, first + SHOWN_MS_MAX, until_ms)


def episodes(events: Iterable[AlertEvent]) -> list[Episode]:
    """Those in which somebody would have been told, in the order of their beginning."""
    found: dict[tuple[str, int], list[AlertEvent]] = {}
    for event in events:
        found.setdefault((event.fingerprint, event.episode), []).append(event)
    return [Episode(steps) for steps in found.values() if any(step.state is AlertState.FIRING for step in steps)]


def measuring_rule(event: AlertEvent, rules: Mapping[str, Rule]) -> Rule | None:
    """A rule that measures what the alert is about; None where no single metric tells it."""
    if event.kind is AlertKind.RULE:
        return rules.get(event.rule_id or "")
    metric = _METRICS.get(str(event.evidence.get("signal")))
    class_name = event.evidence.get("class_name") if metric is Metric.CLASS_SHARE else None
    if metric is None or (metric is Metric.CLASS_SHARE and not class_name):  # all the other classes together
        return None
    return Rule(
        rule_id="picture",
        workspace=event.workspace,
        model_id=event.model_id,
        class_name=class_name,
        metric=metric,
        operator=Operator.ABOVE,
        threshold=0,
        window_s=_SMOOTHED_S,
        min_count=1,
    )


class Curve:
    """What a rule measures. Windows from before `from_ms` only fill its sums."""

    def __init__(self, event: AlertEvent, rule: Rule, from_ms: int) -> None:
        self._engine = RuleEngine()
        self._engine.set(rule)
        of_ten_seconds = event.kind is AlertKind.ANOMALY and rule.metric is Metric.INFERENCE_COUNT
        self._by, self._from_ms = _WINDOWS if of_ten_seconds else 1.0, from_ms
        self.points: list[tuple[int, float]] = []  # (ms, value)

    def observe(self, through_ms: int, models: Rows, classes: Rows) -> None:
        """More windows, in the order of time; all that end by `through_ms` are complete then."""
        self._engine.observe(models, classes)
        for condition in self._engine.tick(through_ms):
            if condition.value is not None and condition.at_ms >= self._from_ms:
                self.points.append((condition.at_ms, condition.value / self._by))
