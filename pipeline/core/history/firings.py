"""When a rule would have fired: its episodes over history, and whether people would still have listened to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.words import duration
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Rule

DAY_S = 86_400
NOISY_PER_DAY = 3.0  # more on the average is read by nobody
NOISY_SHARE = 0.1  # of the time: then it is how things are
SHORT_SHARE = 0.5  # of the firings, shorter than the rule's own window


@dataclass(frozen=True, slots=True)
class Firing:
    """One episode in which people would have been told."""

    steps: Sequence[AlertEvent]
    first: AlertEvent  # the step that fired

    @property
    def ended_at_ms(self) -> int | None:
        """None: it fires to the end."""
        last = self.steps[-1]
        return last.at_ms if last.state is AlertState.RESOLVED else None

    def lasted_s(self, until_ms: int) -> int:
        """For how long, at most `until_ms`."""
        return max(0, (self.ended_at_ms or until_ms) - self.first.at_ms) // 1000


def begins_to_fire(event: AlertEvent) -> bool:
    """Whether it is the first step of an episode that people are told of."""
    return event.state is AlertState.FIRING and event.previous_state in (None, AlertState.PENDING)


def firings(events: Iterable[AlertEvent], rule_id: str) -> list[Firing]:
    """Those of a rule, in the order of their beginning."""
    episodes: dict[tuple[str, int], list[AlertEvent]] = {}
    for event in events:
        if event.rule_id == rule_id:
            episodes.setdefault((event.fingerprint, event.episode), []).append(event)
    found = [
        Firing(steps, first)
        for steps in episodes.values()
        if (first := next((step for step in steps if begins_to_fire(step)), None)) is not None
    ]
    return sorted(found, key=lambda firing: (firing.first.at_ms, firing.first.fingerprint))


def firing_s(found: Iterable[Firing], until_ms: int) -> int:
    """How long at least one of them fired."""
    total, reached_ms = 0, 0
    for firing in found:
        end_ms = firing.first.at_ms + 1000 * firing.lasted_s(until_ms)
        total += max(0, end_ms - max(firing.first.at_ms, reached_ms))
        reached_ms = max(reached_ms, end_ms)
    return total // 1000


def warnings(rule: Rule, found: Sequence[Firing], start_ms: int, end_ms: int) -> list[str]:
    """Why people would stop listening to it, and what to change; empty if they would not."""
    out = []
    days = max(1.0, (end_ms - start_ms) / 1000 / DAY_S)
    per_day = len(found) / days
    if per_day > NOISY_PER_DAY:
        out.append(f"noisy: {per_day:.1f} times a day on the average; move the threshold, or let it hold longer")
    share = firing_s(found, end_ms) * 1000 / max(1, end_ms - start_ms)
    if share > NOISY_SHARE:
        out.append(f"it would have fired {share:.0%} of the time: the threshold lies where things usually are")
    short = [one for one in found if one.lasted_s(end_ms) < rule.window_s]
    if len(found) > 2 and len(short) > SHORT_SHARE * len(found):
        hold = duration(max(60, rule.window_s))
        out.append(f"{len(short)} of {len(found)} times it was over within its window: hold_s of {hold} would wait")
    return out
