"""Who has gone quiet, in one partition of inference.heartbeats.

Silence is the broker's time since a device was last heard, against the partition's watermark: the broker's time of the
newest record. So a lag, a pause or a restart of ours makes nobody silent, and the same log gives the same alerts. What
is said depends on the records alone.

The detector beats into every partition itself (`is_tick`): the watermark goes on when all devices are dead. When the
partition as a whole was silent, nobody could have been heard, and every device has its full time again.

Two stages: suspect (an alert that is pending: nobody is told), then lost (it fires). When most devices of a site go
within the same few beats, the site is out: one alert, and theirs are suppressed by it.
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.core.condition import Condition
from pipeline.core.devices import quiet as silence
from pipeline.core.devices.device import RECENT, Device, HeartbeatPolicy, Stage
from pipeline.core.devices.sites import Site, site_of
from pipeline.core.isolation import Failures, Judged, attempt
from schemas.heartbeat import Heartbeat

TICK_WORKSPACE = "inferwatch"
TICK_DEVICE_PREFIX = "detector/"
RETURN_BEATS = 3  # so many beats are said to be well after a silence: one may be the last gasp
_LEARN_EVERY = 8  # beats

Key = tuple[str, str]  # workspace, device or site


def is_tick(beat: Heartbeat) -> bool:
    """Whether it only moves the watermark: it is the detector's own."""
    return beat.workspace == TICK_WORKSPACE and beat.device_id.startswith(TICK_DEVICE_PREFIX)


class MonitorState(msgspec.Struct):
    """What is saved of a HeartbeatMonitor."""

    watermark_ms: int
    resumed_ms: int
    unwatched: int
    devices: list[Device]
    outages: dict[Key, tuple[int, int]]  # since when, and when it was said last


