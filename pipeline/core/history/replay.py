"""History against rules and automatic detection: the machine of the detector, fed with windows that are long past."""

from collections.abc import Iterable, Iterator

from pipeline.core.alerting.model_watch import ModelWatch
from pipeline.core.alerting.ourselves import NOT_JUDGED
from pipeline.core.detection.detector import WindowRows
from schemas.aggregate import ClassColumns, ModelColumns
from schemas.alert import AlertEvent, AlertKind
from schemas.rule import Metric, Rule

Windows = Iterable[
    tuple[int, ModelColumns, ClassColumns]
]  # (all windows that end by then are complete (ms), more rows)

AT_ONCE_S = 300  # windows that best come together: many are read at a time, and few wait


def asks_confidence_bins(rules: Iterable[Rule]) -> bool:
    """Whether any of the rules looks at histograms of confidence: automatic detection does not."""
    return any(rule.metric in (Metric.CONFIDENCE_P5, Metric.CONFIDENCE_P50) for rule in rules)


def replay(rules: Iterable[Rule], windows: Windows, asked_per_model_week: float | None = None) -> Iterator[AlertEvent]:
    """The steps of alerts that the rules would have led to, and automatic detection if false alarms are asked for.

    `windows` come in the order of time.
    """
    watch = ModelWatch(0, 1, 1, asked_per_model_week)
    watch.set_rules({rule.rule_id: rule for rule in rules})
    for through_ms, models, classes in windows:
        for event in watch.observe_history(through_ms, WindowRows(models, classes)):
            # Of ourselves only that something could not be judged: the rest is about now.
            if event.kind is not AlertKind.PIPELINE or event.metric == NOT_JUDGED:
                yield event
