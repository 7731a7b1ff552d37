"""Sites that are out, as a whole: the shares that partitions of heartbeats tell of are joined to one alert.

    partition 0   500 of 500 silent  ─┐
    partition 1   499 of 499          ├─▶ one beat later:  2,000 of 2,000 devices fell silent together
    partition 2   501 of 501          │
    partition 3   500 of 500         ─┘

Each partition of inference.heartbeats has some of a site's devices and knows of no others; its share is an alert that
is suppressed by the whole. Whoever reads all alerts (the notifier) joins them. Devices that went together are paged
within one beat of each other, so after one more beat all shares are in.
"""

from typing import Any

import msgspec

from pipeline.core.alerting.life_cycle import LifeCycle, LifeState
from pipeline.core.condition import Condition
from pipeline.core.devices.quiet import SITE_SHARE, site_name, site_subject, site_text
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.silence import Acknowledgement

HOLD_MS_MAX = 60_000  # nobody waits longer for the rest, however slow the devices beat
REMIND_MS = 60_000  # what is still so is said again: an alert without news would count as without data

SiteKey = tuple[str, str]  # workspace, site


class Share(msgspec.Struct):
    """A partition's part of an outage."""

    silent: int
    watched: int
    beat_ms: int
    since_ms: int


class Outage(msgspec.Struct):
    """The shares of one site, by partition."""

    first_ms: int  # when the first was seen, by the caller's clock
    shares: dict[str, Share] = {}

    def is_whole(self, now_ms: int) -> bool:
        """Whether all that went together have been heard of."""
        beat_ms = max((share.beat_ms for share in self.shares.values()), default=0)
        return now_ms - self.first_ms >= min(beat_ms, HOLD_MS_MAX)


class OutagesState(msgspec.Struct):
    """What is saved of Outages."""

    life: LifeState = msgspec.field(default_factory=LifeState)
    sites: dict[SiteKey, Outage] = {}


class Outages:
    """A machine: steps of alerts in, steps of the alerts about whole sites out. Its clock is the caller's."""

    def __init__(self) -> None:
        """No site is out."""
        self._life = LifeCycle()
        self._sites: dict[SiteKey, Outage] = {}
        self._said_ms = 0

    def observe(self, event: AlertEvent, now_ms: int) -> None:
        """A step that is news: what is no share of an outage says nothing."""
        if event.kind is not AlertKind.HEARTBEAT or event.metric != SITE_SHARE:
            return
        key = event.workspace, event.labels.get("site", "")
        partition = event.labels.get("partition", "")
        if event.state is AlertState.RESOLVED:
            if key in self._sites:
                self._sites[key].shares.pop(partition, None)
            return
        outage = self._sites.setdefault(key, Outage(now_ms))
        if not outage.shares:
            outage.first_ms = now_ms
        silent, watched, beat_ms = (
            _count(event.evidence, name) for name in ("devices_silent", "devices_watched", "beat_ms")
        )
        outage.shares[partition] = Share(silent, watched, beat_ms, event.starts_at_ms)

    def hear(self, ack: Acknowledgement, now_ms: int) -> list[AlertEvent]:
        """What a person says of an alert."""
        return self._life.hear(ack, now_ms)

    def tick(self, now_ms: int) -> list[AlertEvent]:
        """What follows. All that is there was observed."""
        steps: list[AlertEvent] = []
        reminds = now_ms - self._said_ms >= REMIND_MS
        open_now = self._life.open if self._sites else {}
        for key, outage in list(self._sites.items()):
            is_told = site_subject(*key).fingerprint in open_now
            if not outage.shares:
                del self._sites[key]
                steps += self._life.observe(_back(key, now_ms)) if is_told else []
            elif outage.is_whole(now_ms) and (reminds or not is_told):
                steps += self._life.observe(_out(key, outage, now_ms))
        if reminds:
            self._said_ms = now_ms
            steps += self._life.tick(now_ms)
        return steps

    def snapshot(self) -> OutagesState:
        """What to save."""
        return OutagesState(self._life.snapshot(), self._sites)

    def restore(self, state: OutagesState) -> None:
        """As it was when it was saved."""
        self._life.restore(state.life)
        self._sites = state.sites


def _count(evidence: Any, name: str) -> int:
    """Whoever may write to the topic may write anything."""
    value = evidence.get(name)
    return value if isinstance(value, int) and value >= 0 else 0


def _out(key: SiteKey, outage: Outage, now_ms: int) -> Condition:
    shares = outage.shares.values()
    silent, watched = sum(share.silent for share in shares), sum(share.watched for share in shares)
    return Condition(
        subject=site_subject(*key),
        at_ms=now_ms,
        breached=True,
        severity=Severity.CRITICAL,
        summary=site_text(*key, silent, watched),
        value=float(silent),
        expected=0.0,
        threshold=watched / 2,
        labels={"site": key[1]} if key[1] else {},
        evidence={
            "devices_silent": silent,
            "devices_watched": watched,
            "since_ms": min(share.since_ms for share in shares),
            "partitions": len(shares),
        },
    )


def _back(key: SiteKey, now_ms: int) -> Condition:
    return Condition(
        subject=site_subject(*key),
        at_ms=now_ms,
        breached=False,
        severity=Severity.CRITICAL,
        summary=f"{site_name(*key)} is back; who is still silent has an alert of its own",
        labels={"site": key[1]} if key[1] else {},
    )
