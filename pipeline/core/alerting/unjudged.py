"""What could not be judged: an alert of its own for as long as it is new, and the end of what it had open."""

from collections.abc import Callable

from pipeline.core.alerting import ourselves
from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.condition import Subject
from pipeline.core.isolation import Failures, Judged, NotJudged
from schemas.alert import AlertEvent, AlertKind

TOLD_MS = 600_000  # a failure is a moment; its alert is there for a person to see
_BEGUN_ANEW = {Judged.MODEL: AlertKind.ANOMALY, Judged.DEVICE: AlertKind.HEARTBEAT}


class Unjudged:
    """The failures of one partition. Time is the log's."""

    def __init__(self, topic: str, partition: int, failures: Failures, life: LifeCycle) -> None:
        """Those noted in `failures` become steps of alerts in `life`."""
        self._topic, self._partition, self._failures, self._life = topic, partition, failures, life
        self._told: list[NotJudged] = []
        self.since_ms: int | None = None  # of the last one, while its alert is open; to be saved

    def tick(self, at_ms: int) -> list[AlertEvent]:
        """What follows from the failures that were noted until then."""
        failed = self._failures.take()
        steps: list[AlertEvent] = []
        if failed:
            self._told += failed
            self.since_ms = at_ms
            for one in failed:
                steps += self._life.end_all(_subjects_of(one), at_ms, f"it failed: {one.why}")
        if failed or (self.since_ms is not None and at_ms >= self.since_ms + TOLD_MS):
            steps += self._life.observe(ourselves.not_judged(self._topic, self._partition, at_ms, failed))
            self.since_ms = self.since_ms if failed else None
        return steps

    def take(self) -> list[NotJudged]:
        """Those since the last time, to be counted and logged."""
        taken, self._told = self._told, []
        return taken


def _subjects_of(failed: NotJudged) -> Callable[[Subject], bool]:
    """What is open of a key that begins anew, and would never end."""
    kind = _BEGUN_ANEW.get(failed.what)
    whose = failed.workspace, failed.name
    return lambda one: one.kind is kind and (one.workspace, one.model_id or one.device_id) == whose
