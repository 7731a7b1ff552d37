"""One message to one recipient, and the reason for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

import msgspec

from schemas.alert import AlertEvent, AlertState, Severity


class TellReason(Enum):
    """Why somebody is told. In this order the strongest of a group speaks for it."""

    FIRST = "first notification"
    WORSE = "got worse"
    STORM = "many alerts at once"
    RESOLVED = "resolved"
    REPEAT = "repeat interval elapsed"
    ACKNOWLEDGED = "acknowledged"
    WITHHELD = "summary of what was withheld"
    RESENT = "state sent again"  # to Alertmanager, which forgets what it is not told again
    TEST = "test message"


_STRENGTH = list(TellReason)


@dataclass(frozen=True, slots=True)
class Notification:
    """What to send to whom. Sent twice, it has the same idempotency key both times."""

    recipient: str = field(repr=False)  # may hold a secret
    group: str  # what its alerts have in common
    events: tuple[AlertEvent, ...]  # what is new first, then what else is open in the group
    reason: TellReason
    idempotency_key: str
    at_ms: int
    left_out: int = 0  # more alerts than a message holds
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether any of it still fires."""
        return any(event.state is not AlertState.RESOLVED for event in self.events)

    @property
    def severity(self) -> Severity:
        """The worst of what still fires, else of all."""
        events = [event for event in self.events if event.state is not AlertState.RESOLVED] or self.events
        return max((event.severity for event in events), key=lambda severity: severity.rank, default=Severity.INFO)


class Told(msgspec.Struct):
    """What a recipient knows of an episode."""

    is_open: bool = False  # told that it fires, and not that it ended
    rank: int = -1  # the worst severity told
    at_ms: int = 0
    count: int = 0
    acknowledged: bool = False
    withheld: str = ""  # id of the step that was last withheld

    def hear(self, event: AlertEvent) -> None:
        """It is told of this step."""
        self.withheld, self.is_open, self.rank = "", True, max(self.rank, event.severity.rank)

    def note(self, now_ms: int) -> None:
        """It is in a message."""
        self.count, self.at_ms = self.count + 1, now_ms


def reason_to_notify(
    event: AlertEvent, told: Told, now_ms: int, repeat_ms: int, *, quiet: bool, acknowledged: bool
) -> TellReason | None:
    """Why to tell of an alert as it stands; None: no reason. `quiet`: silenced, or another alert says it.

    People hear of an end if and only if they heard of the beginning, silence or not.
    """
    acknowledged = acknowledged or event.state is AlertState.ACKNOWLEDGED
    if event.state is AlertState.RESOLVED:
        return TellReason.RESOLVED if told.is_open else None
    if quiet or event.state not in (AlertState.FIRING, AlertState.ACKNOWLEDGED):
        return None
    if not told.is_open:
        return None if acknowledged else TellReason.FIRST
    if event.severity.rank > told.rank:
        return TellReason.WORSE
    if acknowledged:
        return None if told.acknowledged else TellReason.ACKNOWLEDGED
    return TellReason.REPEAT if now_ms - told.at_ms >= repeat_ms else None


def strongest(reasons: Iterable[TellReason]) -> TellReason:
    """The one that speaks for all."""
    return min(reasons, key=_STRENGTH.index)


def idempotency_key(*parts: object) -> str:
    """Equal for equal parts."""
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()
