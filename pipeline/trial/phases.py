"""What happens to the demo's cameras, and when: a cycle of phases, a function of the time that has passed."""

from dataclasses import dataclass
from enum import Enum

PHASE_S_MIN = 5.0
SILENT_S_MIN, SILENT_S_MAX = 18.0, 30.0  # a device that is silent for 12 beats of a second is paged
FAULT_S_MAX = 20.0  # then there is less bad than good in a minute, and its alert ends soon after
RECOVERED_S = 240.0  # automatic detection wants more than a minute of what is usual before it says that all is well
CYCLE_S_MIN = 2 * FAULT_S_MAX + SILENT_S_MAX


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
    """Healthy until `degrade_after_s`, then the cycle for ever; `lengths_s`: of its phases.

    Before `rest_until_s` it is played once only: what comes later is meant for automatic detection, too.
    """

    degrade_after_s: float
    lengths_s: tuple[float, ...]
    rest_until_s: float = 0.0

    def at(self, elapsed_s: float) -> Phase:
        """The phase being played."""
        if elapsed_s < self.degrade_after_s:
            return HEALTHY
        left_s = elapsed_s - self.degrade_after_s
        if elapsed_s >= self.rest_until_s:
            left_s = (elapsed_s - max(self.degrade_after_s, self.rest_until_s)) % sum(self.lengths_s)
        for phase, length_s in zip(CYCLE, self.lengths_s, strict=True):
            if left_s < length_s:
                return phase
            left_s -= length_s
        return CYCLE[-1]


def schedule(degrade_after_s: float, total_s: float | None, history_s: float = 0.0) -> Schedule:
    """Phases so long that all of them are played in `total_s`, and their alerts seen; None: there is no end.

    `history_s`: from then on automatic detection has a say. If there is time enough, the cycle is played before, and
    again then.
    """
    left_s = float("inf") if total_s is None else total_s - degrade_after_s
    again_s = left_s + degrade_after_s - history_s
    if history_s > degrade_after_s + CYCLE_S_MIN and again_s >= CYCLE_S_MIN + RECOVERED_S / 2:
        return Schedule(degrade_after_s, (FAULT_S_MAX, FAULT_S_MAX, SILENT_S_MAX, RECOVERED_S), history_s)
    if left_s < SILENT_S_MIN + 3 * PHASE_S_MIN:
        return Schedule(degrade_after_s, (max(left_s / len(CYCLE), PHASE_S_MIN),) * len(CYCLE))
    silent_s = min(max(left_s / 4, SILENT_S_MIN), SILENT_S_MAX)
    fault_s = min((left_s - silent_s) / 3, FAULT_S_MAX)
    recovered_s = min(left_s - silent_s - 2 * fault_s, RECOVERED_S)
    return Schedule(degrade_after_s, (fault_s, fault_s, silent_s, recovered_s))
