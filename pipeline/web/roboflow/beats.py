"""How often each server reports, learned from when its pingbacks come: they do not say their METRICS_INTERVAL. Pure.

A device may run several processes, each with its pingbacks: the interval is that of one of them, and the device has
started anew when the youngest of them is younger than before.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

INTERVAL_MS_USUAL = 60_000  # METRICS_INTERVAL where nobody has set it
INTERVAL_MS_MAX = 3_600_000
GAPS = 5
PROCESSES_MAX = 20_000
_PAUSE = 3  # a gap of so many intervals is a pause, and says nothing of them

Process = tuple[str, str, str, int]  # workspace, device, server, when it started


@dataclass(slots=True)
class _Heard:
    last_ms: int
    gaps_ms: deque[int] = field(default_factory=lambda: deque(maxlen=GAPS))

    @property
    def interval_ms(self) -> int:
        """In whole seconds, as the setting is."""
        if not self.gaps_ms:
            return INTERVAL_MS_USUAL
        return min(INTERVAL_MS_MAX, max(1000, round(median(self.gaps_ms) / 1000) * 1000))


class Beats:
    """A machine: pingbacks in, what they promise out. The process that was silent longest is forgotten first."""

    def __init__(self) -> None:
        """Has heard nobody."""
        self._heard: OrderedDict[Process, _Heard] = OrderedDict()
        self._started: OrderedDict[tuple[str, str], int] = OrderedDict()

    def observe(self, process: Process, now_ms: int) -> tuple[int, int]:
        """The interval in ms, and when the youngest process of the device started (s; 0: unknown)."""
        heard = self._heard.pop(process, None)
        if heard is None:
            heard = _Heard(now_ms)
        else:
            gap_ms = now_ms - heard.last_ms
            if gap_ms > 0 and not (heard.gaps_ms and gap_ms > _PAUSE * heard.interval_ms):
                heard.gaps_ms.append(gap_ms)
            heard.last_ms = now_ms
        self._heard[process] = heard
        device = process[:2]
        started_s = self._started[device] = max(process[3], self._started.pop(device, 0))
        for known in (self._heard, self._started):
            if len(known) > PROCESSES_MAX:
                known.popitem(last=False)
        return heard.interval_ms, started_s
