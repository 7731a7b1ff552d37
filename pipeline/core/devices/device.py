"""What is known of one device from its heartbeats: how often it beats, how long its silences last, what its clock says.

Silence is measured on the broker's clock. A device's own clock is compared with nothing but itself: how late a beat is
against this device's usual offset tells one that was sent long ago (a buffer that is flushed) from one that is new.
"""

from dataclasses import dataclass
from enum import Enum

import msgspec

from schemas.heartbeat import Heartbeat

RECENT = 9  # gaps and offsets that a median is taken over
LEARN_GAPS_MIN = 5
STALE_BEATS = 2  # sent so many beats earlier than usual, a beat says nothing about now
STEP_BEATS = 3  # so many in a row that are late by the same: not the beats are late, the clock was set
INTERRUPTION_BEATS = 2.5  # a silence that is more than a lost beat
OUTAGE_BEATS = 60  # a silence that is no interruption any more: nothing is learned from it
MEMORY_MS = 14 * 86_400_000  # the longest gap is remembered once to twice as long
DRIFT_SPAN_MS = 6 * 3_600_000


class Stage(Enum):
    """Where a device stands."""

    NEW = "new"  # too few beats to miss it
    UP = "up"
    SUSPECT = "suspect"
    LOST = "lost"
    STOPPED = "stopped"  # said that it would be away


@dataclass(frozen=True, slots=True)
class HeartbeatPolicy:
    """When a silence is worth a word, and when a page."""

    suspect_beats: int = 4
    page_beats: int = 12  # the page comes by then, whatever was learned
    learned: bool = True  # page at the learned tail, where there is one; False: always at page_beats
    learn_after_ms: int = 3 * 86_400_000  # so long a history tells the tail of the gaps...
    learn_after_interruptions: int = 8  # ...and so do so many interruptions
    new_beats: int = 10  # a device is missed only once it has beaten so often
    beat_ms_min: int = 1000  # nobody is missed faster than that
    stop_ms_default: int = 900_000  # a planned stop that does not say for how long
    remind_ms: int = 300_000  # what is still so is said again: an alert without news would count as without data
    retire_ms: int = 7 * 86_400_000  # silent for so long: taken to be gone for good
    log_gap_ms: int = 30_000  # the partition itself was silent: nobody could have been heard
    outage_devices_min: int = 3  # of a site, and more than half of it: the site is out
    skew_ms_max: int = 30_000
    drift_ms_per_hour_max: int = 2000
    devices_max: int = 100_000  # in one partition


