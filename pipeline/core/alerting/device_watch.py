"""All that is judged of one partition of inference.heartbeats: who is silent, and the life of those alerts.

What comes out depends on the records alone, so a restart from a snapshot tells the same steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.alerting import ourselves
from pipeline.core.alerting.life_cycle import LifeCycle
from pipeline.core.alerting.ourselves import OurLimits
from pipeline.core.alerting.standstill import Standstill
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.devices.heartbeats import HeartbeatMonitor
from pipeline.core.ledger.standing import READS, Standing
from pipeline.core.rows.tables import Records
from schemas import heartbeat
from schemas.alert import AlertEvent
from schemas.rejection import Rejected
from schemas.silence import Acknowledgement

TICK_MS = 60_000  # of the log: how often it is looked for what is over, or has no data


class DeviceWatch:
    """One partition's devices."""

    version = 2  # of its snapshot

    def __init__(self, partition: int, policy: HeartbeatPolicy | None = None, limits: OurLimits | None = None) -> None:
        self._monitor = HeartbeatMonitor(partition, policy)
        self._limits = limits or OurLimits()
        self._roles = {role: Standstill(self._limits.standstill_ms) for role in READS}
        self._life = LifeCycle()
        self._watermark_ms = 0

    def hear(self, ack: Acknowledgement) -> list[AlertEvent]:
        """What a person says of an alert, where the log has come to."""
        return self._life.hear(ack, self._watermark_ms)

    def observe(self, records: Records) -> list[AlertEvent]:
        """Records in the order of the log. Of what is no heartbeat only the time counts."""
        events: list[AlertEvent] = []
        for time_ms, raw in zip(records.times_ms, records.values, strict=True):
            beat = heartbeat.decode(raw)
            for condition in self._monitor.observe(time_ms, None if isinstance(beat, Rejected) else beat):
                events += self._life.observe(condition)
            before_ms, self._watermark_ms = self._watermark_ms, max(self._watermark_ms, time_ms)
            # At moments of the log, not of ours: a replay must say the same.
            if self._watermark_ms // TICK_MS > before_ms // TICK_MS:
                events += self._life.tick(self._watermark_ms // TICK_MS * TICK_MS)
        return events

    def tick(self, caught_up: bool) -> None:
        """Everything that has come was observed; `caught_up`: and nothing more is there."""
        said = self._monitor.tick(self._watermark_ms, caught_up)
        assert not said, "every record has told its time"

    def observe_roles(self, standings: Sequence[Standing]) -> list[AlertEvent]:
        """Where the other roles stood on the broker, just now. Now is the log's time: our own beats move it."""
        events: list[AlertEvent] = []
        for role, machine in self._roles.items():
            mine = [one for one in standings if one.role == role]
            progress = machine.observe(self._watermark_ms, mine)
            events += self._life.observe(ourselves.standstill(role, self._watermark_ms, progress, self._limits))
        return events

    def stages(self) -> Mapping[str, int]:
        """Devices by stage."""
        return self._monitor.stages()

    def snapshot(self) -> dict[str, Any]:
        """What to save together with the offset that it explains."""
        return {
            "watermark_ms": self._watermark_ms,
            "monitor": self._monitor.snapshot(),
            "life": self._life.snapshot(),
            "roles": {role: machine.snapshot() for role, machine in self._roles.items()},
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """As it was when it was saved, by this version."""
        self._watermark_ms = saved["watermark_ms"]
        self._monitor.restore(saved["monitor"])
        self._life.restore(saved["life"])
        for role, one in saved["roles"].items():
            self._roles[role].restore(one)
