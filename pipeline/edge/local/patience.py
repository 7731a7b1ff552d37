"""How long to wait for a child that starts: for as long as it gets on, however slow the machine is, and no longer.

What moves is its CPU time, its logs and its files. When nothing has moved for `quiet_s` it is stuck; CPU time alone
counts for BUSY_S (it may turn in a circle), and anything at all for TOTAL_S (it may fail again and again).
"""

from dataclasses import dataclass

QUIET_S = 60.0
BUSY_S = 600.0
TOTAL_S = 1800.0
_CPU_STEP_S = 0.25  # less is what an idle JVM uses to stay one


@dataclass(frozen=True, slots=True)
class Signs:
    """What a child has done so far."""

    cpu_s: float = 0.0
    written: int = 0  # another number when a log or a file has changed


class Patience:
    """Watches the signs of one start. Times are seconds of a clock that never steps back."""

    def __init__(self, now_s: float, signs: Signs, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._start_s = self._now_s = self._moved_s = self._wrote_s = now_s
        self._start_cpu_s = self._last_cpu_s = self._cpu_s = signs.cpu_s
        self._written = signs.written

    def observe(self, now_s: float, signs: Signs) -> None:
        """What the child has done by now."""
        self._now_s, self._cpu_s = now_s, signs.cpu_s
        if signs.written != self._written:
            self._written, self._wrote_s = signs.written, now_s
            self._moved_s = now_s
        if signs.cpu_s - self._last_cpu_s >= _CPU_STEP_S:
            self._last_cpu_s, self._moved_s = signs.cpu_s, now_s

    @property
    def waited_s(self) -> float:
        """Since the start."""
        return self._now_s - self._start_s

    @property
    def spent(self) -> str:
        """Why there is no use in waiting longer; '' while there is."""
        if (quiet_s := self._now_s - self._moved_s) >= self._quiet_s:
            return f"nothing of it has moved for {quiet_s:.0f} s"
        if (busy_s := self._now_s - self._wrote_s) >= max(BUSY_S, self._quiet_s):
            return f"it uses the CPU and has written nothing for {busy_s:.0f} s"
        return f"it has been at it for {self.waited_s:.0f} s" if self.waited_s >= max(TOTAL_S, self._quiet_s) else ""

    @property
    def story(self) -> str:
        """What it is waited for: how long, and by what one sees that it works."""
        return (
            f"{self.waited_s:.0f} s, {self._cpu_s - self._start_cpu_s:.1f} s of CPU time, "
            f"last sign of work {self._now_s - self._moved_s:.0f} s ago"
        )
