"""Recipients that could not be told: an alert each, so that others hear of it, until they can be told again."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.core.alerting.life_cycle import LifeCycle, LifeState
from pipeline.core.alerting.ourselves import WORKSPACE
from pipeline.core.condition import Condition, Subject
from schemas.alert import AlertEvent, AlertKind, Severity

METRIC = "undelivered"
KEEP_FIRING_MS = 600_000  # one that takes this message and refuses that is not well


class UndeliveredState(msgspec.Struct):
    """What is saved of it."""

    life: LifeState = msgspec.field(default_factory=LifeState)
    reached: dict[str, bool] = {}


class Undelivered:
    """A machine: what became of notifications in, steps of alerts out. Its clock is the caller's."""

    def __init__(self) -> None:
        """Everybody can be told."""
        self._life = LifeCycle()
        self._reached: dict[str, bool] = {}  # who could not be told, and whether the last message arrived

    def failed(self, recipient: str, why: str, at_ms: int) -> list[AlertEvent]:
        """A notification was given up. `recipient` as it may be read by all."""
        self._reached[recipient] = False
        text = f"notifications to {recipient} do not arrive: {why}"
        return self._life.observe(_condition(recipient, at_ms, True, text, {"reason": why}))

    def delivered(self, recipient: str) -> None:
        """A notification arrived."""
        if recipient in self._reached:
            self._reached[recipient] = True

    def tick(self, now_ms: int) -> list[AlertEvent]:
        """Who is well again, and for long enough."""
        steps: list[AlertEvent] = []
        for recipient in [name for name, reached in self._reached.items() if reached]:
            calm = _condition(recipient, now_ms, False, f"notifications to {recipient} arrive again", {})
            steps += self._life.observe(calm)
            if calm.subject.fingerprint not in self._life.open:
                del self._reached[recipient]
        return steps

    def snapshot(self) -> UndeliveredState:
        """What to save."""
        return UndeliveredState(self._life.snapshot(), self._reached)

    def restore(self, state: UndeliveredState) -> None:
        """As it was when it was saved."""
        self._life.restore(state.life)
        self._reached = state.reached


def _condition(recipient: str, at_ms: int, breached: bool, summary: str, evidence: Mapping[str, Any]) -> Condition:
    return Condition(
        subject=Subject(AlertKind.PIPELINE, WORKSPACE, METRIC, device_id=recipient),
        at_ms=at_ms,
        breached=breached,
        severity=Severity.CRITICAL,
        keep_firing_ms=KEEP_FIRING_MS,
        summary=summary,
        labels={"recipient": recipient},
        evidence=evidence,
    )
