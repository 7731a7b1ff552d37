"""What can never be sent to: what each sender would say at once, asked before anything is to be sent."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from pipeline.core.notifying.recipients import RecipientKind, kind_of, redacted
from pipeline.core.notifying.routing import ALERTMANAGER
from pipeline.core.words import shown
from pipeline.edge.notification import chat, mail, pagerduty, webhook

_BY_KIND: Mapping[RecipientKind, Callable[[str], str]] = {
    RecipientKind.MAIL: mail.mistake,
    RecipientKind.WEBHOOK: webhook.mistake,
    RecipientKind.PAGERDUTY: pagerduty.mistake,
    RecipientKind.CHAT: chat.mistake,
    RecipientKind.ALERTMANAGER: lambda _: "",
}
_SCHEMES = sorted({"mailto", "pagerduty", "http", "https", ALERTMANAGER} | chat.SCHEMES)


def mistake(recipient: str) -> str:
    """Why it can never be sent to; "": nothing is known against it."""
    why = _BY_KIND[kind_of(recipient)](recipient)
    scheme = chat.scheme_of(recipient)
    near = get_close_matches(scheme, _SCHEMES, 1) if why and scheme not in _SCHEMES else []
    return why + (f"; {near[0]}?" if near else "")


def mistakes(recipients: Sequence[str]) -> list[str]:
    """Of a rule's recipients: "recipients[0]: which, and what is wrong"."""
    wrong = ((i, recipient, mistake(recipient)) for i, recipient in enumerate(recipients))
    return [f"recipients[{i}]: {shown(redacted(recipient))}: {why}" for i, recipient, why in wrong if why]
