"""How often somebody may be told: by the hour and by the day for a rule's recipient, and at most so many at once."""

from collections.abc import Iterator

import msgspec

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Allowance(msgspec.Struct):
    """What one recipient may still hear of one rule. Counts are kept by the minute: sliding, and bounded."""

    per_hour: int | None
    per_day: int | None
    minutes: dict[int, int] = {}  # minute -> notifications
    withheld: int = 0  # since the last summary
    withheld_since_ms: int = 0

    def left(self, now_ms: int) -> int | None:
        """How many more are allowed now; None: any number."""
        self._forget(now_ms)
        lefts = []
        if self.per_hour is not None:
            since = (now_ms - HOUR_MS) // MINUTE_MS
            lefts.append(self.per_hour - sum(count for minute, count in self.minutes.items() if minute > since))
        if self.per_day is not None:
            lefts.append(self.per_day - sum(self.minutes.values()))
        return max(0, min(lefts)) if lefts else None

    def take(self, now_ms: int) -> bool:
        """Whether one more is allowed; it counts from now on."""
        left = self.left(now_ms)
        if left == 0:
            return False
        if left is not None:
            minute = now_ms // MINUTE_MS
            self.minutes[minute] = self.minutes.get(minute, 0) + 1
        return True

    def withhold(self, count: int, now_ms: int) -> None:
        """Counts what was not told."""
        if not count:
            return
        if not self.withheld:
            self.withheld_since_ms = now_ms
        self.withheld += count

    def free_ms(self, now_ms: int) -> int:
        """When the next one may be told, if nothing is told until then."""
        left = self.left(now_ms)
        if left is None or left > 0:
            return now_ms
        frees = [now_ms]
        if self.per_hour is not None:
            frees.append(self._falls_below(self.per_hour, now_ms, HOUR_MS))
        if self.per_day is not None:
            frees.append(self._falls_below(self.per_day, now_ms, DAY_MS))
        return max(frees)

    def words(self) -> str:
        """The limit as people gave it."""
        given = ((self.per_hour, "hour"), (self.per_day, "day"))
        return " and ".join(f"{limit} per {span}" for limit, span in given if limit is not None)

    def summary(self, rule_id: str, now_ms: int) -> str:
        """What was withheld since the last summary; "" nothing."""
        count, self.withheld = self.withheld, 0
        minutes = max(1, (now_ms - self.withheld_since_ms) // MINUTE_MS)
        many = "1 notification" if count == 1 else f"{count} notifications"
        what = f"{many} of rule {rule_id} withheld within the last {minutes} min: its limit is {self.words()}."
        return what if count else ""

    def _falls_below(self, limit: int, now_ms: int, span_ms: int) -> int:
        """When fewer than `limit` lie within the last `span_ms`."""
        if limit == 0:
            return now_ms + span_ms
        since = (now_ms - span_ms) // MINUTE_MS
        counts = sorted((minute, count) for minute, count in self.minutes.items() if minute > since)
        within = sum(count for _, count in counts)
        for minute, count in counts:
            if within < limit:
                break
            within -= count
            free_ms = minute * MINUTE_MS + span_ms
            if within < limit:
                return free_ms
        return now_ms

    def _forget(self, now_ms: int) -> None:
        since = (now_ms - DAY_MS) // MINUTE_MS
        for minute in [minute for minute in self.minutes if minute <= since]:
            del self.minutes[minute]


AllowancesState = dict[tuple[str, str], Allowance]  # by rule and recipient


class Allowances:
    """A machine: the allowance of every recipient of every rule with a limit."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._allowances: AllowancesState = {}

    def take(
        self, rule_id: str, recipient: str, limits: tuple[int | None, int | None], new: int, now_ms: int
    ) -> str | None:
        """Takes one notification out of the limits (per hour, per day); None: not allowed, and `new` alerts withheld.

        Else what is to be said of the limit, mostly nothing.
        """
        key = rule_id, recipient
        if limits == (None, None):
            self._allowances.pop(key, None)
            return ""
        allowance = self._allowances.setdefault(key, Allowance(*limits))
        allowance.per_hour, allowance.per_day = limits
        if not allowance.take(now_ms):
            allowance.withhold(new, now_ms)
            return None
        notes = [allowance.summary(rule_id, now_ms)]
        if allowance.left(now_ms) == 0:
            notes.append(f"Rule {rule_id} has reached its limit of {allowance.words()}: it is silent for a while.")
        return " ".join(filter(None, notes))

    def free_ms(self, rule_id: str, recipient: str, now_ms: int) -> int:
        """When the next one may be told."""
        allowance = self._allowances.get((rule_id, recipient))
        return now_ms if allowance is None else allowance.free_ms(now_ms)

    def summaries(self, now_ms: int) -> Iterator[tuple[str, str, int, str]]:
        """Of what was withheld where the limit is free again: (rule, recipient, since when, what to say).

        A summary does not count: with a limit of one, nothing else would ever be told.
        """
        for (rule_id, recipient), allowance in self._allowances.items():
            if allowance.withheld and allowance.left(now_ms) != 0:
                yield rule_id, recipient, allowance.withheld_since_ms, allowance.summary(rule_id, now_ms)

    def snapshot(self) -> AllowancesState:
        """All of it."""
        return self._allowances

    def restore(self, state: AllowancesState) -> None:
        """As it was when it was saved."""
        self._allowances = state


class StormCap(msgspec.Struct):
    """How many notifications one recipient was sent within the last minute; what is beyond goes into one summary."""

    sent_ms: list[int] = []

    def take(self, now_ms: int, count_max: int) -> bool:
        """Whether one more may be sent now."""
        self.sent_ms = [ms for ms in self.sent_ms if ms > now_ms - MINUTE_MS]
        if len(self.sent_ms) >= count_max:
            return False
        self.sent_ms.append(now_ms)
        return True


StormsState = dict[str, StormCap]  # by recipient


class Storms:
    """A machine: the cap of every recipient."""

    def __init__(self, count_max: int) -> None:
        """Messages a minute to one recipient."""
        self._count_max = count_max
        self._caps: StormsState = {}

    def take(self, recipient: str, now_ms: int) -> bool:
        """Whether one more may be sent now."""
        return self._caps.setdefault(recipient, StormCap()).take(now_ms, self._count_max)

    def snapshot(self) -> StormsState:
        """All of it."""
        return self._caps

    def restore(self, state: StormsState) -> None:
        """As it was when it was saved."""
        self._caps = state