class Device(msgspec.Struct, gc=False, array_like=True):
    """One device. Times are the broker's, unless they say sent."""

    workspace: str
    device_id: str
    first_ms: int
    last_ms: int  # silence counts from here
    heard_ms: int  # its last beat that was new
    interval_ms: int  # declared
    site: str = ""
    boot_id: str | None = None
    beats: int = 0
    restarts: int = 0
    stage: Stage = Stage.NEW
    returned: int = 3  # beats since it came back; 3: settled
    stopped_until_ms: int = 0  # of a planned stop
    grace_ms: int = 0  # its site came back then: it has as long again to follow
    in_outage: bool = False  # its silence is part of its site's
    gaps_ms: list[int] = []
    longest_ms: int = 0  # recovered gap since longest_since_ms
    longest_before_ms: int = 0
    longest_since_ms: int = 0
    interruptions: int = 0
    offsets_ms: list[int] = []  # broker minus sent
    late: list[tuple[int, int]] = []  # (broker, lateness) of the last stale beats
    skewed: bool = False
    skew_said_ms: int = 0
    said_ms: int = 0  # its silence, last
    anchor_ms: int = 0  # when anchor_offset_ms was the usual offset
    anchor_offset_ms: int = 0
    beat_ms: int = 0  # derived, by `learn`
    page_ms: int = 0
    deadline_ms: int = 0  # of the entry in the monitor's queue that counts

    def hear(self, broker_ms: int, beat: Heartbeat, heard_from_ms: int) -> bool:
        """Whether the beat says that the device lives now. `heard_from_ms`: before that nobody could be heard."""
        self.beats += 1
        if beat.boot_id is not None and beat.boot_id != self.boot_id:
            self.restarts += self.boot_id is not None
            self.boot_id = beat.boot_id
            self.offsets_ms, self.late = [], []  # a clock may be set anew
        offset_ms = broker_ms - beat.sent_at_ms
        lateness_ms = offset_ms - median(self.offsets_ms) if len(self.offsets_ms) >= 3 else 0
        if lateness_ms > STALE_BEATS * self.beat_ms and not self._clock_was_set(broker_ms, lateness_ms):
            self.last_ms = max(self.last_ms, broker_ms - lateness_ms)
            return False
        self.late = []
        push(self.offsets_ms, offset_ms)
        if broker_ms > self.heard_ms:
            if self.stage is not Stage.STOPPED and not self.in_outage and self.heard_ms >= heard_from_ms:
                self._remember_gap(broker_ms)
            self.heard_ms = broker_ms
            self.last_ms = max(self.last_ms, broker_ms)
        return True

    def learn(self, policy: HeartbeatPolicy) -> None:
        """How long its beat is, and when its silence is a page."""
        learned_ms = median(self.gaps_ms) if len(self.gaps_ms) >= LEARN_GAPS_MIN else 0
        self.beat_ms = max(self.interval_ms, learned_ms, policy.beat_ms_min)
        self.page_ms = policy.page_beats * self.beat_ms
        experienced = (
            self.interruptions >= policy.learn_after_interruptions
            or self.last_ms - self.first_ms >= policy.learn_after_ms
        )
        if policy.learned and experienced:
            tail_ms = max(self.longest_ms, self.longest_before_ms) * 5 // 4 + self.beat_ms
            # A beat later than the suspicion: by then all devices of a site that went at once are suspected.
            self.page_ms = min(self.page_ms, max(tail_ms, (policy.suspect_beats + 1) * self.beat_ms))

    def skew_ms(self) -> int | None:
        """How far its clock lies behind the broker's; None: not known."""
        return median(self.offsets_ms) if len(self.offsets_ms) == RECENT else None

    def drift_ms_per_hour(self, now_ms: int) -> float | None:
        """How fast its clock runs away; None: not watched for long enough."""
        skew_ms = self.skew_ms()
        if skew_ms is None:
            return None
        if not self.anchor_ms:
            self.anchor_ms, self.anchor_offset_ms = now_ms, skew_ms
        span_ms = now_ms - self.anchor_ms
        if span_ms < DRIFT_SPAN_MS:
            return None
        drift = (skew_ms - self.anchor_offset_ms) * 3_600_000 / span_ms
        if span_ms >= 2 * DRIFT_SPAN_MS:
            self.anchor_ms, self.anchor_offset_ms = now_ms - DRIFT_SPAN_MS, round(skew_ms - drift * 6)
        return drift

    def _remember_gap(self, broker_ms: int) -> None:
        gap_ms = broker_ms - self.heard_ms
        push(self.gaps_ms, gap_ms)
        if gap_ms > OUTAGE_BEATS * self.beat_ms:
            return
        self.interruptions += gap_ms > INTERRUPTION_BEATS * self.beat_ms
        if broker_ms - self.longest_since_ms > MEMORY_MS:
            self.longest_before_ms, self.longest_ms, self.longest_since_ms = self.longest_ms, 0, broker_ms
        self.longest_ms = max(self.longest_ms, gap_ms)

    def _clock_was_set(self, broker_ms: int, lateness_ms: int) -> bool:
        """Whether beats come in at their pace, all late by the same: a flushed buffer comes in at once."""
        self.late = [*self.late[1 - STEP_BEATS :], (broker_ms, lateness_ms)]
        latenesses = [one for _, one in self.late]
        steady = (
            len(self.late) == STEP_BEATS
            and max(latenesses) - min(latenesses) <= self.beat_ms // 2
            and broker_ms - self.late[0][0] >= self.beat_ms * (STEP_BEATS - 1) * 3 // 4
        )
        if steady:
            usual_ms = median(self.offsets_ms)
            self.offsets_ms = [usual_ms + one for one in latenesses[:-1]]
            self.anchor_ms = 0
        return steady


def median(values: list[int]) -> int:
    """The middle one; of two the larger."""
    return sorted(values)[len(values) // 2]


def push(values: list[int], value: int) -> None:
    """Keeps the last RECENT ones."""
    values.append(value)
    if len(values) > RECENT:
        del values[0]
