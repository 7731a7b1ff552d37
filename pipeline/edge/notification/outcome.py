"""What became of sending one notification, and what a sender is."""

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Protocol

from pipeline.core.alerting.notification import Notification
from pipeline.core.alerting.routing import ALERTMANAGER


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has taken it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It has not, as far as is known. The reason holds no secret."""

    recoverable: bool  # it may work later
    reason: str


Outcome = Sent | Failed


class Sender(Protocol):
    """One way to reach people or machines."""

    async def send(self, notification: Notification) -> Outcome:
        """Tries once."""


class Kind(Enum):
    """How a recipient is reached. A closed set: it labels metrics."""

    MAIL = "mail"
    ALERTMANAGER = "alertmanager"
    PAGERDUTY = "pagerduty"
    WEBHOOK = "webhook"
    CHAT = "chat"


def kind_of(recipient: str) -> Kind:
    """By the address's scheme; what is none of ours is for apprise."""
    scheme = recipient.partition(":")[0].lower()
    if recipient == ALERTMANAGER:
        return Kind.ALERTMANAGER
    by_scheme = {"mailto": Kind.MAIL, "pagerduty": Kind.PAGERDUTY, "http": Kind.WEBHOOK, "https": Kind.WEBHOOK}
    return by_scheme.get(scheme, Kind.CHAT)


def redacted(recipient: str) -> str:
    """A recipient as it may be logged: mail addresses as they are, else no more than the kind of service."""
    kind = kind_of(recipient)
    if kind in (Kind.MAIL, Kind.ALERTMANAGER):
        return recipient
    return f"{recipient.partition(':')[0].lower()}:***"


def named(recipient: str) -> str:
    """The same, and told apart from others of its kind."""
    shown = redacted(recipient)
    return shown if shown == recipient else f"{shown} ({blake2b(recipient.encode(), digest_size=3).hexdigest()})"
