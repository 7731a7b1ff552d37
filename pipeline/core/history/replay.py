"""History against rules and automatic detection: the machine of the detector, fed with windows that are long past."""

from collections.abc import Iterable

from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.alerting.ourselves import NOT_JUDGED
from pipeline.core.detection.detector import WindowRows
from schemas.aggregate import Rows
from schemas.alert import AlertEvent, AlertKind
from schemas.rule import Metric, Rule

AT_ONCE_S = 300  # windows that best come together: many are read at a time, and few wait


def asks_confidence_bins(rules: Iterable[Rule]) -> bool:
    """Whether any of the rules looks at histograms of confidence: automatic detection does not."""
    return any(rule.metric in (Metric.CONFIDENCE_P5, Metric.CONFIDENCE_P50) for rule in rules)


class Replay:
    """The steps of alerts that the rules would have led to, and automatic detection if false alarms are asked for."""

    def __init__(self, rules: Iterable[Rule], asked_per_model_week: float | None = None) -> None:
        self._watch = ModelWatch(0, 1, 1, asked_per_model_week)
        self._watch.set_rules({rule.rule_id: rule for rule in rules})

    def observe(self, through_ms: int, models: Rows, classes: Rows) -> list[AlertEvent]:
        """More windows, in the order of time; all that end by `through_ms` are complete then."""
        told = self._watch.observe_history(through_ms, WindowRows(models, classes))
        # Of ourselves only that something could not be judged: the rest is about now.
        return [event for event in told if event.kind is not AlertKind.PIPELINE or event.metric == NOT_JUDGED]
