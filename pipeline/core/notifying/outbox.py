"""What was sent and is not confirmed: it is sent again after a restart, with the same idempotency key."""

from pipeline.core.notifying.notification import Notification


class Outbox:
    """A bounded outbox: of more than it holds the oldest are dropped, and counted by its owner."""

    def __init__(self, outbox_max: int) -> None:
        """Empty."""
        self._outbox_max = outbox_max
        self._sent: dict[str, Notification] = {}
        self._again: list[Notification] = []  # after a restart

    def put(self, notification: Notification) -> int:
        """It is on its way; how many were dropped for it."""
        self._sent[notification.idempotency_key] = notification
        dropped = max(0, len(self._sent) - self._outbox_max)
        for key in list(self._sent)[:dropped] if dropped else ():
            del self._sent[key]
        return dropped

    def confirm(self, key: str) -> None:
        """It was delivered or given up."""
        self._sent.pop(key, None)

    def again(self) -> list[Notification]:
        """What was on its way when the process ended, once."""
        again, self._again = self._again, []
        return again

    def snapshot(self) -> list[Notification]:
        """All that is on its way."""
        return list(self._sent.values())

    def restore(self, state: list[Notification]) -> None:
        """As it was when it was saved."""
        self._sent = {one.idempotency_key: one for one in state}
        self._again = list(state)
