"""The newest step of every alert, and what people have said: what anybody knows who reads the two topics."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.core.condition import WATCHDOG
from schemas import alert, silence
from schemas.alert import AlertEvent, AlertKind, AlertState
from schemas.silence import Acknowledgement, Says, Silence


class NoSuchAlertError(Exception):
    """An alert or a silence that was asked for is not there, or not in a state for what was asked."""


@dataclass(slots=True)
class Alerts:
    """The newest step of every alert, by fingerprint, and what people have said about them."""

    steps: dict[str, AlertEvent] = field(default_factory=dict)
    steps_max: int | None = None  # of more the oldest are forgotten, resolved ones first
    silences: dict[str, Silence] = field(default_factory=dict)
    acknowledgements: dict[str, Acknowledgement] = field(default_factory=dict)
    refused: int = 0  # records that are no steps

    def observe(self, raw: bytes | None) -> AlertEvent | None:
        """A record of inference.alerts: the step if it is news."""
        step = alert.decode(raw)
        if not isinstance(step, AlertEvent):
            self.refused += 1
            return None
        known = self.steps.get(step.fingerprint)
        if known is not None and (step.episode, step.sequence) <= (known.episode, known.sequence):
            return None  # told again
        self.steps[step.fingerprint] = step
        if self.steps_max is not None and len(self.steps) > self.steps_max:
            self._forget(self.steps_max // 10)
        return step

    def hear(self, values: Iterable[bytes]) -> None:
        """Records of inference.silences: who wants quiet, and who has taken what."""
        for raw in values:
            value = silence.decode(raw)
            if isinstance(value, Silence):
                self.silences[value.id] = value
            elif isinstance(value, Acknowledgement):
                self.acknowledgements[value.id] = value

    def _forget(self, count: int) -> None:
        """The oldest go, some together: to look for them takes a while."""
        oldest = sorted(self.steps.values(), key=lambda step: (step.state is not AlertState.RESOLVED, step.at_ms))
        for step in oldest[: max(1, count)]:
            del self.steps[step.fingerprint]

    @property
    def open(self) -> list[AlertEvent]:
        """Those that are not resolved, the newest first."""
        found = [step for step in self.steps.values() if step.state is not AlertState.RESOLVED]
        return sorted(found, key=lambda step: (-step.starts_at_ms, step.fingerprint))

    def acknowledgement(self, step: AlertEvent) -> Acknowledgement | None:
        """Who has taken this episode."""
        said = self.acknowledgements.get(silence.acknowledgement_id(step.fingerprint, step.episode))
        return None if said is None or said.says == "free" else said

    def find(self, fingerprint: str) -> AlertEvent:
        """The newest step of an alert, by its fingerprint or the beginning of it. Raises NoSuchAlertError."""
        found = [step for name, step in self.steps.items() if name.startswith(fingerprint)]
        if len(found) != 1:
            how_many = "several alerts begin" if found else "there is no alert"
            raise NoSuchAlertError(f"{how_many} with the fingerprint {fingerprint}; inferwatch alerts list shows them")
        return found[0]


_ACKNOWLEDGEABLE = (AlertState.FIRING, AlertState.RECOVERING, AlertState.NO_DATA, AlertState.SUPPRESSED)


def objection(says: Says, step: AlertEvent, taken: Acknowledgement | None) -> str:
    """Why this cannot be said of an alert as it stands: "is resolved: there is nothing to end"; empty if it can."""
    if step.metric == WATCHDOG:
        return "always fires: it says that all is well"
    is_over = step.state is AlertState.RESOLVED
    match says:
        case "taken" if step.state is AlertState.ACKNOWLEDGED or taken is not None:
            return "is acknowledged already" if not is_over else "is resolved: there is nothing to acknowledge"
        case "taken" if step.state not in _ACKNOWLEDGEABLE:
            return f"is {step.state.value}: there is nothing to acknowledge"
        case "free" if taken is None or is_over:
            return f"is {step.state.value}, and nobody has acknowledged it"
        case "normal" if step.kind is not AlertKind.ANOMALY:
            return f"comes from a {step.kind.value}: there is nothing to learn"
        case "normal" | "over" if is_over:
            return f"is resolved: there is nothing to {'learn' if says == 'normal' else 'end'}"
    return ""
