"""What happens to the demo's cameras, and when: a cycle of phases, a function of the time that has passed."""

from dataclasses import dataclass
from enum import Enum

PHASE_S_MIN, PHASE_S_MAX = 5.0, 30.0


class Effect(Enum):
    """What one model's cameras see."""

    CLEAN = "clean"
    NOISE = "noise"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the story."""

    name: str
    effect: Effect
    one_silent: bool  # one device sends neither inferences nor heartbeats
    text: str  # for a person


HEALTHY = Phase("healthy", Effect.CLEAN, False, "all cameras are fine")
NOISE = Phase("noise", Effect.NOISE, False, "the cameras of {model} have become noisy")
DARK = Phase("dark", Effect.DARK, False, "the lights are out for {model}")
SILENT = Phase("silent", Effect.CLEAN, True, "{device} has fallen silent: no inferences, no heartbeats")
RECOVERED = Phase("recovered", Effect.CLEAN, False, "everything has recovered")
CYCLE = (NOISE, DARK, SILENT, RECOVERED)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Healthy until `degrade_after_s`, then the cycle for ever, each phase `phase_s` long."""

    degrade_after_s: float
    phase_s: float

    def at(self, elapsed_s: float) -> Phase:
        """The phase being played."""
        if elapsed_s < self.degrade_after_s:
            return HEALTHY
        return CYCLE[int((elapsed_s - self.degrade_after_s) / self.phase_s) % len(CYCLE)]


def schedule(degrade_after_s: float, total_s: float | None) -> Schedule:
    """Phases so long that all of them are played in `total_s`; None: there is no end, so take time."""
    if total_s is None:
        return Schedule(degrade_after_s, PHASE_S_MAX)
    share = (total_s - degrade_after_s) / len(CYCLE)
    return Schedule(degrade_after_s, min(max(share, PHASE_S_MIN), PHASE_S_MAX))
