"""What a rule's limits let through: the rest is withheld, and summed up later. An end is always told."""

from collections.abc import Iterator

from pipeline.core.notifying.episodes import Episodes
from pipeline.core.notifying.groups import AlertGroup
from pipeline.core.notifying.limits import Allowances, AllowancesState
from pipeline.core.notifying.notification import Notification, TellReason, idempotency_key
from pipeline.core.notifying.routing import Routing
from schemas.alert import AlertEvent


class TellLimits:
    """The allowances of all recipients, as the rules have them."""

    def __init__(self, routing: Routing, episodes: Episodes) -> None:
        """Nothing was told yet."""
        self._routing, self._episodes = routing, episodes
        self._allowances = Allowances()

    def withhold(self, group: AlertGroup, reasons: dict[str, TellReason], now_ms: int) -> str:
        """Takes out of `reasons` what the limits do not allow; what is to be said of them."""
        rules: dict[str, list[str]] = {}
        for key, reason in reasons.items():
            rule_id = self._episodes[key].rule_id
            if rule_id is not None and reason in (TellReason.FIRST, TellReason.WORSE, TellReason.REPEAT):
                rules.setdefault(rule_id, []).append(key)
        notes = []
        for rule_id, keys in rules.items():
            new = sum(group.members[key].withheld != self._episodes[key].id for key in keys)
            route = self._routing.route(self._episodes[keys[0]])
            note = self._allowances.take(rule_id, group.recipient, (route.per_hour, route.per_day), new, now_ms)
            if note is None:
                for key in keys:
                    group.members[key].withheld = self._episodes[key].id
                    del reasons[key]
            elif note:
                notes.append(note)
        return " ".join(notes)

    def free_ms(self, recipient: str, event: AlertEvent, now_ms: int) -> int:
        """When its recipient may hear of it."""
        return self._allowances.free_ms(event.rule_id or "", recipient, now_ms)

    def summaries(self, now_ms: int) -> Iterator[Notification]:
        """What was withheld, once the limit allows to say so."""
        for rule_id, recipient, since_ms, text in self._allowances.summaries(now_ms):
            key = idempotency_key(recipient, rule_id, "withheld", since_ms)
            yield Notification(recipient, f"limit {rule_id}", (), TellReason.WITHHELD, key, now_ms, note=text)

    def snapshot(self) -> AllowancesState:
        """All of it."""
        return self._allowances.snapshot()

    def restore(self, state: AllowancesState) -> None:
        """As it was when it was saved."""
        self._allowances.restore(state)
