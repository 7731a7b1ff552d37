"""Who knows what of which episodes: one group for each recipient and cause, and when each is to be looked at again."""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.core.notifying.notification import Told

STORM = "storm"  # the cause of what was too much for its recipient

GroupKey = tuple[str, str]  # recipient, cause


class AlertGroup(msgspec.Struct):
    """What one recipient knows of the episodes with one cause."""

    recipient: str
    cause: str
    members: dict[str, Told] = {}  # by episode
    due_ms: int = 0  # 0: not
    last_ms: int = 0  # of the last message

    @property
    def is_open(self) -> bool:
        """Whether its recipient knows of something that has not ended."""
        return any(told.is_open for told in self.members.values())


class Groups:
    """All groups. An episode is in one group of each of its recipients."""

    def __init__(self, wait_ms: int, interval_ms: int) -> None:
        """`wait_ms` for what else has the same cause; `interval_ms` between messages, unless it gets worse."""
        self._wait_ms, self.interval_ms = wait_ms, interval_ms
        self._groups: dict[GroupKey, AlertGroup] = {}
        self._member_of: dict[str, dict[str, GroupKey]] = {}  # episode -> recipient -> its group
        self._queue: list[tuple[int, GroupKey]] = []  # an entry that is not its group's due_ms any more is void

    def join(self, recipient: str, cause: str, episode: str) -> None:
        """Puts an episode into its recipient's group, unless it is in one."""
        groups = self._member_of.setdefault(episode, {})
        if recipient not in groups:
            key = groups[recipient] = recipient, cause
            self._groups.setdefault(key, AlertGroup(*key)).members[episode] = Told()

    def has(self, episode: str) -> bool:
        """Whether it is in any group."""
        return episode in self._member_of

    def news(self, episode: str, rank: int, now_ms: int) -> None:
        """It changed: its groups tell of it soon, but not too often, unless it is worse than all that was told."""
        soon_ms = now_ms + self._wait_ms
        for group in self._of(episode):
            worse = rank > max((told.rank for told in group.members.values()), default=-1)
            at_once = not group.last_ms or worse
            self.schedule(group, soon_ms if at_once else max(soon_ms, group.last_ms + self.interval_ms))

    def schedule(self, group: AlertGroup, due_ms: int) -> None:
        """It is looked at then, or earlier."""
        if not group.due_ms or due_ms < group.due_ms:
            group.due_ms = due_ms
            heappush(self._queue, (due_ms, (group.recipient, group.cause)))

    def due(self, now_ms: int) -> Iterable[AlertGroup]:
        """What is to be looked at now. Storms come last, for those before may add to them."""
        storms = []
        while self._queue and self._queue[0][0] <= now_ms:
            due_ms, key = heappop(self._queue)
            group = self._groups.get(key)
            if group is None or group.due_ms != due_ms:
                continue
            if group.cause == STORM:
                storms.append(group)
            else:
                group.due_ms = 0
                yield group  # while it is looked at, a storm may be put into the queue, due now
        for group in storms:
            group.due_ms = 0
            yield group

    def move(self, group: AlertGroup, episodes: Iterable[str], now_ms: int) -> None:
        """Its recipient hears of these in one message about all that was too much."""
        key = group.recipient, STORM
        storm = self._groups.setdefault(key, AlertGroup(*key))
        for episode in episodes:
            storm.members[episode] = group.members.pop(episode)
            self._member_of[episode][group.recipient] = key
        self.schedule(storm, max(now_ms, storm.last_ms + self.interval_ms))

    def wake(self, now_ms: int) -> None:
        """Some who were quiet may not be any more."""
        for group in self._groups.values():
            if any(not told.is_open for told in group.members.values()):
                self.schedule(group, now_ms)

    def drop(self, group: AlertGroup, episode: str) -> bool:
        """Takes an episode out; True: out of its last group."""
        group.members.pop(episode, None)
        groups = self._member_of[episode]
        groups.pop(group.recipient, None)
        if groups:
            return False
        del self._member_of[episode]
        return True

    def forget(self, episode: str) -> None:
        """Takes an episode out of all groups."""
        for group in self._of(episode):
            self.drop(group, episode)

    def retire(self, group: AlertGroup, now_ms: int) -> None:
        """It is empty: kept for a while, or an alert that comes and goes would be told of each time anew."""
        if now_ms - group.last_ms >= self.interval_ms:
            self._groups.pop((group.recipient, group.cause), None)
        else:
            self.schedule(group, group.last_ms + self.interval_ms)

    def snapshot(self) -> list[AlertGroup]:
        """All of them."""
        return list(self._groups.values())

    def restore(self, state: list[AlertGroup]) -> None:
        """As it was when it was saved."""
        self._groups = {(group.recipient, group.cause): group for group in state}
        self._member_of = {}
        for key, group in self._groups.items():
            for episode in group.members:
                self._member_of.setdefault(episode, {})[group.recipient] = key
        self._queue = [(group.due_ms, key) for key, group in self._groups.items() if group.due_ms]
        heapify(self._queue)

    def _of(self, episode: str) -> list[AlertGroup]:
        groups: Mapping[str, GroupKey] = self._member_of.get(episode, {})
        return [self._groups[key] for key in groups.values()]
