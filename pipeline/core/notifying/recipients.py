"""Recipients: by what way each is reached, and how it may be written where others read it."""

from enum import Enum
from hashlib import blake2b

from pipeline.core.notifying.routing import ALERTMANAGER


class RecipientKind(Enum):
    """How a recipient is reached. A closed set: it labels metrics."""

    MAIL = "mail"
    ALERTMANAGER = "alertmanager"
    PAGERDUTY = "pagerduty"
    WEBHOOK = "webhook"
    CHAT = "chat"


_BY_SCHEME = {
    "mailto": RecipientKind.MAIL,
    "pagerduty": RecipientKind.PAGERDUTY,
    "http": RecipientKind.WEBHOOK,
    "https": RecipientKind.WEBHOOK,
}


def kind_of(recipient: str) -> RecipientKind:
    """By the address's scheme; what is none of ours is for apprise."""
    if recipient == ALERTMANAGER:
        return RecipientKind.ALERTMANAGER
    return _BY_SCHEME.get(recipient.partition(":")[0].lower(), RecipientKind.CHAT)


def redacted(recipient: str) -> str:
    """A recipient as it may be logged: mail addresses as they are, else no more than the kind of service."""
    kind = kind_of(recipient)
    if kind in (RecipientKind.MAIL, RecipientKind.ALERTMANAGER):
        return recipient
    return f"{recipient.partition(':')[0].lower()}:***"


def named(recipient: str) -> str:
    """The same, and told apart from others of its kind."""
    shown = redacted(recipient)
    return shown if shown == recipient else f"{shown} ({blake2b(recipient.encode(), digest_size=3).hexdigest()})"
