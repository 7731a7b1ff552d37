"""What happens now, for all who watch: a machine that takes records as they come and puts frames before each viewer.

Every event is decoded once for all, and a filter that several viewers have is judged once. Whoever reads too slowly
loses the oldest frames, and is told how many. The last events are kept for a viewer whose connection broke.

    event: inference    a row that the viewer's filter holds for
    event: alert        a step in the life of an alert of the workspace
    event: numbers      sums of 10-second windows that are new or have changed
    event: lost         so many frames are missing here; null: nobody knows how many
    event: end          there is nothing more, and why
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import orjson

from pipeline.core.asking.language import Filter
from pipeline.core.asking.live.frames import SUMS, frame, numbers_frame, shown
from pipeline.core.asking.match import Judge, judge
from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import Position
from schemas import aggregate, alert, event
from schemas.aggregate import AggregateRecord
from schemas.alert import AlertEvent
from schemas.event import InferenceEvent, TimeLimits
from schemas.rejection import Rejected
from schemas.tolerance import Adjusted

FRAMES_MAX, FRAME_BYTES_MAX = 500, 2 << 20  # that wait for one viewer
KEPT_MAX, KEPT_BYTES_MAX = 2000, 16 << 20  # events for those who come again
ALERTS_MAX = 1000  # whose ids are remembered: a step may be told twice
WINDOWS_MAX = 30  # five minutes
WORKSPACES_MAX = 1000


class Wanted(Enum):
    """What a viewer may want to be told."""

    INFERENCE = "inference"
    ALERT = "alert"
    NUMBERS = "numbers"


@dataclass(slots=True, eq=False)
class Viewer:
    """One who watches: what waits to be sent."""

    workspace: str
    asked: Filter
    wanted: frozenset[Wanted]
    _frames: deque[bytes] = field(default_factory=deque)
    _bytes: int = 0
    _lost: int = 0
    _lost_unknown: bool = False

    def offer(self, one: bytes) -> None:
        """Puts a frame behind the others; the oldest go where there is no room."""
        self._frames.append(one)
        self._bytes += len(one)
        while len(self._frames) > FRAMES_MAX or (self._bytes > FRAME_BYTES_MAX and len(self._frames) > 1):
            self._bytes -= len(self._frames.popleft())
            self._lost += 1

    def miss(self, count: int | None = None) -> None:
        """So many frames never came as far as here; None: nobody knows."""
        self._lost += count or 0
        self._lost_unknown |= count is None

    def take(self) -> bytes:
        """All that waits, the oldest first, after what was lost."""
        frames = list(self._frames)
        if self._lost or self._lost_unknown:
            frames.insert(0, frame("lost", {"count": None if self._lost_unknown else self._lost}))
        self._frames.clear()
        self._bytes = self._lost = 0
        self._lost_unknown = False
        return b"".join(frames)


@dataclass(slots=True)
class _Kept:
    number: int
    event: InferenceEvent
    place: tuple[int, int]  # on Kafka
    size: int
    frame: bytes = b""  # made when somebody wants it


class Live:
    """All viewers of one process, and what they see."""

    def __init__(self, name: str, started_ms: int, limits: TimeLimits) -> None:
        """`name`: of this run; ids of an earlier one mean nothing here."""
        self._name, self._limits = name, limits
        self._first_ms = started_ms  # windows before are not whole here
        self._viewers: dict[str, dict[str, tuple[Judge, list[Viewer]]]] = {}  # by workspace and filter
        self._watched: OrderedDict[str, None] = OrderedDict()  # workspaces, also those whose viewers may come again
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = self._number = 0
        self._alerts: OrderedDict[str, None] = OrderedDict()
        self._chains: defaultdict[int, Chain] = defaultdict(Chain)
        self._windows: OrderedDict[str, dict[int, list[int]]] = OrderedDict()
        self._changed: set[tuple[str, int]] = set()

    def join(self, viewer: Viewer, after: str = "") -> None:
        """Somebody watches from now on, or from behind the event with this id."""
        groups = self._viewers.setdefault(viewer.workspace, {})
        _, viewers = groups.setdefault(str(viewer.asked), (judge(viewer.asked), []))
        viewers.append(viewer)
        self._watched[viewer.workspace] = None
        self._watched.move_to_end(viewer.workspace)
        if len(self._watched) > WORKSPACES_MAX:
            del self._watched[next(name for name in self._watched if name not in self._viewers)]
        if after:
            self._replay(viewer, after)
        if Wanted.NUMBERS in viewer.wanted and (known := self._windows.get(viewer.workspace)):
            viewer.offer(numbers_frame(known.items()))

    def leave(self, viewer: Viewer) -> None:
        """Somebody has gone."""
        groups = self._viewers[viewer.workspace]
        _, viewers = groups[str(viewer.asked)]
        viewers.remove(viewer)
        if not viewers:
            del groups[str(viewer.asked)]
        if not groups:
            del self._viewers[viewer.workspace]

    @property
    def viewers(self) -> list[Viewer]:
        """All of them."""
        return [one for groups in self._viewers.values() for _, viewers in groups.values() for one in viewers]

    def observe_event(self, raw: bytes | None, time_ms: int, partition: int, offset: int) -> None:
        """A record of inference.events."""
        found = event.decode(raw, time_ms, self._limits)
        if isinstance(found, Rejected):
            return  # dead_letters tells of it
        seen = found.value if isinstance(found, Adjusted) else found
        if seen.workspace not in self._watched:
            return
        kept = self._keep(seen, (partition, offset), len(raw or b""))
        for holds, viewers in self._viewers.get(seen.workspace, {}).values():
            wanting = [viewer for viewer in viewers if Wanted.INFERENCE in viewer.wanted]
            if wanting and holds(seen):
                for viewer in wanting:
                    viewer.offer(self._frame(kept))

    def observe_alert(self, raw: bytes | None) -> None:
        """A record of inference.alerts."""
        found = alert.decode(raw)
        if not isinstance(found, AlertEvent) or found.id in self._alerts:
            return
        self._alerts[found.id] = None
        if len(self._alerts) > ALERTS_MAX:
            self._alerts.popitem(last=False)
        self._tell(found.workspace, Wanted.ALERT, frame("alert", orjson.loads(raw or b"")["data"]))

    def observe_windows(self, partition: int, raw: bytes | None) -> None:
        """A record of inference.aggregates; told with the next `tick`."""
        found = aggregate.decode(raw)
        if not isinstance(found, AggregateRecord):
            return
        start, end = Position(*found.start), Position(*found.end)
        if self._chains[partition].observe(found.source, start, end) is Verdict.REPEAT:
            return
        models = found.models
        sums = np.column_stack([models.numbers[name] for name in SUMS]) if len(models) else ()
        for workspace, start_s, row in zip(models.texts["workspace"], models.window_start_s, sums, strict=True):
            if (start_ms := int(start_s) * 1000) >= self._first_ms:
                self._add(workspace, start_ms, [int(number) for number in row])

    def tick(self) -> None:
        """Tells of the windows that have changed since the last time."""
        changed, self._changed = self._changed, set()
        for workspace in {workspace for workspace, _ in changed} & self._viewers.keys():
            known = self._windows.get(workspace, {})
            windows = sorted(
                (start_ms, known[start_ms]) for of, start_ms in changed if of == workspace and start_ms in known
            )
            self._tell(workspace, Wanted.NUMBERS, numbers_frame(windows))

    def skip(self) -> None:
        """Records were passed over: more comes in than one process can read."""
        for viewer in self.viewers:
            viewer.miss()

    def _tell(self, workspace: str, news: Wanted, one: bytes) -> None:
        for _, viewers in self._viewers.get(workspace, {}).values():
            for viewer in viewers:
                if news in viewer.wanted:
                    viewer.offer(one)

    def _keep(self, seen: InferenceEvent, place: tuple[int, int], size: int) -> _Kept:
        self._number += 1
        kept = _Kept(self._number, seen, place, size)
        self._kept.append(kept)
        self._kept_bytes += size
        while len(self._kept) > KEPT_MAX or (self._kept_bytes > KEPT_BYTES_MAX and len(self._kept) > 1):
            self._kept_bytes -= self._kept.popleft().size
        return kept

    def _replay(self, viewer: Viewer, after: str) -> None:
        name, _, number = after.rpartition("-")
        first = self._kept[0].number if self._kept else self._number + 1
        if name != self._name or not number.isascii() or not number.isdigit() or int(number) + 1 < first:
            viewer.miss()
        if name != self._name or not number.isascii() or not number.isdigit():
            return
        holds = judge(viewer.asked)
        for kept in self._kept:
            if kept.number > int(number) and kept.event.workspace == viewer.workspace and holds(kept.event):
                viewer.offer(self._frame(kept))

    def _frame(self, kept: _Kept) -> bytes:
        if not kept.frame:
            kept.frame = frame("inference", shown(kept.event, *kept.place), f"{self._name}-{kept.number}")
        return kept.frame

    def _add(self, workspace: str, start_ms: int, numbers: Iterable[int]) -> None:
        known = self._windows.setdefault(workspace, {})
        self._windows.move_to_end(workspace)
        before = known.get(start_ms, [0] * len(SUMS))
        known[start_ms] = [one + more for one, more in zip(before, numbers, strict=True)]
        self._changed.add((workspace, start_ms))
        if len(known) > WINDOWS_MAX:
            del known[min(known)]
        if len(self._windows) > WORKSPACES_MAX:
            self._windows.popitem(last=False)
