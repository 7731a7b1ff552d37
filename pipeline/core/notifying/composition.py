"""A message about a group: what is new first, then what else is open."""

from collections.abc import Mapping

from pipeline.core.notifying.episodes import Episodes
from pipeline.core.notifying.groups import STORM, AlertGroup
from pipeline.core.notifying.notification import Notification, TellReason, idempotency_key, strongest


def composed(
    group: AlertGroup, episodes: Episodes, reasons: Mapping[str, TellReason], note: str, now_ms: int, events_max: int
) -> Notification:
    """The message for these reasons, by episode; from now on the recipient knows what it says."""
    # The end of what has begun anew comes before the beginning: who knows alerts by name hears both in order.
    new = sorted(reasons, key=lambda key: (not episodes.is_superseded(key), *_urgency(episodes, key)))
    rest = [key for key, told in group.members.items() if key not in reasons and told.is_open]
    listed = (new + rest)[:events_max]
    reason = strongest(reasons.values())
    if group.cause == STORM and reason in (TellReason.FIRST, TellReason.WORSE):
        reason = TellReason.STORM
        note = f"{len(new)} alerts at once: they are in one message. {note}".rstrip()
    told_before = [[episodes[key].id, reasons[key].value, group.members[key].count] for key in sorted(new)]
    for key in new:
        group.members[key].hear(episodes[key])
    for key in new + rest:
        group.members[key].note(now_ms)
    return Notification(
        recipient=group.recipient,
        group=group.cause,
        events=tuple(episodes[key] for key in listed),
        reason=reason,
        idempotency_key=idempotency_key(group.recipient, group.cause, told_before),
        at_ms=now_ms,
        left_out=len(new) + len(rest) - len(listed),
        note=note,
    )


def _urgency(episodes: Episodes, key: str) -> tuple[int, int, str]:
    return -episodes[key].severity.rank, episodes[key].starts_at_ms, key
