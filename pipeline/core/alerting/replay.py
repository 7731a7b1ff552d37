"""History against rules: the machines of the detector, fed with windows that are long past."""

from collections.abc import Iterable, Iterator

from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.alerting.rules import RuleEngine
from schemas.aggregate import ClassColumns, ModelColumns
from schemas.alert import AlertEvent
from schemas.rule import Rule

Windows = Iterable[
    tuple[int, ModelColumns, ClassColumns]
]  # (all windows that end by then are complete (ms), more rows)


def replay(rules: Iterable[Rule], windows: Windows) -> Iterator[AlertEvent]:
    """The steps of alerts that the rules would have led to. `windows` come in the order of time."""
    engine, life_cycle = RuleEngine(), LifeCycle()
    for rule in rules:
        engine.set(rule)
    for through_ms, models, classes in windows:
        engine.observe(models, classes)
        for condition in engine.tick(through_ms):
            yield from life_cycle.observe(condition)
        yield from life_cycle.tick(through_ms)
