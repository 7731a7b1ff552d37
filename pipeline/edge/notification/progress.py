"""What of a notification has arrived already: the next attempt sends the rest.

In memory: after a restart all of it is sent again, as at-least-once has it.
"""

from typing import Generic, TypeVar

from pipeline.core.notifying.notification import Notification

_KEPT_MAX = 10_000  # notifications under way; the oldest are forgotten first

T = TypeVar("T")


class SentSoFar(Generic[T]):
    """One note a notification."""

    def __init__(self, nothing: type[T]) -> None:
        """`nothing()`: of what was not sent yet."""
        self._nothing = nothing
        self._notes: dict[str, T] = {}

    def of(self, notification: Notification) -> T:
        """The note, to be written on."""
        note = self._notes.setdefault(notification.idempotency_key, self._nothing())
        if len(self._notes) > _KEPT_MAX:
            del self._notes[next(iter(self._notes))]
        return note

    def over(self, notification: Notification) -> None:
        """It will not be tried again."""
        self._notes.pop(notification.idempotency_key, None)
