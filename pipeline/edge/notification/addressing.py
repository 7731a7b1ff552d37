"""What can never be sent to: what each sender would say at once, asked before anything is to be sent."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from pipeline.config import PREFIX, Settings
from pipeline.core.notifying.recipients import RecipientKind, kind_of, redacted
from pipeline.core.notifying.routing import ALERTMANAGER
from pipeline.core.words import shown
from pipeline.edge.notification import chat, mail, pagerduty, webhook
from schemas.rejection import Rejected
from schemas.rule import Rule

_BY_KIND: Mapping[RecipientKind, Callable[[str], str]] = {
    RecipientKind.MAIL: mail.mistake,
    RecipientKind.WEBHOOK: webhook.mistake,
    RecipientKind.PAGERDUTY: pagerduty.mistake,
    RecipientKind.CHAT: chat.mistake,
    RecipientKind.ALERTMANAGER: lambda _: "",
}
_PAGERDUTY_DEFAULT = pagerduty.PREFIX + pagerduty.DEFAULT
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


def unset(recipient: str, settings: Settings) -> str:
    """Which setting its way needs and does not have; "": none."""
    has_key = bool(settings.pagerduty_key.get_secret_value())
    match kind_of(recipient):
        case RecipientKind.MAIL if not settings.smtp_host:
            name = "SMTP_HOST"
        case RecipientKind.ALERTMANAGER if not settings.alertmanager_url:
            name = "ALERTMANAGER_URL"
        case RecipientKind.PAGERDUTY if recipient == _PAGERDUTY_DEFAULT and not has_key:
            name = "PAGERDUTY_KEY"
        case _:
            return ""
    return f"{PREFIX}{name} is not set"


def mistakes_in_settings(settings: Settings) -> list[str]:
    """Of the recipients that the settings name: "which setting: which, and what is wrong"."""
    defaults = settings.default_recipients
    return [
        f"{PREFIX}{name}: {shown(redacted(recipient))}: {why}"
        for name, recipients in (
            ("NOTIFY_RECIPIENTS", defaults.recipients),
            ("WATCHDOG_RECIPIENTS", defaults.watchdog_recipients),
        )
        for recipient in recipients
        if (why := mistake(recipient) or unset(recipient, settings))
    ]


def mistakes_in_rules(rules: Mapping[str, Rule | Rejected], settings: Settings) -> list[str]:
    """Rules that can be read by nobody, and those whose recipients can never be sent to."""
    found = []
    for rule_id, one in rules.items():
        if isinstance(one, Rejected):
            found.append(f"{shown(rule_id)} cannot be read, and nobody heeds it ({one.reason.value} {one.field})")
            continue
        found += [f"{shown(rule_id)}: {why}" for why in mistakes(one.recipients)]
        needed = sorted({why for recipient in one.recipients if (why := unset(recipient, settings))})
        found += [f"{shown(rule_id)}: {why}" for why in needed]
    return found