class HeartbeatMonitor:
    """A machine: the beats of one partition in, what is wrong with whom out."""

    def __init__(self, partition: int, policy: HeartbeatPolicy | None = None, failures: Failures | None = None) -> None:
        """Knows nobody yet. Who cannot be judged is noted in `failures`, and begins anew."""
        self._failures = failures or Failures()
        self._partition = partition
        self._policy = policy or HeartbeatPolicy()
        self._devices: dict[Key, Device] = {}
        self._sites: dict[Key, Site] = {}
        self._queue: list[tuple[int, Key]] = []  # deadlines; an entry that is not its device's any more is void
        self._watermark_ms = -1
        self._resumed_ms = 0  # the partition was silent before
        self._unwatched = 0  # beats of devices beyond devices_max, since it was noted

    def observe(self, broker_ms: int, beat: Heartbeat | None) -> list[Condition]:
        """One record, in the order of the log; None: it is no heartbeat, and only its time counts."""
        said = self._advance(broker_ms)
        if beat is None or is_tick(beat):
            return said
        key = beat.workspace, beat.device_id
        return said + self._or_begin_anew(key, attempt(self._hear, key, broker_ms, beat))

    def _hear(self, key: Key, broker_ms: int, beat: Heartbeat) -> list[Condition]:
        said: list[Condition] = []
        device = self._devices.get(key) or self._enrol(broker_ms, beat)
        if device is None:
            return said
        new_promise = device.interval_ms != beat.interval_ms
        device.interval_ms = beat.interval_ms
        lives = device.hear(broker_ms, beat, self._resumed_ms)
        if new_promise or device.beats % _LEARN_EVERY == 0:
            device.learn(self._policy)
        if lives:
            said += self._heard(device, beat)
            self._settle(device, beat)
        self._schedule(device)
        return said

    def note_unwatched(self) -> None:
        """Devices that beat and are not watched are a failure of ours."""
        if self._unwatched:
            why = f"{self._unwatched} beats of devices beyond the {self._policy.devices_max:,} that are watched"
            self._failures.add(Judged.DEVICE_BEYOND, TICK_WORKSPACE, f"in partition {self._partition}", why)
            self._unwatched = 0

    def snapshot(self) -> MonitorState:
        """What to save together with the offset that it explains."""
        outages = {key: (site.out_since_ms, site.said_ms) for key, site in self._sites.items() if site.out_since_ms}
        return MonitorState(
            self._watermark_ms, self._resumed_ms, self._unwatched, list(self._devices.values()), outages
        )

    def restore(self, state: MonitorState) -> None:
        """As it was when it was saved."""
        self._watermark_ms, self._resumed_ms, self._unwatched = state.watermark_ms, state.resumed_ms, state.unwatched
        self._devices = {(device.workspace, device.device_id): device for device in state.devices}
        self._recount(state.outages)
        self._queue = [(device.deadline_ms, key) for key, device in self._devices.items()]
        heapify(self._queue)

    def _enrol(self, broker_ms: int, beat: Heartbeat) -> Device | None:
        if len(self._devices) >= self._policy.devices_max:
            self._unwatched += 1
            return None
        device = Device(
            beat.workspace,
            beat.device_id,
            broker_ms,
            broker_ms,
            broker_ms,
            beat.interval_ms,
            longest_since_ms=broker_ms,
        )
        device.learn(self._policy)
        self._devices[beat.workspace, beat.device_id] = device
        device.site = site_of(beat) or ""
        self._site(device).enter(device)
        return device

    def _settle(self, device: Device, beat: Heartbeat) -> None:
        """It may have moved to another site."""
        if beat.tags is None or (site := site_of(beat) or "") == device.site:
            return
        self._leave(device)
        device.site = site
        self._site(device).enter(device)

    def _heard(self, device: Device, beat: Heartbeat) -> list[Condition]:
        """What its living says."""
        said = []
        was = device.stage
        if beat.status == "stopping":
            stop_ms = beat.expected_downtime_ms
            device.stopped_until_ms = device.last_ms + (self._policy.stop_ms_default if stop_ms is None else stop_ms)
            self._to(device, Stage.STOPPED)
        elif was is not Stage.NEW or device.beats >= self._policy.new_beats:
            self._to(device, Stage.UP)
        if device.returned < RETURN_BEATS:
            device.returned += 1
            said.append(silence.back(device, self._partition, self._watermark_ms, device.returned == RETURN_BEATS))
        if was in (Stage.LOST, Stage.SUSPECT):
            said += self._after_outage(device)
        if device.beats % RECENT == 0:
            said += silence.clock(device, self._partition, self._watermark_ms, self._policy)
        return said

    def _advance(self, to_ms: int) -> list[Condition]:
        """The log has come to `to_ms`: every deadline before it has passed."""
        if to_ms <= self._watermark_ms:
            return []
        if to_ms - self._watermark_ms > self._policy.log_gap_ms:
            self._resumed_ms = to_ms
        self._watermark_ms = to_ms
        said: list[Condition] = []
        while self._queue and self._queue[0][0] < to_ms:
            entry_ms, key = heappop(self._queue)
            device = self._devices.get(key)
            if device is None or device.deadline_ms != entry_ms:
                continue
            said += self._or_begin_anew(key, attempt(self._due, device, entry_ms))
        return said

    def _due(self, device: Device, entry_ms: int) -> list[Condition]:
        """Its turn in the queue has come."""
        said: list[Condition] = []
        deadline_ms = self._deadline_ms(device)
        if deadline_ms <= entry_ms:  # else it was heard since
            said = self._passed(device, entry_ms)
            deadline_ms = self._deadline_ms(device)
        key = device.workspace, device.device_id
        if key in self._devices:
            device.deadline_ms = deadline_ms
            heappush(self._queue, (deadline_ms, key))
        return said

    def _or_begin_anew(self, key: Key, said: list[Condition] | Exception) -> list[Condition]:
        """Forgets a device that could not be judged; its next beat is its first."""
        if not isinstance(said, Exception):
            return said
        self._failures.add(Judged.DEVICE, *key, said)
        self._devices.pop(key, None)
        self._recount({name: (site.out_since_ms, site.said_ms) for name, site in self._sites.items()})
        return []

    def _recount(self, outages: Mapping[Key, tuple[int, int]]) -> None:
        """The sites, by their devices."""
        self._sites = {}
        for device in self._devices.values():
            self._site(device).enter(device)
        for key, (out_since_ms, said_ms) in outages.items():
            site = self._sites.setdefault(key, Site())
            site.out_since_ms, site.said_ms = out_since_ms, said_ms

    def _deadline_ms(self, device: Device) -> int:
        """When the log's time alone changes its stage."""
        quiet_ms = max(device.last_ms, device.grace_ms)
        if device.stage is Stage.UP:
            return max(quiet_ms, self._resumed_ms) + self._policy.suspect_beats * device.beat_ms
        if device.stage is Stage.SUSPECT:
            return min(max(quiet_ms, self._resumed_ms) + device.page_ms, device.said_ms + self._policy.remind_ms)
        if device.stage is Stage.STOPPED:
            return device.stopped_until_ms
        if device.stage is Stage.LOST:
            return min(quiet_ms + self._policy.retire_ms, device.said_ms + self._policy.remind_ms)
        return quiet_ms + self._policy.retire_ms

    def _passed(self, device: Device, at_ms: int) -> list[Condition]:
        """Its deadline has passed in silence."""
        quiet_ms = max(device.last_ms, device.grace_ms)
        match device.stage:
            case Stage.STOPPED:
                device.grace_ms = device.stopped_until_ms
                self._to(device, Stage.UP)
                return []
            case Stage.SUSPECT if at_ms >= max(quiet_ms, self._resumed_ms) + device.page_ms:
                return self._lost(device, at_ms)
            case Stage.UP | Stage.SUSPECT:
                device.said_ms = at_ms
                device.returned = min(device.returned, RETURN_BEATS - 1)  # of a suspicion nobody was told
                self._to(device, Stage.SUSPECT)
                return [silence.suspected(device, self._partition, at_ms)]
            case Stage.LOST if at_ms < quiet_ms + self._policy.retire_ms:
                return self._still_lost(device, at_ms)
            case _:
                return self._retire(device, at_ms)

    def _retire(self, device: Device, at_ms: int) -> list[Condition]:
        """Nobody waits for it any more."""
        said = [silence.retired(device, self._partition, at_ms)] if device.stage is Stage.LOST else []
        self._to(device, Stage.NEW)
        said += self._after_outage(device)
        self._leave(device)
        del self._devices[device.workspace, device.device_id]
        return said

    def _lost(self, device: Device, at_ms: int) -> list[Condition]:
        site = self._site(device)
        if not site.out_since_ms and site.is_going(self._policy.outage_devices_min):
            site.out_since_ms = at_ms
        self._to(device, Stage.LOST, in_outage=bool(site.out_since_ms))
        return self._still_lost(device, at_ms)

    def _still_lost(self, device: Device, at_ms: int) -> list[Condition]:
        site, said = self._site(device), []
        if device.in_outage and (site.said_ms < site.out_since_ms or at_ms - site.said_ms >= self._policy.remind_ms):
            site.said_ms = at_ms
            said.append(silence.site_out(device, site, self._partition, at_ms))
        device.said_ms, device.returned = at_ms, 0
        return [*said, silence.lost(device, self._partition, at_ms)]

    def _after_outage(self, device: Device) -> list[Condition]:
        """Whether its site is back: what is still silent then has its full time again, and stands for itself."""
        site = self._site(device)
        if not site.out_since_ms or site.is_mostly_silent():
            return []
        said = silence.site_back(device, site, self._partition, self._watermark_ms)
        site.out_since_ms = 0
        for other in self._devices.values():
            if other.in_outage and (other.workspace, other.site) == (device.workspace, device.site):
                other.grace_ms = other.said_ms = self._watermark_ms
                self._to(other, Stage.SUSPECT)
                self._schedule(other)
        return [said]

    def _to(self, device: Device, stage: Stage, *, in_outage: bool = False) -> None:
        if (device.stage, device.in_outage) == (stage, in_outage):
            return
        site = self._site(device)
        site.leave(device)
        device.stage, device.in_outage = stage, in_outage
        site.enter(device)

    def _site(self, device: Device) -> Site:
        return self._sites.setdefault((device.workspace, device.site), Site())

    def _leave(self, device: Device) -> None:
        site = self._site(device)
        site.leave(device)
        if not site.members and not site.out_since_ms:
            del self._sites[device.workspace, device.site]

    def _schedule(self, device: Device) -> None:
        """An earlier deadline needs an entry of its own; a later one is found when the old entry's turn comes."""
        deadline_ms = self._deadline_ms(device)
        if deadline_ms < device.deadline_ms or not device.deadline_ms:
            device.deadline_ms = deadline_ms
            heappush(self._queue, (deadline_ms, (device.workspace, device.device_id)))
