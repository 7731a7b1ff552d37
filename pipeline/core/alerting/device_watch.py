"""All that is judged of one partition of inference.heartbeats: who is silent, and the life of those alerts.

What comes out depends on the records alone, so a restart from a snapshot tells the same steps.
"""

from collections.abc import Sequence

import msgspec

from pipeline.core.alerting import ourselves
from pipeline.core.alerting.life_cycle import LifeCycle, LifeState
from pipeline.core.alerting.ourselves import OurLimits
from pipeline.core.alerting.standstill import Standstill, StandstillState
from pipeline.core.alerting.unjudged import Unjudged
from pipeline.core.batch import Batch
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.devices.heartbeats import HeartbeatMonitor, MonitorState
from pipeline.core.isolation import Failures
from pipeline.core.ledger.standing import READS, Standing
from schemas import heartbeat
from schemas.alert import AlertEvent
from schemas.rejection import Rejected
from schemas.silence import Acknowledgement
from schemas.tolerance import Adjusted
from schemas.topics import HEARTBEATS

TICK_MS = 60_000  # of the log: how often it is looked for what is over, or has no data


class DeviceState(msgspec.Struct):
    """What is saved of a DeviceWatch."""

    watermark_ms: int
    unjudged_ms: int | None
    monitor: MonitorState
    life: LifeState
    roles: dict[str, StandstillState]


class DeviceWatch:
    """One partition's devices."""

    def __init__(self, partition: int, policy: HeartbeatPolicy | None = None, limits: OurLimits | None = None) -> None:
        failures = Failures()
        self._monitor = HeartbeatMonitor(partition, policy, failures)
        self._limits = limits or OurLimits()
        self._roles = {role: Standstill(self._limits.standstill_ms) for role in READS}
        self._life = LifeCycle()
        self.unjudged = Unjudged(HEARTBEATS.name, partition, failures, self._life)
        self._watermark_ms = 0

    def hear(self, ack: Acknowledgement) -> list[AlertEvent]:
        """What a person says of an alert, where the log has come to."""
        return self._life.hear(ack, self._watermark_ms)

    def observe(self, records: Batch) -> list[AlertEvent]:
        """Records in the order of the log. Of what is no heartbeat only the time counts."""
        events: list[AlertEvent] = []
        for time_ms, raw in zip(records.times_ms, records.values, strict=True):
            beat = heartbeat.decode(raw)
            if isinstance(beat, Adjusted):
                beat = beat.value
            for condition in self._monitor.observe(time_ms, None if isinstance(beat, Rejected) else beat):
                events += self._life.observe(condition)
            before_ms, self._watermark_ms = self._watermark_ms, max(self._watermark_ms, time_ms)
            # At moments of the log, not of ours: a replay must say the same.
            if self._watermark_ms // TICK_MS > before_ms // TICK_MS:
                now_ms = self._watermark_ms // TICK_MS * TICK_MS
                self._monitor.note_unwatched()
                events += self.unjudged.tick(now_ms) + self._life.tick(now_ms)
        return events

    def observe_roles(self, standings: Sequence[Standing]) -> list[AlertEvent]:
        """Where the other roles stood on the broker, just now. Now is the log's time: our own beats move it."""
        events: list[AlertEvent] = []
        for role, machine in self._roles.items():
            mine = [one for one in standings if one.role == role]
            progress = machine.observe(self._watermark_ms, mine)
            events += self._life.observe(ourselves.standstill(role, self._watermark_ms, progress, self._limits))
        return events

    def snapshot(self) -> DeviceState:
        """What to save together with the offset that it explains."""
        roles = {role: machine.snapshot() for role, machine in self._roles.items()}
        return DeviceState(
            self._watermark_ms, self.unjudged.since_ms, self._monitor.snapshot(), self._life.snapshot(), roles
        )

    def restore(self, state: DeviceState) -> None:
        """As it was when it was saved."""
        self._watermark_ms, self.unjudged.since_ms = state.watermark_ms, state.unjudged_ms
        self._monitor.restore(state.monitor)
        self._life.restore(state.life)
        for role, one in state.roles.items():
            self._roles[role].restore(one)
