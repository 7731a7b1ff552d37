"""How many devices of a site are silent, kept by addition: a site of 100,000 devices may go at once."""

from dataclasses import dataclass

from pipeline.core.devices.device import Device, Stage
from schemas.heartbeat import Heartbeat


def site_of(beat: Heartbeat) -> str | None:
    """The site that a tag `site:NAME` or `site=NAME` gives; without one the whole workspace is the site."""
    for tag in beat.tags or ():
        if tag.startswith(("site:", "site=")):
            return tag[5:]
    return None


@dataclass(slots=True)
class Site:
    """The devices of one partition that share a site, or a workspace."""

    members: int = 0
    watched: int = 0  # up, suspected, or silent as part of the outage; not those that were lost by themselves before
    suspects: int = 0
    joined: int = 0  # lost as part of the outage
    out_since_ms: int = 0  # 0: not out
    said_ms: int = 0

    def enter(self, device: Device) -> None:
        """Counts it as it stands."""
        self._count(device, 1)

    def leave(self, device: Device) -> None:
        """Takes it out, as it was counted."""
        self._count(device, -1)

    def is_going(self, devices_min: int) -> bool:
        """Whether most of it fell silent within the last beats: suspicion lasts for some beats only."""
        return self.suspects >= devices_min and 2 * self.suspects > self.watched

    def is_mostly_silent(self) -> bool:
        """Whether most of it still is."""
        return 2 * (self.joined + self.suspects) > self.watched

    def _count(self, device: Device, by: int) -> None:
        self.members += by
        self.watched += by * (device.stage in (Stage.UP, Stage.SUSPECT) or device.in_outage)
        self.suspects += by * (device.stage is Stage.SUSPECT)
        self.joined += by * device.in_outage
