"""Recipients: by what way each is reached, how it may be written where others read it, and mail addresses."""

import re
from enum import Enum
from hashlib import blake2b
from urllib.parse import unquote

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

# RFC 5321's without quotes and comments, and any letters (SMTPUTF8). No =?, which is the beginning of an encoded word.
_LOCAL = r"(?!//|.*=\?)[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_DOMAIN = r"(?!-)[\w-]{1,63}(?<!-)(?:\.(?!-)[\w-]{1,63}(?<!-))*"
_ADDRESS = re.compile(rf"(?=.{{3,254}}$)(?=.{{1,64}}@){_LOCAL}@(?:{_DOMAIN}|\[[\w.:]+\])")


def mail_addresses(recipient: str) -> list[str]:
    """The addresses of mailto:NAME@HOST,NAME@HOST; none if one of them can be none."""
    given = unquote(recipient.partition(":")[2].partition("?")[0]).split(",")
    found = [address.strip() for address in given]
    return found if all(_ADDRESS.fullmatch(one) for one in found) else []


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
    digest = blake2b(recipient.encode(errors="replace"), digest_size=3)
    return shown if shown == recipient else f"{shown} ({digest.hexdigest()})"
